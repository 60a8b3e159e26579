// What training's sources share: samples as integral images, and rows of what features are worth in each of them.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "fasthaar.h"

struct fh_samples {
    int32_t width, height, count, stride;  // stride: count, rounded up, so that rows are aligned
    bool lbp;
    int32_t features, threads;
    const int32_t *rects;
    const float *weights;
    const uint8_t *tilted_flags;
    // Corner after corner of the window's integral image, (width + 1) x (height + 1), each for all samples: a feature
    // in all samples is a sum of rows.
    int32_t *sum, *tilted;
    float *norm;        // what the detector multiplies with; 0 without enough contrast
    uint8_t *bins;      // of the first `cached` features: a row for each, with the bin of every sample
    uint8_t *has_bins;  // for each of these: whether its row is filled
    int32_t cached;
};

namespace fh {

// HAAR features: more bins rank features no better, as the best ones' thresholds are found among exact values.
const int HAAR_BINS = 128, LBP_BINS = 256;
const int MOST_THREADS = 64;

// The feature in every sample: HAAR in `values`, LBP in `codes`.
void haar_values(const fh_samples &s, int32_t feature, float *values);
void lbp_codes(const fh_samples &s, int32_t feature, uint8_t *codes);
// The same in bins, which keep the order of HAAR features' values; `values` is room for `stride` floats.
void fill_bins(const fh_samples &s, int32_t feature, float *values, uint8_t *bins);

// Calls work(argument, part) for every part from 0 on, each in one of the threads.
void in_threads(int32_t threads, int32_t parts, void (*work)(void *, int32_t), void *argument);

}  // namespace fh
