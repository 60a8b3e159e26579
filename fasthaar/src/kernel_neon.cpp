// NEON: 4 windows a vector.
#include "windows.h"

namespace fh {
namespace {

bool supported() { return true; }  // every aarch64 has it

}  // namespace

extern const Kernel kernel_neon = {"neon", supported, work_create, work_free, detect};

}  // namespace fh
