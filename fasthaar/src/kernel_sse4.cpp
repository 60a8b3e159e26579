// SSE4.1: 4 windows a vector.
#include "cpu.h"
#include "windows.h"

namespace fh {

extern const Kernel kernel_sse4 = {"sse4", has_sse4, work_create, work_free, detect};

}  // namespace fh
