// The plain loop: one window at a time, in OpenCV's order, with nothing clever. Every vector target must answer as it
// does.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cascade.h"

namespace fh {
namespace {

// The pixels and the integral images of a task's rows; row 0 of the latter is zeros.
struct Planes {
    int32_t width, rows, stride;
    uint8_t *pixels;
    int32_t *sum, *square, *tilted;
};

bool planes_create(Planes &p, int32_t width, int32_t rows) {
    p = {width, rows, width + 1, nullptr, nullptr, nullptr, nullptr};
    const size_t size = size_t(p.stride) * (rows + 1);
    p.pixels = static_cast<uint8_t *>(malloc(size_t(width) * rows));
    p.sum = static_cast<int32_t *>(calloc(3 * size, sizeof *p.sum));
    p.square = p.sum + size;
    p.tilted = p.square + size;
    return p.pixels && p.sum;
}

void planes_free(Planes &p) {
    free(p.pixels);
    free(p.sum);
}

bool resize(const Run &run, const Level &level, int32_t first, Planes &p) {
    Taps across = {}, down = {};
    const bool ready = taps_create(across, run.width, level.width) && taps_create(down, run.height, level.height);
    for (int32_t y = 0; ready && y < p.rows; y++) {
        const uint8_t *const above = run.image + run.row_stride * down.index[first + y];
        const uint8_t *const below = run.height > 1 ? above + run.row_stride : above;
        const int16_t *const wy = down.weights[first + y];
        for (int32_t x = 0; x < p.width; x++) {
            const int32_t i = across.index[x], j = run.width > 1 ? i + 1 : i;
            const int16_t *const wx = across.weights[x];
            const int32_t up = above[i] * wx[0] + above[j] * wx[1], low = below[i] * wx[0] + below[j] * wx[1];
            const int32_t value = up * wy[0] + low * wy[1];
            p.pixels[size_t(y) * p.width + x] = static_cast<uint8_t>((value + (1 << 15)) >> 16);
        }
    }
    taps_free(across);
    taps_free(down);
    return ready;
}

uint32_t pixel(const Planes &p, int32_t x, int32_t y) {
    return x >= 0 && x < p.width && y >= 0 && y < p.rows ? p.pixels[size_t(y) * p.width + x] : 0;
}

// Sums are formed modulo 2^32, as only differences of near ones are used.
void integrate(Planes &p) {
    for (int32_t y = 1; y <= p.rows; y++) {
        int32_t *const sum = p.sum + size_t(y) * p.stride, *const square = p.square + size_t(y) * p.stride;
        uint32_t row = 0, squares = 0;
        for (int32_t x = 1; x <= p.width; x++) {
            const uint32_t value = pixel(p, x - 1, y - 1);
            sum[x] = int32_t(uint32_t(sum[x - p.stride]) + (row += value));
            square[x] = int32_t(uint32_t(square[x - p.stride]) + (squares += value * value));
        }
    }
}

// (x, y) holds the sum of the pixels in the cone that opens upwards from the pixel above and left of it (Lienhart and
// Maydt, "An Extended Set of Haar-like Features for Rapid Object Detection", 2002).
void integrate_tilted(Planes &p) {
    for (int32_t y = 1; y <= p.rows; y++)
        for (int32_t x = 0; x <= p.width; x++) {
            int32_t *const t = p.tilted + size_t(y) * p.stride + x;
            const uint32_t own = pixel(p, x - 1, y - 1) + pixel(p, x - 1, y - 2);
            // Beyond the edges a cone is cut off: it is the one two rows higher on the edge.
            const uint32_t left = x > 0 ? uint32_t(t[-p.stride - 1]) : y > 1 ? uint32_t(t[-2 * p.stride]) : 0;
            const uint32_t right = x < p.width ? uint32_t(t[-p.stride + 1]) : y > 1 ? uint32_t(t[-2 * p.stride]) : 0;
            const uint32_t both = y > 1 ? uint32_t(t[-2 * p.stride]) : 0;
            *t = int32_t(left + right - both + own);
        }
}

// One over the standard deviation of the window times its area; false without contrast.
bool normalize(const Planes &p, const fh_cascade &c, int32_t x, int32_t y, float &norm) {
    const int32_t w = c.window_width - 2, h = c.window_height - 2;
    const size_t at = size_t(y + 1) * p.stride + x + 1, below = at + size_t(h) * p.stride;
    const int32_t *const s = p.sum, *const q = p.square;
    const int32_t sum = int32_t(uint32_t(s[at]) - uint32_t(s[at + w]) - uint32_t(s[below]) + uint32_t(s[below + w]));
    const uint32_t square = uint32_t(q[at]) - uint32_t(q[at + w]) - uint32_t(q[below]) + uint32_t(q[below + w]);
    const double area = double(w) * h;
    const double variance = area * square - double(sum) * sum;
    if (!(variance > 0)) return false;
    norm = static_cast<float>(1. / sqrt(variance));
    return area * norm < 1e-1;
}

// 1 for an accepted window, minus the stage that rejected it, or -1 for one without contrast.
int look(const fh_cascade &c, const Planes &p, const Geometry &g, int32_t x, int32_t y, double &weight) {
    float norm = 1;
    if (!c.lbp && !normalize(p, c, x, y, norm)) return -1;
    const int32_t *const window = p.sum + size_t(y) * p.stride + x;
    for (int32_t s = 0; s < c.stage_count; s++) {
        weight = exact_sum(c, s, window, g, norm);
        if (weight < c.stages[s].threshold) return -s;
    }
    return 1;
}

void look_at_all(Run &run, const Level &level, Task &task, const Planes &p, double &weight) {
    const fh_cascade &c = *run.cascade;
    const int32_t tilted = static_cast<int32_t>(p.tilted - p.sum);
    const Geometry g = {p.stride, {{0, 0}, {tilted, tilted}}, 0, 1};
    const int32_t first = task.first_row * level.step;
    for (int32_t row = task.first_row; row < task.last_row; row++) {
        if (!go_on(run)) return;
        for (int32_t column = 0; column < level.columns; column++) {
            const int32_t x = column * level.step, y = row * level.step;
            int result = look(c, p, g, x, y - first, weight);
            // OpenCV, asked for levels, takes -1 for the end of a cascade of one stage; see needs_plain_loop.
            if (run.want_weights && c.stage_count == 1 && result == -1) result = 1;
            if (result == 1 && !add_hit(run, task.hits, x, y, weight)) return;
            if (result == 0) column++;  // OpenCV skips the window behind one that fails the first stage
        }
    }
}

// The last window's sum, for needs_plain_loop: it goes on from level to level.
void *work_create(Run &, const Level *, int32_t) { return calloc(1, sizeof(double)); }

void detect(Run &run, const Level &level, Task &task, void *work) {
    const int32_t first = task.first_row * level.step;
    const int32_t rows = (task.last_row - task.first_row - 1) * level.step + run.cascade->window_height;
    Planes planes;
    if (planes_create(planes, level.width, rows) && resize(run, level, first, planes)) {
        integrate(planes);
        if (run.cascade->tilted) integrate_tilted(planes);
        look_at_all(run, level, task, planes, *static_cast<double *>(work));
    } else {
        stop(run, FH_OUT_OF_MEMORY);
    }
    planes_free(planes);
}

bool supported() { return true; }

}  // namespace

extern const Kernel kernel_scalar = {"scalar", supported, work_create, free, detect};

}  // namespace fh
