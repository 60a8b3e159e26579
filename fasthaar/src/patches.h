// Windows that were put aside because few of their neighbours are left: taken together again, one in each lane.
//
// The integral images of as many windows as there are lanes are copied so that the lanes lie side by side. Copying a
// window costs about as much as evaluating a few dozen nodes for a vector, so it pays where many nodes are to come.
#pragma once

#include <stdlib.h>

#include "stages.h"

namespace fh {
namespace {

// The cost of copying an entry of a window, in nodes evaluated for a vector.
const double COPY_COST = 0.05;

// A window that was put aside.
struct Aside {
    const int32_t *origin;  // in the band
    float norm;
    int32_t x, y;   // in the level
    int32_t stage;  // the next to be passed
    int32_t next;   // in the list of its stage, -1 at the end
};

// As many of them as there are lanes, or fewer.
struct Group {
    Aside windows[LANES];
    const int32_t *origins[LANES];
    float norms[LANES];
    int32_t stage;
};

struct Patches {
    Aside *windows;
    int32_t count, capacity;
    int32_t *first;       // of each stage's list, -1 for none
    int32_t stage;        // the lists of earlier ones are empty
    int32_t *memory;      // the windows of a group: [tilted][row][column][lane]
    Geometry geometry;
    StageEntries *entries;
    void *entry_memory;
    int32_t *few;         // for each stage, how many windows of a vector are better put aside before it
};

inline bool patches_create(Patches &patches, const fh_cascade &c) {
    const int32_t columns = c.window_width + 1, points = columns * (c.window_height + 1), planes = c.tilted ? 2 : 1;
    patches.geometry = {columns * LANES, {{0, 0}, {points * LANES, points * LANES}}, 0, LANES};
    const size_t size = size_t(points) * planes * LANES * sizeof(int32_t);
    patches.memory = static_cast<int32_t *>(aligned_alloc(64, size / 64 * 64 + 64));
    patches.first = static_cast<int32_t *>(malloc(c.stage_count * sizeof *patches.first));
    patches.few = static_cast<int32_t *>(malloc(c.stage_count * sizeof *patches.few));
    if (!entries_create(c, patches.entries, patches.entry_memory)) return false;
    if (!patches.memory || !patches.first || !patches.few) return false;
    for (int s = 0; s < c.stage_count; s++) {
        patches.first[s] = -1;
        const double nodes = c.stages[s].expected, copy = COPY_COST * points * planes;
        patches.few[s] = static_cast<int32_t>(nodes / (copy + nodes / LANES));
        if (patches.few[s] > LANES / 2) patches.few[s] = LANES / 2;
    }
    return true;
}

inline void patches_free(Patches &patches) {
    free(patches.windows);
    free(patches.memory);
    free(patches.first);
    free(patches.few);
    free(patches.entries);
    free(patches.entry_memory);
}

inline bool patches_add(Run &run, Patches &patches, const Aside &window) {
    if (patches.count == patches.capacity) {
        const int32_t capacity = patches.capacity ? 2 * patches.capacity : 1024;
        void *const larger = realloc(patches.windows, capacity * sizeof(Aside));
        if (!larger) {
            stop(run, FH_OUT_OF_MEMORY);
            return false;
        }
        patches.windows = static_cast<Aside *>(larger);
        patches.capacity = capacity;
    }
    patches.windows[patches.count] = window;
    patches.windows[patches.count].next = patches.first[window.stage];
    patches.first[window.stage] = patches.count++;
    return true;
}

// `count` neighbouring entries of each window, to every `apart`-th column of a group's row.
inline void copy_columns(const Group &group, int32_t offset, int32_t count, int32_t *to, int32_t apart) {
    for (int32_t first = 0; first < count; first += 4) {
        Ints columns[4];
        four_columns(group.origins, offset + first, columns);
        for (int32_t k = 0; k < 4 && first + k < count; k++) store(to + (first + k) * apart * LANES, columns[k]);
    }
}

// The next windows, those with the same stage together, copied to patches.memory; 0 when none are left.
inline int patches_take(Patches &patches, const fh_cascade &c, const Geometry &from, Group &group) {
    int count = 0;
    for (; count < LANES && patches.stage < c.stage_count; count++) {
        while (patches.stage < c.stage_count && patches.first[patches.stage] < 0) patches.stage++;
        if (patches.stage == c.stage_count) break;
        group.windows[count] = patches.windows[patches.first[patches.stage]];
        patches.first[patches.stage] = group.windows[count].next;
    }
    if (!count) {
        patches.count = patches.stage = 0;
        return 0;
    }
    for (int lane = count; lane < LANES; lane++) group.windows[lane] = group.windows[0];
    for (int lane = 0; lane < LANES; lane++) {
        group.origins[lane] = group.windows[lane].origin;
        group.norms[lane] = group.windows[lane].norm;
    }
    group.stage = group.windows[0].stage;
    const int32_t columns = c.window_width + 1;
    for (int tilted = 0; tilted <= c.tilted; tilted++)
        for (int32_t row = 0; row <= c.window_height; row++) {
            int32_t *const to = patches.memory + patches.geometry.plane[tilted][0] + row * patches.geometry.row;
            const int32_t offset = row * from.row;
            if (from.shift) {
                copy_columns(group, offset + from.plane[tilted][0], (columns + 1) / 2, to, 2);
                copy_columns(group, offset + from.plane[tilted][1], columns / 2, to + LANES, 2);
            } else {
                copy_columns(group, offset + from.plane[tilted][0], columns, to, 1);
            }
        }
    return count;
}

}  // namespace
}  // namespace fh
