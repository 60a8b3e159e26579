// AVX2: 8 windows a vector.
#include "windows.h"

namespace fh {
namespace {

bool supported() {
    return __builtin_cpu_supports("avx2");
}

}  // namespace

extern const Kernel kernel_avx2 = {"avx2", supported, work_create, work_free, detect};

}  // namespace fh
