// The steps of the pyramid, and the taps of the resize between them.
#pragma once

#include "cascade.h"

namespace fh {

// The levels at which OpenCV looks, in its order; NULL with count 0 when there are none, or with -1 for want of memory.
Level *levels_create(const fh_cascade &cascade, const fh_request &request, int32_t &count);

}  // namespace fh
