// Samples of the window: their integral images, and what features are worth in all of them at once.
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cascade.h"
#include "train.h"

namespace fh {
namespace {

const int32_t MOST_SAMPLES = 1000000;

bool valid(const fh_samples_data &d) {
    if (d.feature_type != FH_HAAR && d.feature_type != FH_LBP) return false;
    if (d.window_width < 8 || d.window_width > 128 || d.window_height < 8 || d.window_height > 128) return false;
    if (d.samples < 1 || d.samples > MOST_SAMPLES || d.features < 1 || d.cache_bytes < 0) return false;
    return d.threads >= 1 && d.threads <= MOST_THREADS;
}

uint32_t pixel(const fh_samples &s, const uint8_t *pixels, int32_t x, int32_t y) {
    return x >= 0 && x < s.width && y >= 0 && y < s.height ? pixels[y * s.width + x] : 0;
}

// The definition that kernel_scalar.cpp gives, for one sample; rows are those of `s`.
void integrate_tilted(const fh_samples &s, const uint8_t *pixels, int32_t sample) {
    const int32_t columns = s.width + 1;
    int32_t *const plane = s.tilted + sample;
    const auto at = [&](int32_t x, int32_t y) { return plane + size_t(y * columns + x) * s.stride; };
    for (int32_t y = 1; y <= s.height; y++)
        for (int32_t x = 0; x < columns; x++) {
            const int32_t own = int32_t(pixel(s, pixels, x - 1, y - 1) + pixel(s, pixels, x - 1, y - 2));
            const int32_t above = y > 1 ? *at(x, y - 2) : 0;
            const int32_t left = x > 0 ? *at(x - 1, y - 1) : above;
            const int32_t right = x < s.width ? *at(x + 1, y - 1) : above;
            *at(x, y) = left + right - above + own;
        }
}

// As the detector normalises a window: by what is inside of a border of one pixel.
float normal_factor(const fh_samples &s, const uint8_t *pixels) {
    int32_t sum = 0, squares = 0;
    for (int32_t y = 1; y < s.height - 1; y++)
        for (int32_t x = 1; x < s.width - 1; x++) {
            const int32_t value = pixels[y * s.width + x];
            sum += value;
            squares += value * value;
        }
    const double area = double(s.width - 2) * (s.height - 2);
    const double variance = area * uint32_t(squares) - double(sum) * sum;
    if (!(variance > 0)) return 0;
    const float norm = static_cast<float>(1. / sqrt(variance));
    return area * norm < 1e-1 ? norm : 0;
}

void fill_sample(const fh_samples &s, const uint8_t *pixels, int32_t sample) {
    const int32_t columns = s.width + 1;
    for (int32_t y = 1; y <= s.height; y++) {
        int32_t row = 0;
        for (int32_t x = 1; x <= s.width; x++) {
            row += pixels[(y - 1) * s.width + x - 1];
            s.sum[size_t(y * columns + x) * s.stride + sample] =
                s.sum[size_t((y - 1) * columns + x) * s.stride + sample] + row;
        }
    }
    s.norm[sample] = s.lbp ? 1 : normal_factor(s, pixels);
    if (s.tilted) integrate_tilted(s, pixels, sample);
}

bool any_tilted(const fh_samples_data &d) {
    return d.feature_type == FH_HAAR && memchr(d.tilted, 1, size_t(d.features)) != nullptr;
}

bool allocate(const fh_samples_data &d, fh_samples &s) {
    const size_t corners = size_t(s.width + 1) * (s.height + 1);
    s.sum = static_cast<int32_t *>(calloc(corners * s.stride, sizeof *s.sum));
    if (any_tilted(d)) s.tilted = static_cast<int32_t *>(calloc(corners * s.stride, sizeof *s.tilted));
    s.norm = static_cast<float *>(calloc(s.stride, sizeof *s.norm));
    const int64_t fitting = d.cache_bytes / s.stride;
    s.cached = fitting < d.features ? static_cast<int32_t>(fitting) : d.features;
    s.bins = static_cast<uint8_t *>(malloc(size_t(s.cached) * s.stride + 1));
    s.has_bins = static_cast<uint8_t *>(calloc(size_t(s.cached) + 1, 1));
    return s.sum && (s.tilted || !any_tilted(d)) && s.norm && s.bins && s.has_bins;
}

struct Corners {
    const int32_t *a, *b, *c, *d;  // added, subtracted, subtracted, added
};

Corners corners(const fh_samples &s, const int32_t *r, bool tilted) {
    const int32_t x = r[0], y = r[1], w = r[2], h = r[3], columns = s.width + 1;
    const int32_t *const plane = tilted ? s.tilted : s.sum;
    const auto at = [&](int32_t px, int32_t py) { return plane + size_t(py * columns + px) * s.stride; };
    if (tilted) return {at(x, y), at(x - h, y + h), at(x + w, y + w), at(x + w - h, y + w + h)};
    return {at(x, y), at(x + w, y), at(x, y + h), at(x + w, y + h)};
}

inline float rectangle(const Corners &r, int32_t i) { return static_cast<float>(r.a[i] - r.b[i] - r.c[i] + r.d[i]); }

struct Job {
    int32_t next, parts;
    void (*work)(void *, int32_t);
    void *argument;
};

void *take_parts(void *argument) {
    Job &job = *static_cast<Job *>(argument);
    for (;;) {
        const int32_t part = __atomic_fetch_add(&job.next, 1, __ATOMIC_RELAXED);
        if (part >= job.parts) return nullptr;
        job.work(job.argument, part);
    }
}

}  // namespace

void in_threads(int32_t threads, int32_t parts, void (*work)(void *, int32_t), void *argument) {
    Job job = {0, parts, work, argument};
    pthread_t others[MOST_THREADS];
    int32_t started = 0;
    const int32_t most = threads < parts ? threads : parts;
    // Where no more threads can be had, those that are there do all the work.
    while (started < most - 1 && pthread_create(&others[started], nullptr, take_parts, &job) == 0) started++;
    take_parts(&job);
    for (int32_t i = 0; i < started; i++) pthread_join(others[i], nullptr);
}

// Products and sums are rounded to float as the detector's are, so that a threshold divides samples as it divides
// windows.
void haar_values(const fh_samples &s, int32_t feature, float *values) {
    const int32_t *const rects = s.rects + 12 * size_t(feature);
    const float *const weights = s.weights + 3 * size_t(feature);
    const bool tilted = s.tilted_flags[feature];
    const float *const norm = s.norm;
    const Corners first = corners(s, rects, tilted), second = corners(s, rects + 4, tilted);
    const float w0 = weights[0], w1 = weights[1], w2 = weights[2];
    if (w2 == 0) {
        for (int32_t i = 0; i < s.stride; i++)
            values[i] = (w0 * rectangle(first, i) + w1 * rectangle(second, i)) * norm[i];
    } else {
        const Corners third = corners(s, rects + 8, tilted);
        for (int32_t i = 0; i < s.stride; i++)
            values[i] =
                (w0 * rectangle(first, i) + w1 * rectangle(second, i) + w2 * rectangle(third, i)) * norm[i];
    }
}

void lbp_codes(const fh_samples &s, int32_t feature, uint8_t *codes) {
    static const uint8_t around[8][2] = {{0, 0}, {1, 0}, {2, 0}, {2, 1}, {2, 2}, {1, 2}, {0, 2}, {0, 1}};
    const int32_t *const r = s.rects + 4 * size_t(feature);
    const int32_t middle_rect[4] = {r[0] + r[2], r[1] + r[3], r[2], r[3]};
    const Corners middle = corners(s, middle_rect, false);
    memset(codes, 0, s.stride);
    for (int k = 0; k < 8; k++) {
        const int32_t cell_rect[4] = {r[0] + around[k][0] * r[2], r[1] + around[k][1] * r[3], r[2], r[3]};
        const Corners cell = corners(s, cell_rect, false);
        const int bit = 128 >> k;
        for (int32_t i = 0; i < s.stride; i++) {
            const int32_t here = cell.a[i] - cell.b[i] - cell.c[i] + cell.d[i];
            const int32_t center = middle.a[i] - middle.b[i] - middle.c[i] + middle.d[i];
            codes[i] = static_cast<uint8_t>(codes[i] | (here >= center ? bit : 0));
        }
    }
}

namespace {

const int STEPS = 1024, MOST_LOOKED_AT = 1024;

// Values in fine steps over four standard deviations to each side of their mean.
struct Scale {
    float low, factor;
};

// From every so-manieth of the values.
Scale scale_of(const float *values, int32_t count, int32_t every) {
    double total = 0, squares = 0;
    int32_t seen = 0;
    for (int32_t i = 0; i < count; i += every, seen++) {
        total += values[i];
        squares += double(values[i]) * values[i];
    }
    const double mean = total / seen, variance = squares / seen - mean * mean;
    const double deviation = sqrt(variance > 0 ? variance : 0);
    const double factor = deviation > 0 ? STEPS / (8 * deviation) : 0;
    return {static_cast<float>(mean - 4 * deviation), factor < 1e30 ? static_cast<float>(factor) : 0};
}

}  // namespace

// Bins of HAAR features hold about as many samples each: steps are counted, and neighbouring ones joined.
void fill_bins(const fh_samples &s, int32_t feature, float *values, uint8_t *bins) {
    if (s.lbp) return lbp_codes(s, feature, bins);
    haar_values(s, feature, values);
    const int32_t every = (s.count + MOST_LOOKED_AT - 1) / MOST_LOOKED_AT;
    const Scale scale = scale_of(values, s.count, every);
    for (int32_t i = 0; i < s.stride; i++) {
        const float step = (values[i] - scale.low) * scale.factor;
        const float kept = step < 0 ? 0 : step > STEPS - 1 ? STEPS - 1 : step;
        values[i] = kept;
    }
    int32_t counts[STEPS] = {}, seen = 0;
    for (int32_t i = 0; i < s.count; i += every, seen++) counts[static_cast<int32_t>(values[i])]++;
    uint8_t bin_of[STEPS];
    for (int32_t k = 0, before = 0; k < STEPS; before += counts[k++])
        bin_of[k] = static_cast<uint8_t>((2 * before + counts[k]) * HAAR_BINS / (2 * seen + 1));
    for (int32_t i = 0; i < s.count; i++) bins[i] = bin_of[static_cast<int32_t>(values[i])];
}

}  // namespace fh

int fh_samples_load(const fh_samples_data *data, fh_samples **out) {
    *out = nullptr;
    const fh_samples_data &d = *data;
    if (!fh::valid(d)) return FH_INVALID;
    fh_samples *const s = static_cast<fh_samples *>(calloc(1, sizeof *s));
    if (!s) return FH_OUT_OF_MEMORY;
    s->width = d.window_width;
    s->height = d.window_height;
    s->count = d.samples;
    s->stride = (d.samples + 15) / 16 * 16;
    s->lbp = d.feature_type == FH_LBP;
    s->features = d.features;
    s->threads = d.threads;
    s->rects = d.rects;
    s->weights = d.weights;
    s->tilted_flags = d.tilted;
    if (!fh::allocate(d, *s)) {
        fh_samples_free(s);
        return FH_OUT_OF_MEMORY;
    }
    const size_t size = size_t(s->width) * s->height;
    for (int32_t i = 0; i < s->count; i++) fh::fill_sample(*s, d.pixels + i * size, i);
    *out = s;
    return FH_OK;
}

void fh_samples_free(fh_samples *samples) {
    if (!samples) return;
    free(samples->sum);
    free(samples->tilted);
    free(samples->norm);
    free(samples->bins);
    free(samples->has_bins);
    free(samples);
}

void fh_samples_contrast(const fh_samples *samples, uint8_t *out) {
    for (int32_t i = 0; i < samples->count; i++) out[i] = samples->norm[i] > 0;
}

int fh_samples_values(const fh_samples *samples, int32_t feature, float *out) {
    const fh_samples &s = *samples;
    if (feature < 0 || feature >= s.features) return FH_INVALID;
    float *const values = static_cast<float *>(malloc(size_t(s.stride) * sizeof *values));
    if (!values) return FH_OUT_OF_MEMORY;
    if (s.lbp) {
        uint8_t *const codes = reinterpret_cast<uint8_t *>(values);
        fh::lbp_codes(s, feature, codes);
        for (int32_t i = 0; i < s.count; i++) out[i] = codes[i];
    } else {
        fh::haar_values(s, feature, values);
        memcpy(out, values, s.count * sizeof *values);
    }
    free(values);
    return FH_OK;
}

int fh_resize(const uint8_t *image, int64_t row_stride, int32_t width, int32_t height, uint8_t *out, int32_t out_width,
              int32_t out_height) {
    const int32_t most = 32767;
    if (width < 1 || height < 1 || width > most || height > most) return FH_INVALID;
    if (out_width < 1 || out_height < 1 || out_width > most || out_height > most) return FH_INVALID;
    fh::Taps across = {}, down = {};
    const bool ready = fh::taps_create(across, width, out_width) && fh::taps_create(down, height, out_height);
    for (int32_t y = 0; ready && y < out_height; y++) {
        const uint8_t *const above = image + row_stride * down.index[y];
        const uint8_t *const below = height > 1 ? above + row_stride : above;
        const int16_t *const wy = down.weights[y];
        for (int32_t x = 0; x < out_width; x++) {
            const int32_t i = across.index[x], j = width > 1 ? i + 1 : i;
            const int16_t *const wx = across.weights[x];
            const int32_t up = above[i] * wx[0] + above[j] * wx[1], low = below[i] * wx[0] + below[j] * wx[1];
            out[size_t(y) * out_width + x] = static_cast<uint8_t>((up * wy[0] + low * wy[1] + (1 << 15)) >> 16);
        }
    }
    fh::taps_free(across);
    fh::taps_free(down);
    return ready ? FH_OK : FH_OUT_OF_MEMORY;
}
