// Joining the windows that saw the same object: OpenCV's groupRectangles with its eps of 0.2.
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cascade.h"

namespace fh {
namespace {

const double EPS = 0.2;
const int LOOK_AT_CLOCK_EVERY = 256;  // rectangles

struct Class {
    int32_t sum[4], rect[4];
    int32_t neighbors, level;
    double weight;
};

bool similar(const int32_t *a, const int32_t *b) {
    const int width = a[2] < b[2] ? a[2] : b[2], height = a[3] < b[3] ? a[3] : b[3];
    const double delta = EPS * (width + height) * 0.5;
    return abs(a[0] - b[0]) <= delta && abs(a[1] - b[1]) <= delta && abs(a[0] + a[2] - b[0] - b[2]) <= delta &&
           abs(a[1] + a[3] - b[1] - b[3]) <= delta;
}

int32_t root_of(int32_t *parents, int32_t i) {
    while (parents[i] != i) i = parents[i] = parents[parents[i]];
    return i;
}

struct Place {
    int32_t x, index;
};

int compare_places(const void *a, const void *b) {
    const Place *p = static_cast<const Place *>(a), *q = static_cast<const Place *>(b);
    return p->x != q->x ? (p->x < q->x ? -1 : 1) : p->index - q->index;
}

// Connected components of similarity, numbered in the order in which their first member stands; -1: the run ended.
int32_t label(Run &run, const int32_t (*rects)[4], int32_t count, int32_t *parents, int32_t *labels, Place *places) {
    for (int32_t i = 0; i < count; i++) {
        parents[i] = i;
        places[i] = {rects[i][0], i};
    }
    qsort(places, count, sizeof *places, compare_places);
    for (int32_t i = 0; i < count; i++) {
        if (i % LOOK_AT_CLOCK_EVERY == 0 && !go_on(run)) return -1;
        const int32_t *a = rects[places[i].index];
        const double reach = places[i].x + EPS * (double(a[2]) + a[3]) * 0.5;  // nobody further right is similar
        for (int32_t j = i + 1; j < count && places[j].x <= reach; j++)
            if (similar(a, rects[places[j].index])) {
                const int32_t p = root_of(parents, places[i].index), q = root_of(parents, places[j].index);
                parents[p > q ? p : q] = p > q ? q : p;
            }
    }
    int32_t classes = 0;
    for (int32_t i = 0; i < count; i++) {
        const int32_t root = root_of(parents, i);  // the smallest index of its component
        labels[i] = root == i ? classes++ : labels[root];
    }
    return classes;
}

int32_t rounded(float value) { return static_cast<int32_t>(lrintf(value)); }

void add_member(Class &to, const int32_t *rect, const int32_t *level, const double *weight) {
    for (int k = 0; k < 4; k++) to.sum[k] = int32_t(uint32_t(to.sum[k]) + uint32_t(rect[k]));  // may wrap, as OpenCV's
    to.neighbors++;
    if (!weight) return;
    if (*level > to.level) {
        to.level = *level;
        to.weight = *weight;
    } else if (*level == to.level && *weight > to.weight) {
        to.weight = *weight;
    }
}

bool inside_better(const Class &one, const Class &other) {
    const int32_t *a = one.rect, *b = other.rect;
    const int32_t dx = static_cast<int32_t>(lrint(b[2] * EPS)), dy = static_cast<int32_t>(lrint(b[3] * EPS));
    const int32_t neighbors = one.neighbors;
    return a[0] >= b[0] - dx && a[1] >= b[1] - dy && a[0] + a[2] <= b[0] + b[2] + dx &&
           a[1] + a[3] <= b[1] + b[3] + dy && (other.neighbors > (neighbors > 3 ? neighbors : 3) || neighbors < 3);
}

// Keeps the classes that are strong enough and not part of a stronger one; -1: the run ended.
int32_t select(Run &run, const Class *classes, int32_t count, int32_t min_neighbors, int32_t (*rects)[4],
               int32_t *numbers, double *weights) {
    int32_t kept = 0;
    for (int32_t i = 0; i < count; i++) {
        if (i % LOOK_AT_CLOCK_EVERY == 0 && !go_on(run)) return -1;
        if (classes[i].neighbors <= min_neighbors) continue;
        bool part = false;
        for (int32_t j = 0; j < count && !part; j++)
            part = j != i && classes[j].neighbors > min_neighbors && inside_better(classes[i], classes[j]);
        if (part) continue;
        memcpy(rects[kept], classes[i].rect, sizeof rects[kept]);
        if (numbers) numbers[kept] = weights ? classes[i].level : classes[i].neighbors;
        if (weights) weights[kept] = classes[i].weight;
        kept++;
    }
    return kept;
}

}  // namespace

int32_t group(Run &run, int32_t (*rects)[4], int32_t *numbers, double *weights, int32_t count, int32_t min_neighbors) {
    if (min_neighbors <= 0 || count == 0) {
        if (numbers && !weights)
            for (int32_t i = 0; i < count; i++) numbers[i] = 1;
        return count;
    }
    int32_t *const labels = static_cast<int32_t *>(malloc(size_t(count) * 2 * sizeof *labels));
    Place *const places = static_cast<Place *>(malloc(size_t(count) * sizeof *places));
    int32_t kept = -1, classes = -1;
    if (labels && places) classes = label(run, rects, count, labels + count, labels, places);
    Class *const all = classes < 0 ? nullptr : static_cast<Class *>(calloc(classes, sizeof *all));
    if (all) {
        for (int32_t i = 0; i < classes; i++) all[i].weight = DBL_MIN;
        for (int32_t i = 0; i < count; i++)
            add_member(all[labels[i]], rects[i], numbers ? numbers + i : nullptr, weights ? weights + i : nullptr);
        for (int32_t i = 0; i < classes; i++) {
            const float share = 1.f / all[i].neighbors;
            for (int k = 0; k < 4; k++) all[i].rect[k] = rounded(all[i].sum[k] * share);
        }
        kept = select(run, all, classes, min_neighbors, rects, numbers, weights);
    } else if (classes >= 0 || !labels || !places) {
        stop(run, FH_OUT_OF_MEMORY);
    }
    free(all);
    free(places);
    free(labels);
    return kept;
}

}  // namespace fh

int fh_group(int32_t *rects, int32_t *numbers, double *weights, int32_t count, int32_t min_neighbors, int32_t *left) {
    const int32_t most = 1000000;
    if (count < 0 || (weights && !numbers)) return FH_INVALID;
    for (int64_t i = 0; i < int64_t(count) * 4; i++)
        if (rects[i] > most || rects[i] < (i % 4 < 2 ? -most : 0)) return FH_INVALID;
    fh::Run run = {};
    run.deadline = -1;
    *left = fh::group(run, reinterpret_cast<int32_t(*)[4]>(rects), numbers, weights, count, min_neighbors);
    return run.status;
}
