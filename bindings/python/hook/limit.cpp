// The limit of the heap for mem and obj, and who is told before it is reached: the heap's own limit is lower
// until then. Under a GIL, in the holder's calls.
#include <utility>

#include "python/hook/hook.h"

namespace ace::python {
namespace {

ace_heap *g_limited;
size_t g_limit;         // what was asked for
void (*g_tell_near)();  // nullptr: nobody is told

void arm() {
  if (g_limited == nullptr) return;
  ace_heap_set_limit(g_limited, g_tell_near == nullptr ? g_limit : g_limit - g_limit / 8);
}

}  // namespace

void begin_limit(ace_heap *heap, size_t limit) {
  g_limited = heap;
  g_limit = limit;
}

int near_limit(ace_heap *heap, size_t, void *) {
  if (g_tell_near == nullptr || heap != g_limited || ace_heap_set_limit(heap, g_limit) == g_limit) return 0;
  g_tell_near();
  return 1;
}

void arm_limit_after_collection() {
  if (g_tell_near == nullptr || g_limited == nullptr) return;
  ace_stats stats{};
  ace_heap_stats_shared(g_limited, &stats, sizeof stats);
  if (stats.live_bytes < g_limit - g_limit / 4) arm();
}

size_t set_limit(size_t limit) {
  const size_t former = std::exchange(g_limit, limit);
  arm();
  return former;
}

void tell_near_limit(void (*tell)()) {
  g_tell_near = tell;
  arm();
}

}  // namespace ace::python
