// SSE4.1: 4 windows a vector.
#include "windows.h"

namespace fh {
namespace {

bool supported() {
    return __builtin_cpu_supports("sse4.1");
}

}  // namespace

extern const Kernel kernel_sse4 = {"sse4", supported, work_create, work_free, detect};

}  // namespace fh
