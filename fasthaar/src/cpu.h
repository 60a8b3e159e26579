// What the processor and the operating system allow, on x86-64. Compiled for the least of these processors, unlike the
// kernels; and without __builtin_cpu_supports, which needs a part of the compiler's own library that zig does not have.
#pragma once

namespace fh {

bool has_sse4();    // SSSE3 and SSE4.1
bool has_avx2();
bool has_avx512();  // F, BW, DQ and VL

}  // namespace fh
