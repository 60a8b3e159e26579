// The stages of a cascade for many windows at once, one window in each lane.
#pragma once

#include "cascade.h"
#include "vector.h"

namespace fh {
namespace {

#define INLINE inline __attribute__((always_inline))

INLINE Ints at(const int32_t *windows, const Entry &e, int i) { return load(windows + e.offsets[i]); }

// Values are formed as OpenCV forms them: every product and every sum is rounded to float.
template <int KIND>
INLINE Mask goes_left(const Entry &e, const int32_t *p, Floats norm) {
    Floats value;
    if (KIND == EDGE) {
        const Ints shared = at(p, e, 0) - at(p, e, 1);
        const Ints whole = shared - (at(p, e, 2) - at(p, e, 3)), part = shared - (at(p, e, 4) - at(p, e, 5));
        value = to_floats(part) * e.weights[1] - to_floats(whole);
    } else if (KIND == PAIR) {
        const Ints whole = at(p, e, 0) - at(p, e, 1) - at(p, e, 2) + at(p, e, 3);
        const Ints part = at(p, e, 4) - at(p, e, 5) - at(p, e, 6) + at(p, e, 7);
        value = to_floats(part) * e.weights[1] - to_floats(whole);
    } else if (KIND == CHECK || KIND == ANTICHECK) {
        const Ints first = at(p, e, 0), second = at(p, e, 1), middle = at(p, e, 2);
        Ints whole = first + second - (at(p, e, 3) + at(p, e, 4));
        Ints part1 = first + middle - (at(p, e, 5) + at(p, e, 6));
        Ints part2 = middle + second - (at(p, e, 7) + at(p, e, 8));
        if (KIND == ANTICHECK) {
            whole = -whole;
            part1 = -part1;
            part2 = -part2;
        }
        value = to_floats(part1) * e.weights[1] - to_floats(whole) + to_floats(part2) * e.weights[2];
    } else {
        const Ints whole = at(p, e, 0) - at(p, e, 1) - at(p, e, 2) + at(p, e, 3);
        const Ints part1 = at(p, e, 4) - at(p, e, 5) - at(p, e, 6) + at(p, e, 7);
        const Ints part2 = at(p, e, 8) - at(p, e, 9) - at(p, e, 10) + at(p, e, 11);
        value = to_floats(whole) * e.weights[0] + to_floats(part1) * e.weights[1] + to_floats(part2) * e.weights[2];
    }
    return less(value * norm, Floats{} + e.threshold);
}

template <>
INLINE Mask goes_left<CELLS>(const Entry &e, const int32_t *p, Floats) {
    Ints down[12];  // the sums of the columns between two rows of corners, from the left edge
    Ints above[4];
    for (int i = 0; i < 4; i++) above[i] = at(p, e, i);
    for (int row = 0; row < 3; row++)
        for (int i = 0; i < 4; i++) {
            const Ints below = at(p, e, 4 * row + 4 + i);
            down[4 * row + i] = below - above[i];
            above[i] = below;
        }
    const Ints center = down[6] - down[5];
    static const uint8_t around[8] = {0, 1, 2, 6, 10, 9, 8, 4};  // clockwise from the top left
    Ints code = {};
    for (int i = 0; i < 8; i++)
        code = add_where(code, at_least(down[around[i] + 1] - down[around[i]], center), 128 >> i);
    return in_subset(code, e.subset);
}

template <int KIND, int V>
INLINE const Entry *add_kind(const Entry *e, int32_t count, const int32_t *p, const Floats (&norm)[V], Ints (&sum)[V]) {
    for (const Entry *end = e + count; e != end; e++)
        for (int v = 0; v < V; v++) sum[v] = add_where(sum[v], goes_left<KIND>(*e, p + v * LANES, norm[v]), e->left_leaf);
    return e;
}

INLINE Mask goes_left_any(const Entry &e, const int32_t *p, Floats norm) {
    switch (e.kind) {
        case EDGE: return goes_left<EDGE>(e, p, norm);
        case PAIR: return goes_left<PAIR>(e, p, norm);
        case CHECK: return goes_left<CHECK>(e, p, norm);
        case ANTICHECK: return goes_left<ANTICHECK>(e, p, norm);
        case CELLS: return goes_left<CELLS>(e, p, norm);
        default: return goes_left<ANY>(e, p, norm);
    }
}

// A tree's nodes are visited in order, each by the windows that reach it: children lie behind their parents.
template <int V>
INLINE void add_tree(const Entry *e, int32_t nodes, const int32_t *p, const Floats (&norm)[V], Ints (&sum)[V]) {
    Mask reached[16][V];
    for (int n = 1; n < nodes; n++)
        for (int v = 0; v < V; v++) reached[n][v] = Mask{};
    for (int n = 0; n < nodes; n++, e++)
        for (int v = 0; v < V; v++) {
            const Mask left = goes_left_any(*e, p + v * LANES, norm[v]);
            const Mask here[2] = {n ? Mask(reached[n][v] & left) : left, n ? Mask(reached[n][v] & ~left) : Mask(~left)};
            if (e->left > 0) reached[e->left][v] |= here[0];
            else sum[v] = add_where(sum[v], here[0], e->left_leaf);
            if (e->right > 0) reached[e->right][v] |= here[1];
            else sum[v] = add_where(sum[v], here[1], e->right_leaf);
        }
}

// The sums of a stage, in its integer scale, of V vectors of windows side by side.
template <int V>
INLINE void stage_sums(const fh_cascade &c, int stage, const StageEntries &s, const int32_t *p, const Floats (&norm)[V],
                       Ints (&sum)[V]) {
    for (int v = 0; v < V; v++) sum[v] = Ints{};
    const Entry *e = s.entries;
    if (c.lbp && c.stumps) {
        add_kind<CELLS, V>(e, s.counts[CELLS], p, norm, sum);
    } else if (c.stumps) {
        e = add_kind<EDGE, V>(e, s.counts[EDGE], p, norm, sum);
        e = add_kind<PAIR, V>(e, s.counts[PAIR], p, norm, sum);
        e = add_kind<CHECK, V>(e, s.counts[CHECK], p, norm, sum);
        e = add_kind<ANTICHECK, V>(e, s.counts[ANTICHECK], p, norm, sum);
        add_kind<ANY, V>(e, s.counts[ANY], p, norm, sum);
    } else {
        const Tree *const trees = c.trees + c.stages[stage].first_tree;
        for (int32_t t = 0; t < c.stages[stage].trees; e += trees[t++].nodes) add_tree<V>(e, trees[t].nodes, p, norm, sum);
    }
}

}  // namespace
}  // namespace fh
