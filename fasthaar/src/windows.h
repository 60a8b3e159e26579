// The windows of a level, row by row.
//
// The first stage looks at every window of a row. Then a vector of neighbours goes through the stages until none or so
// few of its windows are left that they are better put together with others: see patches.h.
#pragma once

#include "band.h"
#include "patches.h"
#include "stages.h"

namespace fh {
namespace {

const int FIRST_VECTORS = 2;  // looked at together by the first stage, which shares what it reads of the cascade
const int FIRST_LANES = FIRST_VECTORS * LANES;
const int STRIP = 128;  // columns of windows

struct Work {
    Layout layouts[2];  // by shift
    Band band;
    StageEntries *entries[2];
    void *entry_memory[2];
    Patches patches;
    uint8_t *skip;                 // for each row of windows of the band, whether the next one is skipped
    // Of a strip of a row of windows: norms, and a bit for each that passed or failed the first stage.
    float norms[STRIP + FIRST_LANES];
    uint64_t passed[STRIP / 64 + 1], failed[STRIP / 64 + 1];
};

// Columns of a band's windows that are looked at together, row after row.
struct Strip {
    int32_t first, columns;
    int32_t first_row;  // of the band's windows
};

inline void work_free(void *memory) {
    Work *const work = static_cast<Work *>(memory);
    band_free(work->band);
    for (int shift = 0; shift < 2; shift++) {
        free(work->entries[shift]);
        free(work->entry_memory[shift]);
    }
    free(work->skip);
    patches_free(work->patches);
    free(work);
}

inline void *work_create(Run &run, const Level *levels, int32_t level_count) {
    Work *const work = static_cast<Work *>(calloc(1, sizeof(Work)));
    if (!work) return nullptr;
    int32_t size[2][2] = {};
    for (int32_t i = 0; i < level_count; i++) {
        int32_t *const largest = size[levels[i].step - 1];
        if (levels[i].width > largest[0]) largest[0] = levels[i].width;
        if (levels[i].height > largest[1]) largest[1] = levels[i].height;
    }
    bool ready = true;
    for (int shift = 0; shift < 2; shift++)
        if (size[shift][0]) {
            work->layouts[shift] = layout_create(*run.cascade, size[shift][0], size[shift][1], shift);
            ready = ready && entries_create(*run.cascade, work->entries[shift], work->entry_memory[shift]);
        }
    const int32_t rows = work->layouts[0].capacity > work->layouts[1].capacity ? work->layouts[0].capacity
                                                                               : work->layouts[1].capacity;
    work->skip = static_cast<uint8_t *>(malloc(rows));
    const int32_t width = size[0][0] > size[1][0] ? size[0][0] : size[1][0];
    ready = ready && work->skip && band_create(work->band, run, work->layouts, width) &&
            patches_create(work->patches, *run.cascade);
    if (ready) return work;
    work_free(work);
    return nullptr;
}

// What one task needs to know at every window.
struct View {
    Run &run;
    const fh_cascade &cascade;
    const Level &level;
    Task &task;
    Work &work;
    const Layout &layout;
    StageEntries *entries;
    float norm_limit;  // a window has contrast when its norm is below
    double norm_area;
};

inline const StageEntries &entries_of(const fh_cascade &c, StageEntries *entries, int stage, const Geometry &geometry) {
    if (!entries[stage].built) build_entries(c, stage, geometry, entries[stage]);
    return entries[stage];
}

// Sums within a rectangle that is inset by one pixel, of a vector of windows.
INLINE Ints inner_sum(const View &view, const int32_t *row, const int32_t (&plane)[2]) {
    const Geometry &g = view.layout.geometry;
    const int32_t w = view.cascade.window_width - 1, h = view.cascade.window_height - 1;
    const int32_t left = plane[1 & g.shift] + (1 >> g.shift), right = plane[w & g.shift] + (w >> g.shift);
    const int32_t *const top = row + g.row, *const bottom = row + h * g.row;
    return load(top + left) - load(top + right) - load(bottom + left) + load(bottom + right);
}

// The lanes of `unsure` that pass the stage after all.
inline __attribute__((noinline)) uint32_t decide_exactly(const fh_cascade &c, int stage, uint32_t unsure,
                                                         const int32_t *windows, const Geometry &g,
                                                         const float *norms) {
    uint32_t passed = 0;
    for (; unsure; unsure &= unsure - 1) {
        const int lane = __builtin_ctz(unsure);
        if (!(exact_sum(c, stage, windows + lane, g, norms[lane]) < c.stages[stage].threshold)) passed |= 1u << lane;
    }
    return passed;
}

// Which of the lanes pass a stage, given its sums.
INLINE uint32_t passing(const fh_cascade &c, int stage, Ints sum, uint32_t lanes, const int32_t *windows,
                        const Geometry &g, const float *norms) {
    const Stage &s = c.stages[stage];
    const uint32_t passed = bits(at_least(sum, Ints{} + s.passes)) & lanes;
    const uint32_t unsure = bits(at_least(sum, Ints{} + s.fails)) & lanes & ~passed;
    return __builtin_expect(unsure != 0, 0) ? passed | decide_exactly(c, stage, unsure, windows, g, norms) : passed;
}

// The first stage for a strip of a row: fills norms, passed and failed.
inline void first_stage(const View &view, const int32_t *row, int32_t columns) {
    const fh_cascade &c = view.cascade;
    Work &work = view.work;
    memset(work.passed, 0, sizeof work.passed);
    memset(work.failed, 0, sizeof work.failed);
    const StageEntries &entries = entries_of(c, view.entries, 0, view.layout.geometry);
    for (int32_t i = 0; i < columns; i += FIRST_LANES) {
        Vectors<FIRST_VECTORS> vectors;
        uint32_t lanes[FIRST_VECTORS], any = 0;
        for (int v = 0; v < FIRST_VECTORS; v++) {
            const int32_t at = i + v * LANES, left = columns - at;
            lanes[v] = left >= LANES ? (1u << LANES) - 1 : left > 0 ? (1u << left) - 1 : 0;
            vectors.windows[v] = row + at;
            vectors.norm[v] = Floats{};
            if (!c.lbp) {
                vectors.norm[v] = inverse_deviation(inner_sum(view, row + at, view.layout.geometry.plane[0]),
                                                    inner_sum(view, row + at, view.layout.square), view.norm_area);
                lanes[v] &= bits(less(vectors.norm[v], splat(view.norm_limit)));
            }
            *reinterpret_cast<UnalignedFloats *>(work.norms + at) = vectors.norm[v];
            any |= lanes[v];
        }
        if (!any) continue;
        stage_sums(c, 0, entries, vectors);
        for (int v = 0; v < FIRST_VECTORS; v++) {
            const int32_t at = i + v * LANES;
            const uint64_t passed =
                passing(c, 0, vectors.sum[v], lanes[v], row + at, view.layout.geometry, work.norms + at);
            work.passed[at / 64] |= passed << (at % 64);
            work.failed[at / 64] |= (lanes[v] & ~passed) << (at % 64);
        }
    }
}

// Takes from a word of passed windows those that OpenCV does not look at: after one that fails the first stage it skips
// the next. So in a run of failures every second one is skipped, beginning behind the first, and the one behind the run
// is when the run's last one is looked at.
INLINE uint64_t looked_at(uint64_t passed, uint64_t failed, uint8_t &skip) {
    const uint64_t even = 0x5555555555555555;
    failed &= ~uint64_t(skip);
    const uint64_t even_starts = failed & ~(failed << 1) & even;
    const uint64_t even_runs = failed & ~(failed + even_starts);  // the carry clears a run
    const uint64_t looked = (even_runs & even) | (failed & ~even_runs & ~even);
    const uint64_t skipped = looked << 1 | skip;
    skip = uint8_t(looked >> 63);
    return passed & ~skipped;
}

inline bool accept(const View &view, int32_t x, int32_t y, const int32_t *window, const Geometry &g, float norm) {
    const double weight =
        view.run.want_weights ? exact_sum(view.cascade, view.cascade.stage_count - 1, window, g, norm) : 0;
    return add_hit(view.run, view.task.hits, x, y, weight);
}

// The windows of a word of a strip that are left, and the vectors that cover them: each begins at a window.
struct Alive {
    int32_t first;     // column of bit 0, in the strip
    uint64_t windows;  // a bit each
    int32_t count;
    int32_t column[64 / LANES];
    uint32_t lanes[64 / LANES];
};

// Takes vectors i to i + V through a stage.
template <int V>
INLINE void pass_stage(const View &view, int stage, const StageEntries &entries, const int32_t *row, Alive &alive,
                       int i) {
    const Geometry &g = view.layout.geometry;
    Vectors<V> vectors;
    for (int v = 0; v < V; v++) {
        vectors.windows[v] = row + alive.column[i + v];
        vectors.norm[v] = *reinterpret_cast<const UnalignedFloats *>(view.work.norms + alive.column[i + v]);
    }
    stage_sums(view.cascade, stage, entries, vectors);
    for (int v = 0; v < V; v++) {
        const int32_t column = alive.column[i + v];
        const uint64_t passed = passing(view.cascade, stage, vectors.sum[v], alive.lanes[i + v], vectors.windows[v], g,
                                        view.work.norms + column);
        alive.windows |= passed << (column - alive.first);
    }
}

// Covers the windows that are left with vectors. Those of vectors that would have few are put aside.
inline bool cover(const View &view, const Strip &strip, int stage, const int32_t *row, int32_t y, Alive &alive) {
    alive.count = 0;
    while (alive.windows) {
        const int first = __builtin_ctzll(alive.windows);
        uint32_t lanes = uint32_t(alive.windows >> first) & ((1u << LANES) - 1);
        alive.windows &= ~(uint64_t(lanes) << first);
        const int32_t column = alive.first + first;
        if (__builtin_popcount(lanes) > view.work.patches.few[stage]) {
            alive.column[alive.count] = column;
            alive.lanes[alive.count++] = lanes;
            continue;
        }
        for (; lanes; lanes &= lanes - 1) {
            const int32_t at = column + __builtin_ctz(lanes);
            const Aside window = {row + at, view.work.norms[at], (strip.first + at) * view.level.step, y, stage, -1};
            if (!patches_add(view.run, view.work.patches, window)) return false;
        }
    }
    return true;
}

// Takes windows of a strip of a row through the stages behind the first.
inline bool later_stages(const View &view, const Strip &strip, const int32_t *row, int32_t y, Alive &alive) {
    const fh_cascade &c = view.cascade;
    for (int s = 1; s < c.stage_count; s++) {
        if (!cover(view, strip, s, row, y, alive)) return false;
        if (!alive.count) return true;
        const StageEntries &entries = entries_of(c, view.entries, s, view.layout.geometry);
        int i = 0;
        for (; i + 2 <= alive.count; i += 2) pass_stage<2>(view, s, entries, row, alive, i);
        if (i < alive.count) pass_stage<1>(view, s, entries, row, alive, i);
    }
    for (; alive.windows; alive.windows &= alive.windows - 1) {
        const int32_t column = alive.first + __builtin_ctzll(alive.windows);
        if (!accept(view, (strip.first + column) * view.level.step, y, row + column, view.layout.geometry,
                    view.work.norms[column]))
            return false;
    }
    return true;
}

inline bool look_at_row(const View &view, const Strip &strip, int32_t r) {
    Work &work = view.work;
    const int32_t y = r * view.level.step;
    const int32_t *const row = band_row(work.band, y - work.band.top) + strip.first;
    first_stage(view, row, strip.columns);
    uint8_t &skip = work.skip[r - strip.first_row];
    if (strip.first == 0) skip = 0;
    for (int32_t w = 0; 64 * w < strip.columns; w++) {
        Alive alive = {};
        alive.first = 64 * w;
        alive.windows = looked_at(work.passed[w], work.failed[w], skip);
        if (alive.windows && !later_stages(view, strip, row, y, alive)) return false;
    }
    return true;
}

// Takes the windows that were put aside through their remaining stages.
inline bool look_at_patches(const View &view) {
    Patches &patches = view.work.patches;
    const fh_cascade &c = view.cascade;
    for (;;) {
        Group group;
        const int count = patches_take(patches, c, view.layout.geometry, group);
        if (!count) return true;
        if (!go_on(view.run)) return false;
        Vectors<1> vector;
        vector.windows[0] = patches.memory;
        vector.norm[0] = *reinterpret_cast<const UnalignedFloats *>(group.norms);
        uint32_t lanes = (1u << count) - 1;
        for (int s = group.stage; lanes && s < c.stage_count; s++) {
            stage_sums(c, s, entries_of(c, patches.entries, s, patches.geometry), vector);
            lanes = passing(c, s, vector.sum[0], lanes, patches.memory, patches.geometry, group.norms);
        }
        for (; lanes; lanes &= lanes - 1) {
            const int lane = __builtin_ctz(lanes);
            const Aside &window = group.windows[lane];
            if (!accept(view, window.x, window.y, patches.memory + lane, patches.geometry, group.norms[lane]))
                return false;
        }
    }
}

// The largest float whose product with the area is below 0.1, and the next: norms below it have contrast.
inline float norm_limit(double area) {
    float limit = static_cast<float>(0.1 / area);
    while (area * limit < 1e-1) limit = __builtin_nextafterf(limit, 1);
    while (!(area * __builtin_nextafterf(limit, 0) < 1e-1)) limit = __builtin_nextafterf(limit, 0);
    return limit;
}

// Looks at rows of windows that the band holds, strip by strip: what a strip reads stays in the nearest cache.
inline bool look_at_rows(const View &view, int32_t first_row, int32_t last_row) {
    const int32_t width = view.cascade.tilted ? 64 : STRIP;
    Strip strip = {0, 0, first_row};
    for (; strip.first < view.level.columns; strip.first += width) {
        const int32_t left = view.level.columns - strip.first;
        strip.columns = left < width ? left : width;
        for (int32_t r = first_row; r < last_row; r++)
            if (!go_on(view.run) || !look_at_row(view, strip, r)) return false;
    }
    return true;
}

inline void detect(Run &run, const Level &level, Task &task, void *memory) {
    Work &work = *static_cast<Work *>(memory);
    const fh_cascade &c = *run.cascade;
    const int shift = level.step - 1;
    const double area = double(c.window_width - 2) * (c.window_height - 2);
    const View view = {run,  c,    level, task, work, work.layouts[shift], work.entries[shift], norm_limit(area), area};
    if (!band_start(work.band, run, level, view.layout, task.first_row * level.step)) {
        stop(run, FH_OUT_OF_MEMORY);
        return;
    }
    int32_t r = task.first_row;
    while (r < task.last_row) {
        const int32_t room = (view.layout.capacity - 1 - c.window_height) / level.step + 1;  // rows of windows
        const int32_t last = r + room < task.last_row ? r + room : task.last_row;
        band_move(work.band, r * level.step);
        band_fill(work.band, run, (last - 1) * level.step + c.window_height - work.band.top);
        if (!look_at_rows(view, r, last) || !look_at_patches(view)) return;
        r = last;
    }
}

}  // namespace
}  // namespace fh
