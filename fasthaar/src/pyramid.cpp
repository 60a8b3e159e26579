#include "pyramid.h"

#include <math.h>
#include <stdlib.h>

namespace fh {
namespace {

struct Size {
    int32_t width, height;
};

// OpenCV rounds scaled windows in double precision when it lists scales, in float when it chooses among them.
Size scaled_window(const fh_cascade &c, double factor) {
    return {static_cast<int32_t>(lrint(c.window_width * factor)),
            static_cast<int32_t>(lrint(c.window_height * factor))};
}

Size scaled_window(const fh_cascade &c, float scale) {
    return {static_cast<int32_t>(lrintf(c.window_width * scale)),
            static_cast<int32_t>(lrintf(c.window_height * scale))};
}

int32_t list_scales(const fh_cascade &c, const fh_request &r, float *out) {
    int32_t count = 0;
    for (double factor = 1; ; factor *= r.scale_factor) {
        const Size window = scaled_window(c, factor);
        if (window.width > r.width || window.height > r.height) break;
        if (out) out[count] = static_cast<float>(factor);
        count++;
    }
    return count;
}

// Keeps the scales between the smallest and the largest object; without any, the one closest to the smallest.
int32_t choose_scales(const fh_cascade &c, const fh_request &r, float *scales, int32_t count) {
    const bool unbounded = r.max_width == 0 || r.max_height == 0;
    const int32_t max_width = unbounded ? r.width : r.max_width, max_height = unbounded ? r.height : r.max_height;
    int32_t kept = 0, closest = 0;
    double least = 0;
    for (int32_t i = 0; i < count; i++) {
        const Size window = scaled_window(c, scales[i]);
        const double dx = double(r.min_width) - window.width, dy = double(r.min_height) - window.height;
        if (i == 0 || dx * dx + dy * dy < least) {
            least = dx * dx + dy * dy;
            closest = i;
        }
    }
    const float fallback = scales[closest];
    for (int32_t i = 0; i < count; i++) {
        const Size window = scaled_window(c, scales[i]);
        if (window.width > max_width || window.height > max_height) break;
        if (window.width >= r.min_width && window.height >= r.min_height) scales[kept++] = scales[i];
    }
    if (!kept) scales[kept++] = fallback;
    return kept;
}

int32_t at_least_0(int32_t value) { return value > 0 ? value : 0; }

void fill_level(const fh_cascade &c, const fh_request &r, float scale, Level &level) {
    level.scale = scale;
    level.width = static_cast<int32_t>(lrintf(r.width / scale));
    level.height = static_cast<int32_t>(lrintf(r.height / scale));
    level.step = scale >= 2 ? 1 : 2;
    level.columns = at_least_0(level.width + 1 - c.window_width);  // pixels for now
    level.rows = at_least_0(level.height + 1 - c.window_height);
}

}  // namespace

Level *levels_create(const fh_cascade &c, const fh_request &r, int32_t &count) {
    count = list_scales(c, r, nullptr);
    if (!count) return nullptr;
    float *scales = static_cast<float *>(malloc(count * sizeof *scales));
    Level *levels = static_cast<Level *>(malloc(count * sizeof *levels));
    if (!scales || !levels) {
        free(scales);
        free(levels);
        count = -1;
        return nullptr;
    }
    list_scales(c, r, scales);
    count = choose_scales(c, r, scales, count);
    for (int32_t i = 0; i < count; i++) fill_level(c, r, scales[i], levels[i]);
    free(scales);
    // OpenCV cuts the rows into stripes for threads, as many as the first level is wide; rows that do not fill the last
    // one are not looked at.
    const int32_t stripes = levels[0].columns > 32 ? (levels[0].columns + 31) / 32 : 1;
    for (int32_t i = 0; i < count; i++) {
        Level &level = levels[i];
        const int32_t rows = (level.rows / level.step + stripes - 1) / stripes;
        const int64_t reached = int64_t(rows > 1 ? rows : 1) * level.step * stripes;
        if (reached < level.rows) level.rows = static_cast<int32_t>(reached);
        level.columns = (level.columns + level.step - 1) / level.step;
        level.rows = (level.rows + level.step - 1) / level.step;
    }
    return levels;
}

bool taps_create(Taps &taps, int32_t size, int32_t scaled_size) {
    const int32_t count = (scaled_size + 64) / 4 * 4;  // kernels read a few entries beyond the last one
    taps.index = static_cast<int32_t *>(calloc(count, sizeof *taps.index));
    taps.weights = static_cast<int16_t(*)[2]>(calloc(count, sizeof *taps.weights));
    taps.shuffle = static_cast<uint8_t(*)[16]>(calloc(count / 4, sizeof *taps.shuffle));
    if (!taps.index || !taps.weights || !taps.shuffle) return false;
    const double scale = 1. / (double(scaled_size) / size);
    for (int32_t i = 0; i < scaled_size; i++) {
        const double position = scale * (i + 0.5) - 0.5;
        const double whole = floor(position);
        int32_t second = 0;  // the weight of the second neighbour
        if (whole < 0 || size == 1) {
            taps.index[i] = 0;
        } else if (whole < size - 1) {
            taps.index[i] = static_cast<int32_t>(whole);
            second = static_cast<int32_t>(lrint((position - whole) * 256));
        } else {
            taps.index[i] = size - 2;
            second = 256;
        }
        taps.weights[i][0] = static_cast<int16_t>(256 - second);
        taps.weights[i][1] = static_cast<int16_t>(second);
    }
    taps.near = true;
    for (int32_t i = 0; i < scaled_size; i++) {
        const int32_t from = taps.index[i] - taps.index[i / 4 * 4];
        taps.near = taps.near && from <= 6;
        for (int k = 0; k < 4; k++) taps.shuffle[i / 4][i % 4 * 4 + k] = static_cast<uint8_t>(2 * from + k);
    }
    return true;
}

void taps_free(Taps &taps) {
    free(taps.index);
    free(taps.weights);
    free(taps.shuffle);
    taps = {};
}

}  // namespace fh
