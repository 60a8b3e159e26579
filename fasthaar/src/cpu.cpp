#if defined(__x86_64__)
#include "cpu.h"

#include <cpuid.h>

namespace fh {
namespace {

const unsigned YMM_STATE = 0x06, ZMM_STATE = 0xe6;  // of XCR0: the registers that are kept when threads change

struct Leaf {
    unsigned a, b, c, d;
};

Leaf leaf(unsigned number) {
    Leaf l = {0, 0, 0, 0};
    if (!__get_cpuid_count(number, 0, &l.a, &l.b, &l.c, &l.d)) return {0, 0, 0, 0};
    return l;
}

bool kept(unsigned state) {
    if (!(leaf(1).c & bit_OSXSAVE)) return false;
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & state) == state;
}

}  // namespace

bool has_sse4() {
    const unsigned needed = bit_SSSE3 | bit_SSE4_1;
    return (leaf(1).c & needed) == needed;
}

bool has_avx2() { return kept(YMM_STATE) && (leaf(7).b & bit_AVX2); }

bool has_avx512() {
    const unsigned needed = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    return kept(ZMM_STATE) && (leaf(7).b & needed) == needed;
}

}  // namespace fh
#endif
