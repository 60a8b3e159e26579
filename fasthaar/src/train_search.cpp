// The best split: every feature is ranked by a histogram of its bins, then the best ones by their exact values.
//
// Histograms are sums of integers, and every feature is ranked for itself, so the answer does not depend on threads.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train.h"

namespace fh {
namespace {

const int32_t FEATURES_PER_PART = 64;
const int TOGETHER = 4;   // features whose histograms are filled at once, so that a sample's weight is loaded once
const int FINALISTS = 32;  // features whose exact values are looked at

struct Finalist {
    int32_t feature;
    double rank;  // by its histogram
    fh_split split;
};

struct Search {
    fh_samples *samples;
    const fh_split_request *request;
    // For every sample its weight, in the upper half, and its weighted target, which has a sign, in the lower: sums of
    // both at once. Each is scaled so that no sum of weights or of absolute targets exceeds 2^30.
    uint64_t *packed;
    uint64_t total;
    double *ranks;  // of every candidate
    Finalist finalists[FINALISTS];
    bool failed;  // atomic
};

struct Sums {
    double weight, target;
};

Sums unpack(uint64_t packed) {
    const int32_t low = static_cast<int32_t>(static_cast<uint32_t>(packed));
    const uint64_t high = packed - static_cast<uint64_t>(static_cast<int64_t>(low));
    return {static_cast<double>(high >> 32), static_cast<double>(low)};
}

inline double worth(int criterion, double weight, double target) {
    if (criterion == FH_ABSOLUTES) return fabs(target);
    return weight > 0 ? target * target / weight : 0;
}

// What two sides are worth more than both together.
inline double gain(int criterion, Sums left, Sums all) {
    return worth(criterion, left.weight, left.target) +
           worth(criterion, all.weight - left.weight, all.target - left.target) -
           worth(criterion, all.weight, all.target);
}

double rank_ordered(const uint64_t *histogram, int criterion, Sums all) {
    double best = 0;
    uint64_t left = 0;
    for (int b = 0; b < HAAR_BINS - 1; b++) {
        left += histogram[b];
        const double found = gain(criterion, unpack(left), all);
        best = found > best ? found : best;
    }
    return best;
}

// Codes by the mean of their targets: the best subset is a beginning of this order (Fisher, "On Grouping for Maximum
// Homogeneity", 1958). Returns how many codes there are.
int order_codes(const Sums *codes, uint8_t *order) {
    double means[LBP_BINS];
    int count = 0;
    for (int code = 0; code < LBP_BINS; code++) {
        if (!(codes[code].weight > 0)) continue;
        const double mean = codes[code].target / codes[code].weight;
        int place = count++;
        for (; place > 0 && means[place - 1] > mean; place--) {
            means[place] = means[place - 1];
            order[place] = order[place - 1];
        }
        means[place] = mean;
        order[place] = static_cast<uint8_t>(code);
    }
    return count;
}

// Returns the gain; `kept` is how many codes of the order go left.
double divide_codes(const Sums *codes, const uint8_t *order, int count, int criterion, Sums all, int &kept) {
    double best = 0;
    Sums left = {0, 0};
    kept = 0;
    for (int i = 0; i < count - 1; i++) {
        left = {left.weight + codes[order[i]].weight, left.target + codes[order[i]].target};
        const double found = gain(criterion, left, all);
        if (found > best) {
            best = found;
            kept = i + 1;
        }
    }
    return best;
}

double rank_codes(const uint64_t *histogram, int criterion, Sums all) {
    Sums codes[LBP_BINS];
    uint8_t order[LBP_BINS];
    int kept;
    for (int code = 0; code < LBP_BINS; code++) codes[code] = unpack(histogram[code]);
    return divide_codes(codes, order, order_codes(codes, order), criterion, all, kept);
}

void count(const Search &search, const uint8_t *const (&rows)[TOGETHER], uint64_t (&tables)[TOGETHER][LBP_BINS]) {
    const fh_split_request &r = *search.request;
    const uint64_t *const packed = search.packed;
    memset(tables, 0, sizeof tables);
    if (r.count == search.samples->count) {
        for (int32_t i = 0; i < r.count; i++)
            for (int k = 0; k < TOGETHER; k++) tables[k][rows[k][i]] += packed[i];
    } else {
        for (int32_t i = 0; i < r.count; i++) {
            const int32_t sample = r.indices[i];
            for (int k = 0; k < TOGETHER; k++) tables[k][rows[k][sample]] += packed[i];
        }
    }
}

// The row of a feature's bins: kept from before, or filled now, in `own` where it is not to be kept.
const uint8_t *row(fh_samples &s, int32_t feature, float *values, uint8_t *own) {
    if (feature >= s.cached) {
        fill_bins(s, feature, values, own);
        return own;
    }
    uint8_t *const kept = s.bins + size_t(feature) * s.stride;
    if (!s.has_bins[feature]) {
        fill_bins(s, feature, values, kept);
        s.has_bins[feature] = 1;
    }
    return kept;
}

int32_t candidate(const fh_split_request &r, int32_t i) { return r.features ? r.features[i] : i; }

void rank_part(void *argument, int32_t part) {
    Search &search = *static_cast<Search *>(argument);
    fh_samples &s = *search.samples;
    const fh_split_request &r = *search.request;
    float *const values = static_cast<float *>(malloc(size_t(s.stride) * (sizeof(float) + TOGETHER)));
    if (!values) return __atomic_store_n(&search.failed, true, __ATOMIC_RELAXED);
    uint8_t *const own = reinterpret_cast<uint8_t *>(values + s.stride);
    const Sums all = unpack(search.total);
    uint64_t tables[TOGETHER][LBP_BINS];
    const int32_t first = part * FEATURES_PER_PART;
    const int32_t end = first + FEATURES_PER_PART < r.candidates ? first + FEATURES_PER_PART : r.candidates;
    for (int32_t i = first; i < end; i += TOGETHER) {
        const int32_t here = end - i < TOGETHER ? end - i : TOGETHER;
        const uint8_t *rows[TOGETHER] = {};
        for (int k = 0; k < TOGETHER; k++)
            rows[k] = k < here ? row(s, candidate(r, i + k), values, own + size_t(k) * s.stride) : rows[0];
        count(search, rows, tables);
        for (int k = 0; k < here; k++)
            search.ranks[i + k] =
                s.lbp ? rank_codes(tables[k], r.criterion, all) : rank_ordered(tables[k], r.criterion, all);
    }
    free(values);
}

// Keys in the order of floats, each with its place in the lower half.
uint64_t sort_key(float value, int32_t place) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return static_cast<uint64_t>(bits) << 32 | static_cast<uint32_t>(place);
}

void sort_keys(uint64_t *keys, uint64_t *other, int32_t count) {
    for (int shift = 32; shift < 64; shift += 8) {
        int32_t starts[257] = {};
        for (int32_t i = 0; i < count; i++) starts[(keys[i] >> shift & 255) + 1]++;
        for (int b = 0; b < 256; b++) starts[b + 1] += starts[b];
        for (int32_t i = 0; i < count; i++) other[starts[keys[i] >> shift & 255]++] = keys[i];
        uint64_t *const swapped = keys;
        keys = other;
        other = swapped;
    }
}

Sums sum_all(const fh_split_request &r) {
    Sums all = {0, 0};
    for (int32_t i = 0; i < r.count; i++) all = {all.weight + r.weights[i], all.target + r.targets[i]};
    return all;
}

void split_values(const Search &search, const float *values, uint64_t *keys, fh_split &out) {
    const fh_split_request &r = *search.request;
    const Sums all = sum_all(r);
    for (int32_t i = 0; i < r.count; i++) keys[i] = sort_key(values[r.indices[i]], i);
    sort_keys(keys, keys + r.count, r.count);
    Sums left = {0, 0};
    for (int32_t i = 0; i < r.count - 1; i++) {
        const int32_t at = static_cast<int32_t>(static_cast<uint32_t>(keys[i]));
        const int32_t next = static_cast<int32_t>(static_cast<uint32_t>(keys[i + 1]));
        left = {left.weight + r.weights[at], left.target + r.targets[at]};
        const float low = values[r.indices[at]], high = values[r.indices[next]];
        if (!(low < high)) continue;
        const double found = gain(r.criterion, left, all);
        if (!(found > out.gain)) continue;
        const float middle = low + (high - low) / 2;
        out.threshold = middle > low ? middle : high;
        out.gain = found;
    }
}

void split_codes(const Search &search, const uint8_t *sample_codes, fh_split &out) {
    const fh_split_request &r = *search.request;
    Sums codes[LBP_BINS] = {};
    uint8_t order[LBP_BINS];
    for (int32_t i = 0; i < r.count; i++) {
        Sums &code = codes[sample_codes[r.indices[i]]];
        code = {code.weight + r.weights[i], code.target + r.targets[i]};
    }
    int kept;
    const int present = order_codes(codes, order);
    out.gain = divide_codes(codes, order, present, r.criterion, sum_all(r), kept);
    // Codes that no sample has go left, to where targets are lower: what was never seen is rather not the object.
    memset(out.subset, 255, sizeof out.subset);
    for (int i = kept; i < present; i++) out.subset[order[i] >> 5] &= ~(1u << (order[i] & 31));
}

void refine(void *argument, int32_t part) {
    Search &search = *static_cast<Search *>(argument);
    const fh_samples &s = *search.samples;
    Finalist &finalist = search.finalists[part];
    uint64_t *const keys =
        static_cast<uint64_t *>(malloc(size_t(search.request->count) * 2 * sizeof *keys + size_t(s.stride) * 4));
    if (!keys) return __atomic_store_n(&search.failed, true, __ATOMIC_RELAXED);
    float *const values = reinterpret_cast<float *>(keys + 2 * size_t(search.request->count));
    finalist.split = {finalist.feature, 0, {}, 0};
    if (s.lbp) {
        lbp_codes(s, finalist.feature, reinterpret_cast<uint8_t *>(values));
        split_codes(search, reinterpret_cast<uint8_t *>(values), finalist.split);
    } else {
        haar_values(s, finalist.feature, values);
        split_values(search, values, keys, finalist.split);
    }
    free(keys);
}

bool pack(Search &search) {
    const fh_split_request &r = *search.request;
    double weights = 0, targets = 0;
    for (int32_t i = 0; i < r.count; i++) {
        weights += r.weights[i];
        targets += fabs(r.targets[i]);
    }
    // What rounding adds to the sums stays below 2^30, as there are a million samples at most.
    const double unit = 1 << 29;
    const double weight_scale = weights > 0 ? unit / weights : 0, target_scale = targets > 0 ? unit / targets : 0;
    if (!(weights > 0) || !(weight_scale < 1e300) || !(target_scale < 1e300)) return false;
    for (int32_t i = 0; i < r.count; i++) {
        const int64_t weight = llrint(r.weights[i] * weight_scale), target = llrint(r.targets[i] * target_scale);
        search.packed[i] = (static_cast<uint64_t>(weight) << 32) + static_cast<uint64_t>(target);
        search.total += search.packed[i];
    }
    return true;
}

int32_t choose_finalists(Search &search) {
    int32_t count = 0;
    for (int32_t i = 0; i < search.request->candidates; i++) {
        const double rank = search.ranks[i];
        if (!(rank > 0) || (count == FINALISTS && !(rank > search.finalists[count - 1].rank))) continue;
        int32_t place = count < FINALISTS ? count++ : count - 1;
        for (; place > 0 && search.finalists[place - 1].rank < rank; place--)
            search.finalists[place] = search.finalists[place - 1];
        search.finalists[place] = {candidate(*search.request, i), rank, {}};
    }
    return count;
}

void find(Search &search, fh_split &out) {
    const int32_t threads = search.samples->threads;
    const int32_t candidates = search.request->candidates;
    in_threads(threads, (candidates + FEATURES_PER_PART - 1) / FEATURES_PER_PART, rank_part, &search);
    if (search.failed) return;
    const int32_t finalists = choose_finalists(search);
    in_threads(threads, finalists, refine, &search);
    if (search.failed) return;
    for (int32_t i = 0; i < finalists; i++)
        if (search.finalists[i].split.gain > out.gain) out = search.finalists[i].split;
}

bool valid(const fh_samples &s, const fh_split_request &r) {
    if (r.criterion != FH_SQUARES && r.criterion != FH_ABSOLUTES) return false;
    if (r.count < 1 || r.count > s.count || r.candidates < 1 || r.candidates > s.features) return false;
    for (int32_t i = 0, last = -1; i < r.count; last = r.indices[i++])
        if (r.indices[i] <= last || r.indices[i] >= s.count) return false;
    if (!r.features && r.candidates != s.features) return false;
    for (int32_t i = 0, last = -1; r.features && i < r.candidates; last = r.features[i++])
        if (r.features[i] <= last || r.features[i] >= s.features) return false;
    return true;
}

}  // namespace
}  // namespace fh

int fh_samples_split(fh_samples *samples, const fh_split_request *request, fh_split *out) {
    *out = {-1, 0, {}, 0};
    if (!fh::valid(*samples, *request)) return FH_INVALID;
    fh::Search *const search = static_cast<fh::Search *>(calloc(1, sizeof *search));
    if (!search) return FH_OUT_OF_MEMORY;
    search->samples = samples;
    search->request = request;
    search->packed = static_cast<uint64_t *>(malloc(size_t(request->count) * sizeof(uint64_t)));
    search->ranks = static_cast<double *>(malloc(size_t(request->candidates) * sizeof(double)));
    int status = FH_OUT_OF_MEMORY;
    if (search->packed && search->ranks) {
        if (!fh::pack(*search)) {
            status = FH_INVALID;
        } else {
            fh::find(*search, *out);
            status = search->failed ? FH_OUT_OF_MEMORY : FH_OK;
        }
    }
    free(search->packed);
    free(search->ranks);
    free(search);
    return status;
}
