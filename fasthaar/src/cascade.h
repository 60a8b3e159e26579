// The compiled form of a cascade, and what kernels and the detection loop share.
//
// No function here has external linkage and a body: kernels are compiled for different instruction sets, and the linker
// must not pick one target's copy for another.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "fasthaar.h"

namespace fh {

struct Corner {
    int16_t x, y;  // in the window's integral image
};

// How the sums of a node's rectangles are formed from loads of the integral images. All values of the first four are
// whole numbers that floats hold.
enum Kind : uint8_t {
    EDGE,       // two rectangles that share two corners, weights -1 and 2: 6 loads
    PAIR,       // two rectangles, the first with weight -1: 8 loads
    CHECK,      // a rectangle and two opposite quarters of it, top left and bottom right, weights -1, 2, 2: 9 loads
    ANTICHECK,  // the same, top right and bottom left
    ANY,        // three rectangles with any weights: 12 loads
    CELLS,      // LBP: 3x3 cells, 16 loads
    KINDS
};

struct Node {
    Corner corners[16];  // HAAR: 3 rectangles of (+, -, -, +); LBP: 4 rows of 4
    uint8_t order[16];   // the corners in the order in which the kind's kernel loads them
    float weights[3];
    float threshold;
    uint32_t subset[8];
    int32_t left, right;  // > 0: a node of the tree; else minus a leaf of the tree
    Kind kind;
    bool tilted;
};

struct Tree {
    int32_t first_node, nodes, first_leaf;
};

// Kernels add leaves as integers of one scale for a stage. A sum below `fails` surely fails, one of at least `passes`
// surely passes; between them the sum of the exact leaves in the file's order decides.
struct Stage {
    int32_t first_tree, trees;
    int32_t first_node, nodes;
    float threshold;  // with OpenCV's allowance of 1e-5
    int32_t passes, fails;
    int32_t expected;  // nodes that a window which got here is likely to meet, this stage included
};

}  // namespace fh

struct fh_cascade {
    int32_t window_width, window_height;
    int32_t stage_count, tree_count, node_count;
    bool lbp, stumps, tilted;
    int32_t entry_bytes;  // of the widest kind of its nodes
    fh::Stage *stages;
    fh::Tree *trees;
    fh::Node *nodes;
    float *leaves;
    int32_t *fixed_leaves;  // leaves in the stage's integer scale; of stumps the first is left - right, the second 0
};

namespace fh {

// Where the integral value of a corner lies, counted from a window's origin.
struct Geometry {
    int32_t row;           // from one row to the next
    int32_t plane[2][2];   // [tilted][odd column]
    int32_t shift, unit;   // shift 1: even and odd columns lie apart; unit: from one column to the next
};

static inline int32_t offset(const Geometry &g, Corner c, bool tilted) {
    return c.y * g.row + g.plane[tilted][c.x & g.shift] + (c.x >> g.shift) * g.unit;
}

// A node as kernels read it, for one geometry. What most kinds need fills one cache line, and entries of these kinds
// stand 64 bytes apart; the others take two lines.
struct Entry {
    float threshold;
    float weights[2];               // of the second and the third rectangle
    int32_t left_leaf, right_leaf;  // fixed, 0 for a child that is a node
    int8_t left, right;             // nodes of the tree, -1 for a child that is a leaf
    uint8_t kind;
    int32_t offsets[16];
    uint32_t subset[8];
    float whole_weight;  // of the first rectangle
};
static_assert(offsetof(Entry, offsets) + 9 * sizeof(int32_t) <= 64 && sizeof(Entry) <= 128, "");

static inline int32_t entry_bytes(int kind) { return kind < ANY ? 64 : 128; }

// The entries of a stage: stumps sorted by kind, with how many there are of each; trees in order.
struct StageEntries {
    Entry *entries;
    int32_t counts[KINDS];
    bool built;
};

// Room for the entries of all stages, none of them built; false without memory. Both are freed with free.
bool entries_create(const fh_cascade &cascade, StageEntries *&stages, void *&memory);
void build_entries(const fh_cascade &cascade, int stage, const Geometry &geometry, StageEntries &out);

// The sum of a stage in double precision, in the order of the file, as OpenCV forms it.
double exact_sum(const fh_cascade &cascade, int stage, const int32_t *window, const Geometry &geometry, float norm);

// An accepted window, in pixels of its level.
struct Hit {
    int32_t x, y;
    double weight;  // the sum of the last stage; only formed for FH_LEVELS
};

struct Hits {
    Hit *data;
    int32_t count, capacity;
};

// One step of the pyramid.
struct Level {
    float scale;
    int32_t width, height;     // of the scaled image
    int32_t columns, rows;     // of windows
    int32_t step;              // between windows, in both directions
};

// What all threads of one detection share.
struct Run {
    const fh_cascade *cascade;
    const uint8_t *image;  // grey
    int64_t row_stride;
    int32_t width, height;
    bool want_weights;
    int64_t max_candidates;
    double deadline;  // of the monotonic clock, seconds; negative: none
    int64_t candidates;  // atomic
    int32_t status;      // atomic; the first that is not FH_OK ends the run
};

// Rows of windows of one level: the unit that threads take.
struct Task {
    int32_t level;
    int32_t first_row, last_row;  // of windows, the last exclusive
    Hits hits;
};

// How a line of the source becomes a line of a level: OpenCV's INTER_LINEAR_EXACT, in 1/256.
struct Taps {
    int32_t *index;   // the first of two neighbours
    int16_t (*weights)[2];
    // Where any four consecutive taps lie within eight entries: for each four, which of the 16 bytes from `index` on.
    uint8_t (*shuffle)[16];
    bool near;
};

// Notes an accepted window; false when the run has to end.
bool add_hit(Run &run, Hits &hits, int32_t x, int32_t y, double weight);
// Whether to go on; looks at the clock.
bool go_on(Run &run);
void stop(Run &run, int status);

bool taps_create(Taps &taps, int32_t size, int32_t scaled_size);
void taps_free(Taps &taps);

// A vector target. `work` keeps a thread's buffers between tasks.
struct Kernel {
    const char *name;
    bool (*supported)();
    void *(*work_create)(Run &run, const Level *levels, int32_t level_count);
    void (*work_free)(void *work);
    void (*detect)(Run &run, const Level &level, Task &task, void *work);
};

// Joins similar rectangles as OpenCV's groupRectangles does with eps 0.2; numbers and weights may be NULL.
// Returns how many are left, or -1 when there is no memory or the run has to end.
int32_t group(Run &run, int32_t (*rects)[4], int32_t *numbers, double *weights, int32_t count, int32_t min_neighbors);

}  // namespace fh
