// The lines of a level: resized from the image, and their integral images, kept for a band of rows.
//
// Where windows are two pixels apart, even and odd columns lie apart, so that neighbouring windows are neighbours in
// memory.
#pragma once

#include <stdlib.h>

#include "cascade.h"
#include "vector.h"

namespace fh {
namespace {

const int SLACK = 64;  // entries that may be read or written beyond a line's end

// blended[x] = (above[x] * w[0] + below[x] * w[1]) - 32768, in 1/256 of a grey level.
inline void blend(const uint8_t *above, const uint8_t *below, const int16_t *w, int32_t count, int16_t *blended) {
    const uint16_t w0 = uint16_t(w[0]), w1 = uint16_t(w[1]);
    for (int32_t x = 0; x < count; x++) blended[x] = int16_t(uint16_t(above[x] * w0 + below[x] * w1 - 32768));
}

template <bool NEAR>
inline void shrink(const int16_t *blended, const Taps &taps, int32_t count, uint8_t *pixels) {
    const int32_t undo = 32768 * 256, half = 1 << 15;
    for (int32_t x = 0; x < count; x += LANES) {
        const int32_t *const index = taps.index + x;
        const Ints pairs = NEAR ? near_pairs(blended, index, taps.shuffle + x / 4) : far_pairs(blended, index);
        const Ints value = (weigh(pairs, taps.weights + x) + (undo + half)) >> 16;
        store_bytes(pixels + x, value);
    }
}

// Planes of one line of the integral images; odd is NULL where columns lie together.
struct Line {
    int32_t *even, *odd;
};

inline Line line_of(int32_t *row, const int32_t (&plane)[2], int32_t shift) {
    return {row + plane[0], shift ? row + plane[1] : nullptr};
}

inline Ints words_to_ints(Words w) { return __builtin_convertvector(w, Ints); }

inline Words bytes_to_words(const uint8_t *from) {
    return __builtin_convertvector(*reinterpret_cast<const UnalignedBytes *>(from), Words);
}

// The running sums of a line of pixels and of their squares, added to the line above.
inline void integrate(const uint8_t *pixels, int32_t width, Line sum_above, Line sum, Line square_above, Line square) {
    Ints sums = {}, squares = {};  // up to here, in all lanes
    sum.even[0] = 0;
    if (square.even) square.even[0] = 0;
    if (!sum.odd) {
        for (int32_t x = 0; x < width; x += LANES) {
            const Words v = bytes_to_words(pixels + x);
            const Ints s = sums + prefix(words_to_ints(v));
            store(sum.even + x + 1, load(sum_above.even + x + 1) + s);
            sums = last(s);
            if (!square.even) continue;
            const Ints q = squares + prefix(words_to_ints(v * v));
            store(square.even + x + 1, load(square_above.even + x + 1) + q);
            squares = last(q);
        }
        return;
    }
    for (int32_t i = 0; 2 * i <= width; i += LANES) {
        const Words pairs = *reinterpret_cast<const UnalignedWords *>(pixels + 2 * i);
        const Words left = pairs & 255, right = pairs >> 8;
        const Ints a = words_to_ints(left), both = words_to_ints(left + right);
        const Ints s = sums + prefix(both);
        store(sum.even + i + 1, load(sum_above.even + i + 1) + s);
        store(sum.odd + i, load(sum_above.odd + i) + (s - both + a));
        sums = last(s);
        if (!square.even) continue;
        const Ints a2 = words_to_ints(left * left), both2 = a2 + words_to_ints(right * right);
        const Ints q = squares + prefix(both2);
        store(square.even + i + 1, load(square_above.even + i + 1) + q);
        store(square.odd + i, load(square_above.odd + i) + (q - both2 + a2));
        squares = last(q);
    }
}

// The next line of the tilted integral image from the two above it and the two last lines of pixels; see
// kernel_scalar.cpp. `pixels` is the upper of the two for rows that have one, else NULL.
inline void integrate_tilted(const uint8_t *upper, const uint8_t *lower, int32_t width, Line two_above, Line above,
                             Line line) {
    const int32_t own_last = upper[width - 1] + lower[width - 1], half = width / 2;
    if (!line.odd) {
        for (int32_t x = 1; x < width; x += LANES) {
            const Words own = bytes_to_words(upper + x - 1) + bytes_to_words(lower + x - 1);
            store(line.even + x, load(above.even + x - 1) + load(above.even + x + 1) - load(two_above.even + x) +
                                     words_to_ints(own));
        }
        line.even[0] = above.even[1];
        line.even[width] = above.even[width - 1] + own_last;
        return;
    }
    for (int32_t i = 0; i <= half; i += LANES) {
        const Words a = *reinterpret_cast<const UnalignedWords *>(upper + 2 * i);
        const Words b = *reinterpret_cast<const UnalignedWords *>(lower + 2 * i);
        const Ints next = load(above.even + i + 1), odd = load(above.odd + i);
        store(line.odd + i,
              load(above.even + i) + next - load(two_above.odd + i) + words_to_ints((a & 255) + (b & 255)));
        store(line.even + i + 1,
              odd + load(above.odd + i + 1) - load(two_above.even + i + 1) + words_to_ints((a >> 8) + (b >> 8)));
    }
    line.even[0] = above.odd[0];
    if (width % 2) line.odd[half] = above.even[half] + own_last;
    else line.even[half] = above.odd[half - 1] + own_last;
}

}  // namespace
}  // namespace fh
