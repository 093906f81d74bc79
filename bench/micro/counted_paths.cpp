// The only function that libace-counting.so has beside libace.so's: the core of both is the same, here compiled
// so that it counts which way operations go (src/base/path.h).
#include <ace/ace.h>

#include "base/path.h"

extern "C" ACE_API void ace_count_paths(uint64_t *warm, uint64_t *cold) {
  *warm = ace::g_warm_operations.load(std::memory_order_relaxed);
  *cold = ace::g_cold_operations.load(std::memory_order_relaxed);
}
