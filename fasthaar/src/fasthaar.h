/* The C interface of fasthaar: plain data in, plain data out, no callback, no global state but the chosen target. */
#ifndef FASTHAAR_H
#define FASTHAAR_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FH_API __attribute__((visibility("default")))

enum { FH_HAAR = 0, FH_LBP = 1 };

enum {
    FH_OK = 0,
    FH_INVALID = 1,            /* data or a request that breaks a rule below */
    FH_OUT_OF_MEMORY = 2,
    FH_TOO_MANY_CANDIDATES = 3, /* the budget's candidates */
    FH_TOO_SLOW = 4             /* the budget's time */
};

/* What a detection answers beside the rectangles. */
enum { FH_RECTANGLES = 0, FH_COUNTS = 1, FH_LEVELS = 2 };

/* A cascade as it stands in its file. Arrays are read while loading only.

   stages 1..64, trees at most 20,000, nodes 1..16 per tree, window sides 8..128, every number finite. Features lie
   inside the window. A child > 0 is a node of the same tree behind its parent, a child <= 0 minus the index of one of
   the tree's leaves; a tree has one leaf more than nodes. */
typedef struct {
    int32_t feature_type; /* FH_HAAR or FH_LBP */
    int32_t window_width, window_height;
    int32_t stages, trees, nodes, features;
    const float *stage_thresholds; /* stages; as in the file */
    const int32_t *stage_trees;    /* stages: how many trees each has */
    const int32_t *tree_nodes;     /* trees: how many nodes each has */
    const int32_t *left, *right;   /* nodes */
    const int32_t *feature;        /* nodes */
    const float *threshold;        /* nodes; HAAR */
    const uint32_t *subsets;       /* nodes x 8: the LBP codes that go left; LBP */
    const float *leaves;           /* nodes + trees, tree after tree */
    const int32_t *rects;          /* HAAR: features x 3 x (x, y, width, height); LBP: features x 4, the first cell */
    const float *weights;          /* HAAR: features x 3; a third weight of 0 is no third rectangle */
    const uint8_t *tilted;         /* features; HAAR */
} fh_cascade_data;

typedef struct fh_cascade fh_cascade;

FH_API int fh_load(const fh_cascade_data *data, fh_cascade **out);
FH_API void fh_free(fh_cascade *cascade);

typedef struct {
    const uint8_t *image; /* height rows of width pixels of 1 (grey), 3 (BGR) or 4 (BGRA) bytes */
    int64_t row_stride;   /* bytes from one row to the next; may be negative */
    int32_t width, height, channels;
    int32_t min_neighbors;
    double scale_factor; /* 1.0001 to 1e6: closer to 1 are too many levels */
    int32_t min_width, min_height, max_width, max_height; /* a maximum of 0 is the image's */
    int32_t output;         /* FH_RECTANGLES, FH_COUNTS or FH_LEVELS */
    int32_t threads;        /* 1..64 */
    int64_t max_candidates; /* negative: no limit */
    double max_seconds;     /* negative: no limit */
} fh_request;

typedef struct {
    int32_t count;
    int32_t *rects;   /* count x (x, y, width, height) */
    int32_t *numbers; /* count: neighbours for FH_COUNTS, reject levels for FH_LEVELS, else nothing of use */
    double *weights;  /* count: level weights for FH_LEVELS, else nothing of use */
} fh_result;

/* Joins candidates, as fh_detect does with those that it finds: in place, `left` are left over. `numbers`, where it is
   not NULL, becomes how many candidates each has; with `weights` it is a level, 1 or more, which stays, and a weight is
   the largest of those on the highest level. Coordinates are up to a million from 0. */
FH_API int fh_group(int32_t *rects, int32_t *numbers, double *weights, int32_t count, int32_t min_neighbors,
                    int32_t *left);

/* May be called by many threads at once with the same cascade. On FH_OK the result is freed with fh_release. */
FH_API int fh_detect(const fh_cascade *cascade, const fh_request *request, fh_result *result);
FH_API void fh_release(fh_result *result);

/* For training: samples of a cascade's window, and what features are worth for telling them apart. */

typedef struct {
    int32_t feature_type; /* FH_HAAR or FH_LBP */
    int32_t window_width, window_height;
    int32_t samples, features, threads; /* 1 to a million; 1 or more; 1..64 */
    int64_t cache_bytes;                /* how much memory what was computed may take, beside 4 to 12 bytes a pixel */
    const uint8_t *pixels;              /* samples x height x width, grey; read by fh_samples_load only */
    const int32_t *rects;               /* these three as in fh_cascade_data; read until fh_samples_free */
    const float *weights;
    const uint8_t *tilted;
} fh_samples_data;

typedef struct fh_samples fh_samples;

FH_API int fh_samples_load(const fh_samples_data *data, fh_samples **out);
FH_API void fh_samples_free(fh_samples *samples);
/* 1 for each sample that has enough contrast for the detector to look at it; all 1 for LBP. */
FH_API void fh_samples_contrast(const fh_samples *samples, uint8_t *out);
/* A feature in every sample: what the detector compares with a node's threshold, or the LBP code. */
FH_API int fh_samples_values(const fh_samples *samples, int32_t feature, float *out);

/* How good a split is: the squares of both sides' sums of weighted targets, each divided by its weight, or absolutes. */
enum { FH_SQUARES = 0, FH_ABSOLUTES = 1 };

typedef struct {
    int32_t criterion;          /* FH_SQUARES or FH_ABSOLUTES */
    int32_t count, candidates;  /* of samples and features to look at, 1 or more each */
    const int32_t *indices;     /* count: which samples, ascending */
    const double *weights;      /* count: above 0 */
    const double *targets;      /* count: weight x target */
    const int32_t *features;    /* candidates: which features, ascending; NULL: all */
} fh_split_request;

typedef struct {
    int32_t feature;     /* -1 where no feature tells the samples apart */
    float threshold;     /* HAAR: smaller values go left */
    uint32_t subset[8];  /* LBP: these codes go left */
    double gain;
} fh_split;

/* The best split; the same for any number of threads. Not for several threads at once with the same samples. */
FH_API int fh_samples_split(fh_samples *samples, const fh_split_request *request, fh_split *out);

/* A grey image in another size, as the detector makes its levels. */
FH_API int fh_resize(const uint8_t *image, int64_t row_stride, int32_t width, int32_t height, uint8_t *out,
                     int32_t out_width, int32_t out_height);

/* The vector targets that this machine can run, best first, separated by spaces. */
FH_API const char *fh_targets(void);
/* Use one of them from now on, for all threads; FH_INVALID when it is none of them. */
FH_API int fh_use_target(const char *name);

#ifdef __cplusplus
}
#endif

#endif
