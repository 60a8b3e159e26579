// AVX-512 (F, BW, DQ, VL): 16 windows a vector.
#include "cpu.h"
#include "windows.h"

namespace fh {

extern const Kernel kernel_avx512 = {"avx512", has_avx512, work_create, work_free, detect};

}  // namespace fh
