// AVX2: 8 windows a vector.
#include "cpu.h"
#include "windows.h"

namespace fh {

extern const Kernel kernel_avx2 = {"avx2", has_avx2, work_create, work_free, detect};

}  // namespace fh
