// A band of rows of a level's integral images, small enough for the cache, that moves down the level.
#pragma once

#include <stdlib.h>
#include <string.h>

#include "rows.h"

namespace fh {
namespace {

const int32_t BAND_BYTES = 1 << 20;
const int32_t MIN_NEW_ROWS = 32;  // that a move makes room for

enum { SUM, TILTED, SQUARE };

// Where lines lie in a band; one for levels whose windows are two pixels apart, one for the others.
struct Layout {
    Geometry geometry;          // of SUM and TILTED
    int32_t square[2];          // the planes of squares, even and odd columns
    int32_t row;                // entries from one row to the next
    int32_t capacity;           // rows
};

struct Band {
    int32_t *memory;
    int16_t *blended;
    uint8_t *pixels[2];  // the last two lines of the level
    uint8_t *nothing;    // a line of zeros
    Taps across, down;
    Level level;         // of the taps
    const Layout *layout;
    int32_t top;         // the level's row that is row 0 of the band
    int32_t filled;      // rows of the band that are there
};

inline Layout layout_create(const fh_cascade &c, int32_t width, int32_t height, int32_t shift) {
    Layout layout = {};
    const int32_t plane = (((width >> shift) + 2 + SLACK + 15) / 16) * 16;
    int32_t at = 0;
    for (int odd = 0; odd <= shift; odd++, at += plane) layout.geometry.plane[0][odd] = at;
    if (c.tilted)
        for (int odd = 0; odd <= shift; odd++, at += plane) layout.geometry.plane[1][odd] = at;
    if (!c.lbp)
        for (int odd = 0; odd <= shift; odd++, at += plane) layout.square[odd] = at;
    layout.row = (at / 16 | 1) * 16;  // an odd number of cache lines, so that rows do not compete for the same sets
    layout.geometry.row = layout.row;
    layout.geometry.shift = shift;
    layout.geometry.unit = 1;
    const int32_t least = c.window_height + 1 + MIN_NEW_ROWS;
    const int32_t fits = BAND_BYTES / (4 * layout.row);
    layout.capacity = fits > least ? fits : least;
    if (layout.capacity > height + 1) layout.capacity = height + 1;
    return layout;
}

inline bool band_create(Band &band, const Run &run, const Layout (&layouts)[2], int32_t width) {
    size_t size = 0;
    for (const Layout &layout : layouts)
        if (size < size_t(layout.row) * layout.capacity) size = size_t(layout.row) * layout.capacity;
    band.memory = static_cast<int32_t *>(calloc(size + 4 * SLACK, sizeof(int32_t)));
    band.blended = static_cast<int16_t *>(calloc(run.width + SLACK, sizeof(int16_t)));
    band.pixels[0] = static_cast<uint8_t *>(calloc(width + 2 * SLACK, 1));
    band.pixels[1] = static_cast<uint8_t *>(calloc(width + 2 * SLACK, 1));
    band.nothing = static_cast<uint8_t *>(calloc(width + 2 * SLACK, 1));
    return band.memory && band.blended && band.pixels[0] && band.pixels[1] && band.nothing;
}

inline void band_free(Band &band) {
    free(band.memory);
    free(band.blended);
    free(band.pixels[0]);
    free(band.pixels[1]);
    free(band.nothing);
    taps_free(band.across);
    taps_free(band.down);
}

// Starts a band at a row of a level, with one row of zeros.
inline bool band_start(Band &band, const Run &run, const Level &level, const Layout &layout, int32_t top) {
    if (band.level.width != level.width || band.level.height != level.height) {
        taps_free(band.across);
        taps_free(band.down);
        band.level = level;
        if (!taps_create(band.across, run.width, level.width) || !taps_create(band.down, run.height, level.height))
            return false;
    }
    band.layout = &layout;
    band.top = top;
    band.filled = 1;
    memset(band.memory, 0, layout.row * sizeof(int32_t));
    return true;
}

inline int32_t *band_row(const Band &band, int32_t row) { return band.memory + size_t(row) * band.layout->row; }

inline Line band_line(const Band &band, int32_t row, int plane) {
    const Layout &layout = *band.layout;
    return line_of(band_row(band, row), plane == SQUARE ? layout.square : layout.geometry.plane[plane == TILTED],
                   layout.geometry.shift);
}

inline void level_line(Band &band, const Run &run, int32_t y, uint8_t *pixels) {
    const uint8_t *const above = run.image + run.row_stride * band.down.index[y];
    const uint8_t *const below = run.height > 1 ? above + run.row_stride : above;
    const int16_t *const w = band.down.weights[y];
    if (band.level.width == run.width && band.level.height == run.height) {
        memcpy(pixels, w[1] ? below : above, run.width);
        return;
    }
    blend(above, below, w, run.width, band.blended);
    if (band.across.near) shrink<true>(band.blended, band.across, band.level.width, pixels);
    else shrink<false>(band.blended, band.across, band.level.width, pixels);
}

// Fills the band up to a row, which is within its capacity.
inline void band_fill(Band &band, const Run &run, int32_t last_row) {
    for (; band.filled <= last_row; band.filled++) {
        const int32_t row = band.filled, y = band.top + row - 1;
        uint8_t *const pixels = band.pixels[y & 1];
        level_line(band, run, y, pixels);
        const Line none = {nullptr, nullptr};
        const bool lbp = run.cascade->lbp;
        integrate(pixels, band.level.width, band_line(band, row - 1, SUM), band_line(band, row, SUM),
                  lbp ? none : band_line(band, row - 1, SQUARE), lbp ? none : band_line(band, row, SQUARE));
        if (!run.cascade->tilted) continue;
        const Line first = band_line(band, 0, TILTED);  // zeros while row is 1
        integrate_tilted(row > 1 ? band.pixels[(y & 1) ^ 1] : band.nothing, pixels, band.level.width,
                         row > 1 ? band_line(band, row - 2, TILTED) : first, band_line(band, row - 1, TILTED),
                         band_line(band, row, TILTED));
    }
}

// Moves the band down so that its row 0 is another row of the level, which it holds.
inline void band_move(Band &band, int32_t top) {
    const int32_t gone = top - band.top;
    memmove(band.memory, band_row(band, gone), size_t(band.filled - gone) * band.layout->row * sizeof(int32_t));
    band.top = top;
    band.filled -= gone;
}

}  // namespace
}  // namespace fh
