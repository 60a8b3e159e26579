// What a vector target is made of. Each kernel_*.cpp has its own copy, compiled for its own instruction set.
//
// Arithmetic is written with the compilers' vector extensions; only what these lack is spelled out per target.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace fh {
namespace {

#if defined(__AVX512F__)
const int LANES = 16;
#elif defined(__AVX2__)
const int LANES = 8;
#else
const int LANES = 4;
#endif

typedef int32_t Ints __attribute__((vector_size(4 * LANES), may_alias));
typedef int32_t UnalignedInts __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float Floats __attribute__((vector_size(4 * LANES), may_alias));
typedef float UnalignedFloats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint16_t Words __attribute__((vector_size(2 * LANES), may_alias));
typedef uint16_t UnalignedWords __attribute__((vector_size(2 * LANES), aligned(1), may_alias));
typedef uint8_t Bytes __attribute__((vector_size(LANES), may_alias));
typedef uint8_t UnalignedBytes __attribute__((vector_size(LANES), aligned(1), may_alias));

inline __attribute__((always_inline)) Ints load(const int32_t *from) {
    return *reinterpret_cast<const UnalignedInts *>(from);
}

inline __attribute__((always_inline)) void store(int32_t *to, Ints value) {
    *reinterpret_cast<UnalignedInts *>(to) = value;
}

inline __attribute__((always_inline)) Floats splat(float value) { return value - Floats{}; }

inline __attribute__((always_inline)) Floats to_floats(Ints value) { return __builtin_convertvector(value, Floats); }

// Mask: one truth value per lane. bits: lane i at bit i.
// less, at_least, equal: compare. where: the value where the mask is set, else 0.
// multiply_subtract: a * b - c, of numbers with which nothing is rounded.
// inverse_deviation: (float)(1 / sqrt(area * squares - sums * sums)); NaN or infinity without contrast.
// prefix: the running sum. last: the last lane in all lanes.
// four_columns: lane i of column k is from[i][offset + k].
// in_subset: whether the bit of the code, 0..255, is set.
// far_pairs, near_pairs: for each tap two neighbours of a line, as 16 bits each; see Taps.
// weigh: the sums of the pairs, weighted. store_bytes: numbers of 0..255 (compilers convert them one by one).

#if defined(__x86_64__)
inline __m128i quarter(const int32_t *from) { return _mm_loadu_si128(reinterpret_cast<const __m128i *>(from)); }
inline __m128i eight(const int16_t *from) { return _mm_loadu_si128(reinterpret_cast<const __m128i *>(from)); }
#endif

#if defined(__AVX512F__)

typedef __mmask16 Mask;

inline __m512i raw(Ints v) { return reinterpret_cast<__m512i>(v); }
inline Ints ints(__m512i v) { return reinterpret_cast<Ints>(v); }
inline Mask equal(Ints a, int32_t b) { return _mm512_cmpeq_epi32_mask(raw(a), _mm512_set1_epi32(b)); }
inline uint32_t bits(Mask m) { return m; }
inline Mask less(Floats a, Floats b) {
    return _mm512_cmp_ps_mask(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), _CMP_LT_OQ);
}
inline Mask at_least(Ints a, Ints b) { return _mm512_cmpge_epi32_mask(raw(a), raw(b)); }
inline Floats multiply_subtract(Floats a, float b, Floats c) {
    return reinterpret_cast<Floats>(
        _mm512_fmsub_ps(reinterpret_cast<__m512>(a), _mm512_set1_ps(b), reinterpret_cast<__m512>(c)));
}
inline Ints add_where(Ints sum, Mask m, int32_t value) {
    return ints(_mm512_mask_add_epi32(raw(sum), m, raw(sum), _mm512_set1_epi32(value)));
}

inline __m512d variance_of(Ints sums, Ints squares, int half, double area) {
    const __m512d s =
        _mm512_cvtepi32_pd(half ? _mm512_extracti64x4_epi64(raw(sums), 1) : _mm512_castsi512_si256(raw(sums)));
    const __m512d q =
        _mm512_cvtepi32_pd(half ? _mm512_extracti64x4_epi64(raw(squares), 1) : _mm512_castsi512_si256(raw(squares)));
    return _mm512_sub_pd(_mm512_mul_pd(_mm512_set1_pd(area), q), _mm512_mul_pd(s, s));
}

// Two steps of Newton's method give all but the last bits of the quotient, in a fifth of the time of a root and a
// division. Only where these bits decide how it is rounded to float, they are needed.
inline Floats inverse_deviation(Ints sums, Ints squares, double area) {
    __m256 half[2];
    for (int i = 0; i < 2; i++) {
        const __m512d variance = variance_of(sums, squares, i, area);
        const __m512d halved = _mm512_mul_pd(variance, _mm512_set1_pd(0.5));
        __m512d root = _mm512_rsqrt14_pd(variance);
        for (int step = 0; step < 2; step++)
            root = _mm512_mul_pd(root, _mm512_fnmadd_pd(_mm512_mul_pd(halved, root), root, _mm512_set1_pd(1.5)));
        // The 29 bits that a float has no room for: halfway is 1 and 28 zeros.
        const __m512i rest = _mm512_and_si512(_mm512_castpd_si512(root), _mm512_set1_epi64((1 << 29) - 1));
        const __m512i from_halfway = _mm512_sub_epi64(rest, _mm512_set1_epi64((1 << 28) - 64));
        if (_mm512_cmplt_epu64_mask(from_halfway, _mm512_set1_epi64(128)))
            root = _mm512_div_pd(_mm512_set1_pd(1), _mm512_sqrt_pd(variance));
        half[i] = _mm512_cvtpd_ps(root);
    }
    return reinterpret_cast<Floats>(_mm512_insertf32x8(_mm512_castps256_ps512(half[0]), half[1], 1));
}

inline Ints prefix(Ints v) {
    const __m512i zero = _mm512_setzero_si512();
    v += ints(_mm512_alignr_epi32(raw(v), zero, 15));
    v += ints(_mm512_alignr_epi32(raw(v), zero, 14));
    v += ints(_mm512_alignr_epi32(raw(v), zero, 12));
    return v + ints(_mm512_alignr_epi32(raw(v), zero, 8));
}

inline Ints last(Ints v) { return ints(_mm512_permutexvar_epi32(_mm512_set1_epi32(15), raw(v))); }

// The quarters of row k come from lanes k, 4 + k, 8 + k and 12 + k: loads do what would be shuffles.
inline void four_columns(const int32_t *const *from, ptrdiff_t offset, Ints (&columns)[4]) {
    __m512i rows[4];
    for (int k = 0; k < 4; k++) {
        rows[k] = _mm512_castsi128_si512(quarter(from[k] + offset));
        rows[k] = _mm512_mask_broadcast_i32x4(rows[k], 0x00f0, quarter(from[4 + k] + offset));
        rows[k] = _mm512_mask_broadcast_i32x4(rows[k], 0x0f00, quarter(from[8 + k] + offset));
        rows[k] = _mm512_mask_broadcast_i32x4(rows[k], 0xf000, quarter(from[12 + k] + offset));
    }
    const __m512i a = _mm512_unpacklo_epi32(rows[0], rows[1]), b = _mm512_unpackhi_epi32(rows[0], rows[1]);
    const __m512i c = _mm512_unpacklo_epi32(rows[2], rows[3]), d = _mm512_unpackhi_epi32(rows[2], rows[3]);
    columns[0] = ints(_mm512_unpacklo_epi64(a, c));
    columns[1] = ints(_mm512_unpackhi_epi64(a, c));
    columns[2] = ints(_mm512_unpacklo_epi64(b, d));
    columns[3] = ints(_mm512_unpackhi_epi64(b, d));
}

inline Mask in_subset(Ints code, const uint32_t *subset) {
    const __m512i table =
        _mm512_broadcast_i32x8(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(subset)));
    const __m512i words = _mm512_permutexvar_epi32(_mm512_srli_epi32(raw(code), 5), table);
    return _mm512_test_epi32_mask(_mm512_rorv_epi32(words, raw(code)), _mm512_set1_epi32(1));
}

inline Ints far_pairs(const int16_t *line, const int32_t *index) {
    return ints(_mm512_i32gather_epi32(_mm512_loadu_si512(index), line, 2));
}

inline Ints near_pairs(const int16_t *line, const int32_t *index, const uint8_t (*shuffle)[16]) {
    __m512i bytes = _mm512_castsi128_si512(eight(line + index[0]));
    bytes = _mm512_mask_broadcast_i32x4(bytes, 0x00f0, eight(line + index[4]));
    bytes = _mm512_mask_broadcast_i32x4(bytes, 0x0f00, eight(line + index[8]));
    bytes = _mm512_mask_broadcast_i32x4(bytes, 0xf000, eight(line + index[12]));
    return ints(_mm512_shuffle_epi8(bytes, _mm512_loadu_si512(shuffle)));
}

inline void store_bytes(uint8_t *to, Ints v) {
    _mm_storeu_si128(reinterpret_cast<__m128i *>(to), _mm512_cvtepi32_epi8(raw(v)));
}

inline Ints weigh(Ints pairs, const int16_t (*weights)[2]) {
    return ints(_mm512_madd_epi16(raw(pairs), _mm512_loadu_si512(weights)));
}

#elif defined(__AVX2__)

typedef Ints Mask;

inline __m256i raw(Ints v) { return reinterpret_cast<__m256i>(v); }
inline Ints ints(__m256i v) { return reinterpret_cast<Ints>(v); }
inline uint32_t bits(Mask m) { return uint32_t(_mm256_movemask_ps(_mm256_castsi256_ps(raw(m)))); }

inline Floats inverse_deviation(Ints sums, Ints squares, double area) {
    __m128 half[2];
    for (int i = 0; i < 2; i++) {
        const __m256d s =
            _mm256_cvtepi32_pd(i ? _mm256_extracti128_si256(raw(sums), 1) : _mm256_castsi256_si128(raw(sums)));
        const __m256d q =
            _mm256_cvtepi32_pd(i ? _mm256_extracti128_si256(raw(squares), 1) : _mm256_castsi256_si128(raw(squares)));
        const __m256d variance = _mm256_sub_pd(_mm256_mul_pd(_mm256_set1_pd(area), q), _mm256_mul_pd(s, s));
        half[i] = _mm256_cvtpd_ps(_mm256_div_pd(_mm256_set1_pd(1), _mm256_sqrt_pd(variance)));
    }
    return reinterpret_cast<Floats>(_mm256_set_m128(half[1], half[0]));
}

inline Ints prefix(Ints v) {
    v += ints(_mm256_slli_si256(raw(v), 4));
    v += ints(_mm256_slli_si256(raw(v), 8));
    const __m256i low = _mm256_permute2x128_si256(raw(v), raw(v), 0x08);  // the lower half in the upper one, 0 below
    return v + ints(_mm256_shuffle_epi32(low, 0xff));
}

inline Ints last(Ints v) { return ints(_mm256_permutevar8x32_epi32(raw(v), _mm256_set1_epi32(7))); }

inline void four_columns(const int32_t *const *from, ptrdiff_t offset, Ints (&columns)[4]) {
    __m256i rows[4];
    for (int k = 0; k < 4; k++)
        rows[k] = _mm256_inserti128_si256(_mm256_castsi128_si256(quarter(from[k] + offset)),
                                          quarter(from[4 + k] + offset), 1);
    const __m256i a = _mm256_unpacklo_epi32(rows[0], rows[1]), b = _mm256_unpackhi_epi32(rows[0], rows[1]);
    const __m256i c = _mm256_unpacklo_epi32(rows[2], rows[3]), d = _mm256_unpackhi_epi32(rows[2], rows[3]);
    columns[0] = ints(_mm256_unpacklo_epi64(a, c));
    columns[1] = ints(_mm256_unpackhi_epi64(a, c));
    columns[2] = ints(_mm256_unpacklo_epi64(b, d));
    columns[3] = ints(_mm256_unpackhi_epi64(b, d));
}

inline Mask in_subset(Ints code, const uint32_t *subset) {
    const __m256i table = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(subset));
    const __m256i words = _mm256_permutevar8x32_epi32(table, _mm256_srli_epi32(raw(code), 5));
    const __m256i shifts = _mm256_sub_epi32(_mm256_set1_epi32(31), _mm256_and_si256(raw(code), _mm256_set1_epi32(31)));
    return ints(_mm256_srai_epi32(_mm256_sllv_epi32(words, shifts), 31));
}

inline Ints far_pairs(const int16_t *line, const int32_t *index) {
    return ints(_mm256_i32gather_epi32(reinterpret_cast<const int *>(line),
                                       _mm256_loadu_si256(reinterpret_cast<const __m256i *>(index)), 2));
}

inline Ints near_pairs(const int16_t *line, const int32_t *index, const uint8_t (*shuffle)[16]) {
    const __m256i bytes =
        _mm256_inserti128_si256(_mm256_castsi128_si256(eight(line + index[0])), eight(line + index[4]), 1);
    return ints(_mm256_shuffle_epi8(bytes, _mm256_loadu_si256(reinterpret_cast<const __m256i *>(shuffle))));
}

inline void store_bytes(uint8_t *to, Ints v) {
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(raw(v)), _mm256_extracti128_si256(raw(v), 1));
    _mm_storel_epi64(reinterpret_cast<__m128i *>(to), _mm_packus_epi16(words, words));
}

inline Ints weigh(Ints pairs, const int16_t (*weights)[2]) {
    return ints(_mm256_madd_epi16(raw(pairs), _mm256_loadu_si256(reinterpret_cast<const __m256i *>(weights))));
}

#else

typedef Ints Mask;

#if defined(__x86_64__)

inline __m128i raw(Ints v) { return reinterpret_cast<__m128i>(v); }
inline Ints ints(__m128i v) { return reinterpret_cast<Ints>(v); }
inline uint32_t bits(Mask m) { return uint32_t(_mm_movemask_ps(_mm_castsi128_ps(raw(m)))); }

inline Floats inverse_deviation(Ints sums, Ints squares, double area) {
    __m128 half[2];
    for (int i = 0; i < 2; i++) {
        const __m128d s = _mm_cvtepi32_pd(i ? _mm_shuffle_epi32(raw(sums), 0xee) : raw(sums));
        const __m128d q = _mm_cvtepi32_pd(i ? _mm_shuffle_epi32(raw(squares), 0xee) : raw(squares));
        const __m128d variance = _mm_sub_pd(_mm_mul_pd(_mm_set1_pd(area), q), _mm_mul_pd(s, s));
        half[i] = _mm_cvtpd_ps(_mm_div_pd(_mm_set1_pd(1), _mm_sqrt_pd(variance)));
    }
    return reinterpret_cast<Floats>(_mm_movelh_ps(half[0], half[1]));
}

inline Ints prefix(Ints v) {
    v += ints(_mm_slli_si128(raw(v), 4));
    return v + ints(_mm_slli_si128(raw(v), 8));
}

inline Ints last(Ints v) { return ints(_mm_shuffle_epi32(raw(v), 0xff)); }

inline void four_columns(const int32_t *const *from, ptrdiff_t offset, Ints (&columns)[4]) {
    const __m128i a = _mm_unpacklo_epi32(quarter(from[0] + offset), quarter(from[1] + offset));
    const __m128i b = _mm_unpackhi_epi32(quarter(from[0] + offset), quarter(from[1] + offset));
    const __m128i c = _mm_unpacklo_epi32(quarter(from[2] + offset), quarter(from[3] + offset));
    const __m128i d = _mm_unpackhi_epi32(quarter(from[2] + offset), quarter(from[3] + offset));
    columns[0] = ints(_mm_unpacklo_epi64(a, c));
    columns[1] = ints(_mm_unpackhi_epi64(a, c));
    columns[2] = ints(_mm_unpacklo_epi64(b, d));
    columns[3] = ints(_mm_unpackhi_epi64(b, d));
}

inline Ints near_pairs(const int16_t *line, const int32_t *index, const uint8_t (*shuffle)[16]) {
    return ints(_mm_shuffle_epi8(eight(line + index[0]), _mm_loadu_si128(reinterpret_cast<const __m128i *>(shuffle))));
}

inline void store_bytes(uint8_t *to, Ints v) {
    const __m128i words = _mm_packus_epi32(raw(v), raw(v));
    const int32_t bytes = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
    memcpy(to, &bytes, 4);
}

inline Ints weigh(Ints pairs, const int16_t (*weights)[2]) {
    return ints(_mm_madd_epi16(raw(pairs), _mm_loadu_si128(reinterpret_cast<const __m128i *>(weights))));
}

#elif defined(__aarch64__)

inline int32x4_t raw(Ints v) { return reinterpret_cast<int32x4_t>(v); }
inline Ints ints(int32x4_t v) { return reinterpret_cast<Ints>(v); }
inline uint32_t bits(Mask m) {
    const Ints weights = {1, 2, 4, 8};
    return uint32_t(vaddvq_s32(raw(m & weights)));
}

inline Floats inverse_deviation(Ints sums, Ints squares, double area) {
    float32x2_t half[2];
    for (int i = 0; i < 2; i++) {
        const float64x2_t s = vcvtq_f64_s64(vmovl_s32(i ? vget_high_s32(raw(sums)) : vget_low_s32(raw(sums))));
        const float64x2_t q = vcvtq_f64_s64(vmovl_s32(i ? vget_high_s32(raw(squares)) : vget_low_s32(raw(squares))));
        const float64x2_t variance = vsubq_f64(vmulq_f64(vdupq_n_f64(area), q), vmulq_f64(s, s));
        half[i] = vcvt_f32_f64(vdivq_f64(vdupq_n_f64(1), vsqrtq_f64(variance)));
    }
    return reinterpret_cast<Floats>(vcombine_f32(half[0], half[1]));
}

inline Ints prefix(Ints v) {
    const int32x4_t zero = vdupq_n_s32(0);
    v += ints(vextq_s32(zero, raw(v), 3));
    return v + ints(vextq_s32(zero, raw(v), 2));
}

inline Ints near_pairs(const int16_t *line, const int32_t *index, const uint8_t (*shuffle)[16]) {
    const uint8x16_t bytes = vreinterpretq_u8_s16(vld1q_s16(line + index[0]));
    return ints(vreinterpretq_s32_u8(vqtbl1q_u8(bytes, vld1q_u8(*shuffle))));
}

inline void store_bytes(uint8_t *to, Ints v) {
    const uint16x4_t words = vmovn_u32(vreinterpretq_u32_s32(raw(v)));
    const uint8x8_t bytes = vmovn_u16(vcombine_u16(words, words));
    vst1_lane_u32(reinterpret_cast<uint32_t *>(to), vreinterpret_u32_u8(bytes), 0);
}

inline Ints weigh(Ints pairs, const int16_t (*weights)[2]) {
    const Ints taps = load(reinterpret_cast<const int32_t *>(weights));
    return (pairs << 16 >> 16) * (taps << 16 >> 16) + (pairs >> 16) * (taps >> 16);
}

inline Ints last(Ints v) { return ints(vdupq_laneq_s32(raw(v), 3)); }

inline void four_columns(const int32_t *const *from, ptrdiff_t offset, Ints (&columns)[4]) {
    const int32x4_t r0 = vld1q_s32(from[0] + offset), r1 = vld1q_s32(from[1] + offset);
    const int32x4_t r2 = vld1q_s32(from[2] + offset), r3 = vld1q_s32(from[3] + offset);
    const int32x4_t a = vzip1q_s32(r0, r2), b = vzip2q_s32(r0, r2), c = vzip1q_s32(r1, r3), d = vzip2q_s32(r1, r3);
    columns[0] = ints(vzip1q_s32(a, c));
    columns[1] = ints(vzip2q_s32(a, c));
    columns[2] = ints(vzip1q_s32(b, d));
    columns[3] = ints(vzip2q_s32(b, d));
}

#endif

inline Mask in_subset(Ints code, const uint32_t *subset) {
    Mask found;
    for (int i = 0; i < LANES; i++) found[i] = -int32_t(subset[code[i] >> 5] >> (code[i] & 31) & 1);
    return found;
}

inline Ints far_pairs(const int16_t *line, const int32_t *index) {
    Ints pairs;
    for (int i = 0; i < LANES; i++) memcpy(reinterpret_cast<int32_t *>(&pairs) + i, line + index[i], 4);
    return pairs;
}

#endif

#if !defined(__AVX512F__)
inline Floats multiply_subtract(Floats a, float b, Floats c) { return a * b - c; }
inline Mask equal(Ints a, int32_t b) { return a == b; }
inline Mask less(Floats a, Floats b) { return reinterpret_cast<Mask>(a < b); }
inline Mask at_least(Ints a, Ints b) { return a >= b; }
inline Ints add_where(Ints sum, Mask m, int32_t value) { return sum + (m & value); }
#endif

}  // namespace
}  // namespace fh
