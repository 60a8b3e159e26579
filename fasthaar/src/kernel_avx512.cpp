// AVX-512 (F, BW, DQ, VL, VBMI): 16 windows a vector.
#include "windows.h"

namespace fh {
namespace {

bool supported() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}

}  // namespace

extern const Kernel kernel_avx512 = {"avx512", supported, work_create, work_free, detect};

}  // namespace fh
