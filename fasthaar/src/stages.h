// The stages of a cascade for many windows at once, one window in each lane.
#pragma once

#include "cascade.h"
#include "vector.h"

namespace fh {
namespace {

#define INLINE inline __attribute__((always_inline))

INLINE Ints at(const int32_t *windows, const Entry &e, int i) { return load(windows + e.offsets[i]); }

// Values are OpenCV's: of ANY every product and every sum is rounded to float, of the others nothing needs to be.
template <int KIND>
INLINE Mask goes_left(const Entry &e, const int32_t *p, Floats norm) {
    Floats value;
    if (KIND == EDGE) {
        const Ints shared = at(p, e, 0) - at(p, e, 1);
        const Ints of_whole = at(p, e, 2) - at(p, e, 3), of_part = at(p, e, 4) - at(p, e, 5);
        value = to_floats(shared + of_whole - (of_part + of_part));  // 2 * (shared - of_part) - (shared - of_whole)
    } else if (KIND == CHECK || KIND == ANTICHECK) {
        const Ints shared = at(p, e, 0) + at(p, e, 1), middle = at(p, e, 2);
        const Ints of_whole = at(p, e, 3) + at(p, e, 4);
        const Ints of_parts = at(p, e, 5) + at(p, e, 6) + at(p, e, 7) + at(p, e, 8);
        const Ints half = middle + middle - of_parts;
        // The parts are first + middle - ... and middle + second - ..., the whole is first + second - ...
        const Ints sum = shared + of_whole + half + half;
        value = to_floats(KIND == CHECK ? sum : -sum);
    } else if (KIND == PAIR) {
        const Ints whole = at(p, e, 0) - at(p, e, 1) - at(p, e, 2) + at(p, e, 3);
        const Ints part = at(p, e, 4) - at(p, e, 5) - at(p, e, 6) + at(p, e, 7);
        value = multiply_subtract(to_floats(part), e.weights[0], to_floats(whole));
    } else {
        const Ints whole = at(p, e, 0) - at(p, e, 1) - at(p, e, 2) + at(p, e, 3);
        const Ints part1 = at(p, e, 4) - at(p, e, 5) - at(p, e, 6) + at(p, e, 7);
        const Ints part2 = at(p, e, 8) - at(p, e, 9) - at(p, e, 10) + at(p, e, 11);
        value = to_floats(whole) * e.whole_weight + to_floats(part1) * e.weights[0] + to_floats(part2) * e.weights[1];
    }
    return less(value * norm, splat(e.threshold));
}

// The cells lie between 4 rows of 4 corners; `down` are sums between two rows, left of each corner. Row by row, so that
// few of them need to be kept.
template <>
INLINE Mask goes_left<CELLS>(const Entry &e, const int32_t *p, Floats) {
    Ints upper[4], lower[4], down[4];
    for (int i = 0; i < 4; i++) {
        upper[i] = at(p, e, 4 + i);
        lower[i] = at(p, e, 8 + i);
        down[i] = lower[i] - upper[i];
    }
    const Ints center = down[2] - down[1];
    Ints code = add_where(Ints{}, at_least(down[3] - down[2], center), 16);
    code = add_where(code, at_least(down[1] - down[0], center), 1);
    for (int i = 0; i < 4; i++) down[i] = upper[i] - at(p, e, i);
    for (int i = 0; i < 3; i++) code = add_where(code, at_least(down[i + 1] - down[i], center), 128 >> i);
    for (int i = 0; i < 4; i++) down[i] = at(p, e, 12 + i) - lower[i];
    for (int i = 0; i < 3; i++) code = add_where(code, at_least(down[i + 1] - down[i], center), 2 << i);
    return in_subset(code, e.subset);
}

// V vectors of windows, each with its norms: looked at together, they share what is read of the cascade.
template <int V>
struct Vectors {
    const int32_t *windows[V];
    Floats norm[V];
    Ints sum[V];
};

INLINE const Entry *after(const Entry *e, int kind) {
    return reinterpret_cast<const Entry *>(reinterpret_cast<const char *>(e) + entry_bytes(kind));
}

template <int KIND, int V>
INLINE const Entry *add_kind(const Entry *e, int32_t count, Vectors<V> &v) {
    for (; count > 0; count--, e = after(e, KIND))
        for (int i = 0; i < V; i++)
            v.sum[i] = add_where(v.sum[i], goes_left<KIND>(*e, v.windows[i], v.norm[i]), e->left_leaf);
    return e;
}

template <int KIND, int V>
INLINE void go_left(const Entry &e, const Vectors<V> &v, Mask (&left)[V]) {
    for (int i = 0; i < V; i++) left[i] = goes_left<KIND>(e, v.windows[i], v.norm[i]);
}

template <int V>
INLINE void go_left_any(const Entry &e, const Vectors<V> &v, Mask (&left)[V]) {
    switch (e.kind) {
        case EDGE: return go_left<EDGE>(e, v, left);
        case PAIR: return go_left<PAIR>(e, v, left);
        case CHECK: return go_left<CHECK>(e, v, left);
        case ANTICHECK: return go_left<ANTICHECK>(e, v, left);
        case CELLS: return go_left<CELLS>(e, v, left);
        default: return go_left<ANY>(e, v, left);
    }
}

// A tree's nodes are visited in order, each by the windows that have come to it: children lie behind their parents.
template <int V>
INLINE const Entry *add_tree(const Entry *e, int32_t nodes, Vectors<V> &v) {
    Ints place[V] = {};  // the node that each window has come to; -1 behind a leaf
    for (int32_t n = 0; n < nodes; n++, e = after(e, e->kind)) {
        Mask left[V];
        go_left_any(*e, v, left);
        for (int i = 0; i < V; i++) {
            const Mask here = equal(place[i], n), l = left[i] & here, r = here & ~left[i];
            v.sum[i] = add_where(add_where(v.sum[i], l, e->left_leaf), r, e->right_leaf);
            place[i] = add_where(add_where(place[i], l, e->left - n), r, e->right - n);
        }
    }
    return e;
}

// Trees of two nodes, which is most of them: the second is either child of the first.
template <int V>
INLINE const Entry *add_pair(const Entry *e, Vectors<V> &v) {
    Mask first[V], second[V];
    const Entry *const child = after(e, e->kind);
    go_left_any(*e, v, first);
    go_left_any(*child, v, second);
    const bool left = e->left > 0;
    for (int i = 0; i < V; i++) {
        const Mask on = left ? first[i] : Mask(~first[i]);
        const Ints sum = add_where(v.sum[i], ~on, left ? e->right_leaf : e->left_leaf);
        v.sum[i] = add_where(add_where(sum, on & second[i], child->left_leaf), on & ~second[i], child->right_leaf);
    }
    return after(child, child->kind);
}

// The sums of a stage, in its integer scale.
template <int V>
INLINE void stage_sums(const fh_cascade &c, int stage, const StageEntries &s, Vectors<V> &v) {
    for (int i = 0; i < V; i++) v.sum[i] = Ints{};
    const Entry *e = s.entries;
    if (c.lbp && c.stumps) {
        add_kind<CELLS>(e, s.counts[CELLS], v);
    } else if (c.stumps) {
        e = add_kind<EDGE>(e, s.counts[EDGE], v);
        e = add_kind<PAIR>(e, s.counts[PAIR], v);
        e = add_kind<CHECK>(e, s.counts[CHECK], v);
        e = add_kind<ANTICHECK>(e, s.counts[ANTICHECK], v);
        add_kind<ANY>(e, s.counts[ANY], v);
    } else {
        const Tree *tree = c.trees + c.stages[stage].first_tree;
        for (const Tree *end = tree + c.stages[stage].trees; tree != end; tree++)
            e = tree->nodes == 2 && (e->left > 0) != (e->right > 0) ? add_pair(e, v) : add_tree(e, tree->nodes, v);
    }
}

}  // namespace
}  // namespace fh
