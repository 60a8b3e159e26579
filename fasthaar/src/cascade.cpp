// Loading: every rule of fh_cascade_data is checked, then nodes are brought into the form that kernels evaluate.
#include "cascade.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

namespace fh {
namespace {

const float THRESHOLD_ALLOWANCE = 1e-5f;  // OpenCV subtracts it from every stage threshold, in float
const int OFFSETS[KINDS] = {6, 8, 9, 9, 12, 16};
const int MAX_TREES = 20000, MAX_NODES_PER_TREE = 16, MAX_STAGES = 64;

bool all_finite(const float *values, int count) {
    for (int i = 0; i < count; i++)
        if (!(fabsf(values[i]) <= FLT_MAX)) return false;
    return true;
}

bool inside(const fh_cascade_data &d, int feature) {
    const int W = d.window_width, H = d.window_height;
    if (d.feature_type == FH_LBP) {
        const int32_t *r = d.rects + 4 * feature;
        return r[0] >= 0 && r[1] >= 0 && r[2] > 0 && r[3] > 0 && r[2] <= W && r[3] <= H &&
               r[0] <= W - 3 * r[2] && r[1] <= H - 3 * r[3];
    }
    for (int i = 0; i < 3; i++) {
        const int32_t *r = d.rects + 12 * feature + 4 * i;
        const int32_t x = r[0], y = r[1], w = r[2], h = r[3];
        if (x < 0 || y < 0 || w < 0 || h < 0 || x > W || y > H || w > W || h > H) return false;
        if (i == 2 && d.weights[3 * feature + 2] == 0) continue;
        if (d.tilted[feature] ? x - h < 0 || x + w > W || y + w + h > H : x + w > W || y + h > H) return false;
    }
    return true;
}

bool valid_children(const fh_cascade_data &d, int first, int nodes) {
    for (int n = 0; n < 2 * nodes; n++) {
        const int child = n % 2 ? d.right[first + n / 2] : d.left[first + n / 2];
        if (child > 0 ? child <= n / 2 || child >= nodes : child < -nodes) return false;
    }
    return true;
}

bool valid_counts(const fh_cascade_data &d) {
    if (d.feature_type != FH_HAAR && d.feature_type != FH_LBP) return false;
    if (d.window_width < 8 || d.window_width > 128 || d.window_height < 8 || d.window_height > 128) return false;
    if (d.stages < 1 || d.stages > MAX_STAGES || d.trees < 1 || d.trees > MAX_TREES || d.features < 1) return false;
    int64_t trees = 0, nodes = 0;
    for (int i = 0; i < d.stages; i++) {
        if (d.stage_trees[i] < 1 || d.stage_trees[i] > d.trees) return false;
        trees += d.stage_trees[i];
    }
    if (trees != d.trees) return false;
    for (int i = 0; i < d.trees; i++) {
        if (d.tree_nodes[i] < 1 || d.tree_nodes[i] > MAX_NODES_PER_TREE) return false;
        nodes += d.tree_nodes[i];
    }
    return nodes == d.nodes;
}

bool valid(const fh_cascade_data &d) {
    if (!valid_counts(d)) return false;
    for (int i = 0, node = 0; i < d.trees; node += d.tree_nodes[i++])
        if (!valid_children(d, node, d.tree_nodes[i])) return false;
    for (int i = 0; i < d.nodes; i++)
        if (d.feature[i] < 0 || d.feature[i] >= d.features) return false;
    for (int i = 0; i < d.features; i++)
        if (!inside(d, i)) return false;
    const bool haar = d.feature_type == FH_HAAR;
    return all_finite(d.stage_thresholds, d.stages) && all_finite(d.leaves, d.nodes + d.trees) &&
           (!haar || (all_finite(d.threshold, d.nodes) && all_finite(d.weights, 3 * d.features)));
}

Corner corner(int x, int y) { return {static_cast<int16_t>(x), static_cast<int16_t>(y)}; }

bool same(Corner a, Corner b) { return a.x == b.x && a.y == b.y; }

// The four corners of a rectangle whose integral values are added, subtracted, subtracted, added.
void rectangle_corners(const int32_t *r, bool tilted, Corner *out) {
    const int x = r[0], y = r[1], w = r[2], h = r[3];
    out[0] = corner(x, y);
    out[1] = tilted ? corner(x - h, y + h) : corner(x + w, y);
    out[2] = tilted ? corner(x + w, y + w) : corner(x, y + h);
    out[3] = tilted ? corner(x + w - h, y + w + h) : corner(x + w, y + h);
}

bool order_as(Node &node, Kind kind, const uint8_t *order, int count) {
    node.kind = kind;
    memcpy(node.order, order, count);
    return true;
}

// EDGE: with a shared positive corner p and a shared negative one m, the sums are (p - m) - (m0 - p0) and
// (p - m) - (m1 - p1). The kernel loads p, m, m0, p0, m1, p1.
bool order_edge(Node &node) {
    const Corner *a = node.corners, *b = node.corners + 4;
    for (int choice = 0; choice < 16; choice++) {
        const int p = choice & 1 ? 3 : 0, m = choice & 2 ? 2 : 1, p1 = choice & 4 ? 3 : 0, m1 = choice & 8 ? 2 : 1;
        if (!same(a[p], b[p1]) || !same(a[m], b[m1])) continue;
        const uint8_t order[] = {uint8_t(p),     uint8_t(m),      uint8_t(3 - m),
                                 uint8_t(3 - p), uint8_t(7 - m1), uint8_t(7 - p1)};
        return order_as(node, EDGE, order, 6);
    }
    return false;
}

// CHECK and ANTICHECK: rectangles 1 and 2 each share a corner with rectangle 0 and one with each other, all of one
// sign. The kernel loads the shared ones (0 and 1, 0 and 2, 1 and 2), then the two others of each rectangle.
bool order_check(Node &node) {
    const Corner *c = node.corners;
    for (int anti = 0; anti < 2; anti++) {
        const int pair[2] = {anti ? 1 : 0, anti ? 2 : 3};
        const int rest[2] = {anti ? 0 : 1, anti ? 3 : 2};
        for (int swap = 0; swap < 2; swap++) {
            const int i = pair[swap], j = pair[1 - swap];
            if (same(c[i], c[4 + i]) && same(c[j], c[8 + j]) && same(c[4 + j], c[8 + i])) {
                const uint8_t order[] = {uint8_t(i),           uint8_t(j),           uint8_t(4 + j),
                                         uint8_t(rest[0]),     uint8_t(rest[1]),     uint8_t(4 + rest[0]),
                                         uint8_t(4 + rest[1]), uint8_t(8 + rest[0]), uint8_t(8 + rest[1])};
                return order_as(node, anti ? ANTICHECK : CHECK, order, 9);
            }
        }
    }
    return false;
}

// Whether all that is formed of a node's values is a whole number that floats hold: then no sum is rounded, and it may
// be formed in any order, and of integers.
bool is_whole(const fh_cascade_data &d, int feature) {
    double most = 0;
    for (int i = 0; i < 3; i++) {
        const int32_t *r = d.rects + 12 * feature + 4 * i;
        const float weight = d.weights[3 * feature + i];
        if (weight != rintf(weight)) return false;
        most += fabs(weight) * 255 * r[2] * r[3] * (d.tilted[feature] ? 2 : 1);
    }
    return most <= 1 << 24;
}

void choose_kind(const fh_cascade_data &d, int feature, Node &node) {
    static const uint8_t plain[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const float *const w = node.weights;
    const bool whole = w[0] == -1 && is_whole(d, feature);
    if (whole && w[1] == 2 && w[2] == 0 && order_edge(node)) return;
    if (whole && w[1] == 2 && w[2] == 2 && order_check(node)) return;
    if (whole && w[2] == 0) order_as(node, PAIR, plain, 8);
    else order_as(node, ANY, plain, 12);
}

void fill_node(const fh_cascade_data &d, int index, Node &node) {
    const int feature = d.feature[index];
    node.left = d.left[index];
    node.right = d.right[index];
    if (d.feature_type == FH_LBP) {
        const int32_t *r = d.rects + 4 * feature;
        for (int i = 0; i < 16; i++) {
            node.corners[i] = corner(r[0] + i % 4 * r[2], r[1] + i / 4 * r[3]);
            node.order[i] = uint8_t(i);
        }
        memcpy(node.subset, d.subsets + 8 * index, sizeof node.subset);
        node.kind = CELLS;
        return;
    }
    node.tilted = d.tilted[feature];
    node.threshold = d.threshold[index];
    for (int i = 0; i < 3; i++) {
        node.weights[i] = d.weights[3 * feature + i];
        if (i < 2 || node.weights[i] != 0)
            rectangle_corners(d.rects + 12 * feature + 4 * i, node.tilted, node.corners + 4 * i);
    }
    choose_kind(d, feature, node);
}

int32_t to_int32(double value) {
    return value >= 2147483647. ? INT32_MAX : value <= -2147483648. ? INT32_MIN : static_cast<int32_t>(value);
}

// Brings the leaves of a stage to integers whose sums cannot overflow, and finds the sums that decide for certain.
void fix_stage(fh_cascade &c, Stage &stage) {
    double magnitude = 0, largest_sum = 0, right = 0;
    for (int t = stage.first_tree; t < stage.first_tree + stage.trees; t++) {
        const Tree &tree = c.trees[t];
        const float *leaf = c.leaves + tree.first_leaf;
        double largest = 0;
        for (int i = 0; i <= tree.nodes; i++) {
            magnitude += fabs(leaf[i]);
            largest = fmax(largest, fabs(leaf[i]));
        }
        largest_sum += c.stumps ? fabs(double(leaf[0]) - leaf[1]) : largest;
        if (c.stumps) right += leaf[1];
    }
    int exponent = 0;
    if (largest_sum > 0) frexp(largest_sum, &exponent);
    const double scale = ldexp(1, 30 - exponent);
    for (int t = stage.first_tree; t < stage.first_tree + stage.trees; t++) {
        const Tree &tree = c.trees[t];
        const float *leaf = c.leaves + tree.first_leaf;
        int32_t *fixed = c.fixed_leaves + tree.first_leaf;
        for (int i = 0; i <= tree.nodes; i++)
            fixed[i] = !c.stumps ? to_int32(rint(leaf[i] * scale))
                       : i == 0  ? to_int32(rint((double(leaf[0]) - leaf[1]) * scale))
                                 : 0;
    }
    // Every tree is off by at most half a unit; double sums, OpenCV's and this one, by far less than the second term.
    const double margin = 0.5 * stage.trees + 2 + stage.trees * magnitude * ldexp(1, -50) * scale;
    const double bound = (double(stage.threshold) - right) * scale;
    stage.passes = to_int32(ceil(bound + margin));
    stage.fails = to_int32(floor(bound - margin));
}

bool fill(const fh_cascade_data &d, fh_cascade &c) {
    c.window_width = d.window_width;
    c.window_height = d.window_height;
    c.stage_count = d.stages;
    c.tree_count = d.trees;
    c.node_count = d.nodes;
    c.lbp = d.feature_type == FH_LBP;
    c.stumps = d.nodes == d.trees;
    c.stages = static_cast<Stage *>(calloc(d.stages, sizeof *c.stages));
    c.trees = static_cast<Tree *>(calloc(d.trees, sizeof *c.trees));
    c.nodes = static_cast<Node *>(calloc(d.nodes, sizeof *c.nodes));
    c.leaves = static_cast<float *>(calloc(d.nodes + d.trees, sizeof *c.leaves));
    c.fixed_leaves = static_cast<int32_t *>(calloc(d.nodes + d.trees, sizeof *c.fixed_leaves));
    if (!c.stages || !c.trees || !c.nodes || !c.leaves || !c.fixed_leaves) return false;
    memcpy(c.leaves, d.leaves, (d.nodes + d.trees) * sizeof *c.leaves);
    for (int t = 0, node = 0; t < d.trees; node += d.tree_nodes[t++]) c.trees[t] = {node, d.tree_nodes[t], node + t};
    for (int i = 0; i < d.nodes; i++) {
        fill_node(d, i, c.nodes[i]);
        c.tilted |= c.nodes[i].tilted;
        if (c.entry_bytes < entry_bytes(c.nodes[i].kind)) c.entry_bytes = entry_bytes(c.nodes[i].kind);
        if (c.stumps) {  // OpenCV does not look at the children of stumps: the first leaf is the left one
            c.nodes[i].left = 0;
            c.nodes[i].right = -1;
        }
    }
    for (int s = 0, tree = 0; s < d.stages; tree += d.stage_trees[s++]) {
        Stage &stage = c.stages[s];
        stage.first_tree = tree;
        stage.trees = d.stage_trees[s];
        stage.first_node = c.trees[tree].first_node;
        const Tree &last = c.trees[tree + stage.trees - 1];
        stage.nodes = last.first_node + last.nodes - stage.first_node;
        stage.threshold = d.stage_thresholds[s] - THRESHOLD_ALLOWANCE;
        fix_stage(c, stage);
    }
    // Cascades are trained to let about half of the windows pass a stage.
    for (int s = d.stages - 1, later = 0; s >= 0; s--) later = c.stages[s].expected = c.stages[s].nodes + later / 2;
    return true;
}

float haar_value(const Node &node, const int32_t *window, const Geometry &g, float norm) {
    float sums[3];
    for (int i = 0; i < 3; i++) {
        uint32_t v[4];  // sums may wrap around; their differences do not
        for (int k = 0; k < 4; k++)
            v[k] = static_cast<uint32_t>(window[offset(g, node.corners[4 * i + k], node.tilted)]);
        sums[i] = static_cast<float>(static_cast<int32_t>(v[0] - v[1] - v[2] + v[3]));
    }
    float value = node.weights[0] * sums[0] + node.weights[1] * sums[1];
    if (node.weights[2] != 0) value += node.weights[2] * sums[2];
    return value * norm;
}

bool in_subset(const Node &node, const int32_t *window, const Geometry &g) {
    static const uint8_t around[8] = {0, 1, 2, 6, 10, 9, 8, 4};  // the top left corners of the cells, clockwise
    int32_t cells[16];
    for (int i = 0; i < 11; i++) {
        if (i % 4 == 3) continue;
        const uint32_t a = window[offset(g, node.corners[i], false)], b = window[offset(g, node.corners[i + 1], false)];
        const uint32_t c = window[offset(g, node.corners[i + 4], false)],
                       d = window[offset(g, node.corners[i + 5], false)];
        cells[i] = static_cast<int32_t>(a - b - c + d);
    }
    int code = 0;
    for (int i = 0; i < 8; i++) code |= (cells[around[i]] >= cells[5]) << (7 - i);
    return node.subset[code >> 5] >> (code & 31) & 1;
}

}  // namespace

double exact_sum(const fh_cascade &c, int stage, const int32_t *window, const Geometry &g, float norm) {
    double sum = 0;
    for (int t = c.stages[stage].first_tree, end = t + c.stages[stage].trees; t < end; t++) {
        const Tree &tree = c.trees[t];
        int child = 0;
        do {
            const Node &node = c.nodes[tree.first_node + child];
            const bool left = c.lbp ? in_subset(node, window, g) : haar_value(node, window, g, norm) < node.threshold;
            child = left ? node.left : node.right;
        } while (child > 0);
        sum += c.leaves[tree.first_leaf - child];
    }
    return sum;
}

bool entries_create(const fh_cascade &c, StageEntries *&stages, void *&memory) {
    stages = static_cast<StageEntries *>(calloc(c.stage_count, sizeof *stages));
    memory = aligned_alloc(64, size_t(c.node_count) * c.entry_bytes);
    if (!stages || !memory) return false;
    for (int s = 0; s < c.stage_count; s++) {
        char *const place = static_cast<char *>(memory) + size_t(c.stages[s].first_node) * c.entry_bytes;
        stages[s].entries = reinterpret_cast<Entry *>(place);
    }
    return true;
}

void build_entries(const fh_cascade &c, int s, const Geometry &g, StageEntries &out) {
    const Stage &stage = c.stages[s];
    char *next[KINDS] = {reinterpret_cast<char *>(out.entries)};  // of trees, the first alone
    if (c.stumps) {
        for (int i = 0; i < stage.nodes; i++) out.counts[c.nodes[stage.first_node + i].kind]++;
        for (int k = 1; k < KINDS; k++) next[k] = next[k - 1] + out.counts[k - 1] * entry_bytes(k - 1);
    }
    for (int t = stage.first_tree; t < stage.first_tree + stage.trees; t++) {
        const Tree &tree = c.trees[t];
        const int32_t *fixed = c.fixed_leaves + tree.first_leaf;
        for (int n = 0; n < tree.nodes; n++) {
            const Node &node = c.nodes[tree.first_node + n];
            char *&place = next[c.stumps ? node.kind : 0];
            Entry &entry = *reinterpret_cast<Entry *>(place);
            place += entry_bytes(node.kind);
            entry.threshold = node.threshold;
            entry.weights[0] = node.weights[1];
            entry.weights[1] = node.weights[2];
            entry.left_leaf = node.left <= 0 ? fixed[-node.left] : 0;
            entry.right_leaf = node.right <= 0 ? fixed[-node.right] : 0;
            entry.left = static_cast<int8_t>(node.left > 0 ? node.left : -1);
            entry.right = static_cast<int8_t>(node.right > 0 ? node.right : -1);
            entry.kind = node.kind;
            for (int i = 0; i < OFFSETS[node.kind]; i++)
                entry.offsets[i] = offset(g, node.corners[node.order[i]], node.tilted);
            if (entry_bytes(node.kind) == 64) continue;
            memcpy(entry.subset, node.subset, sizeof entry.subset);
            entry.whole_weight = node.weights[0];
        }
    }
    out.built = true;
}

}  // namespace fh

int fh_load(const fh_cascade_data *data, fh_cascade **out) {
    *out = nullptr;
    if (!fh::valid(*data)) return FH_INVALID;
    fh_cascade *cascade = static_cast<fh_cascade *>(calloc(1, sizeof *cascade));
    if (!cascade) return FH_OUT_OF_MEMORY;
    if (!fh::fill(*data, *cascade)) {
        fh_free(cascade);
        return FH_OUT_OF_MEMORY;
    }
    *out = cascade;
    return FH_OK;
}

void fh_free(fh_cascade *cascade) {
    if (!cascade) return;
    free(cascade->stages);
    free(cascade->trees);
    free(cascade->nodes);
    free(cascade->leaves);
    free(cascade->fixed_leaves);
    free(cascade);
}
