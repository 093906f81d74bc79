// The limit of the heap for mem and obj, and who is told before it is reached: the heap's own limit is lower
// until then. Under a GIL, in the holder's calls.
//
// Where an allocation was refused, CPython needs memory until somebody has handled the MemoryError: for frames,
// tracebacks, numbers. Where it gets none it reports a SystemError instead, or tries for ever to note at which
// instruction it was (exception_unwind, 3.11 and later). So from a refusal on small requests may go some way
// beyond the limit.
#include <pthread.h>
#include <stdlib.h>

#include <algorithm>
#include <utility>

#include "python/hook/hook.h"

namespace ace::python {
namespace {

constexpr size_t kReserve = size_t{1} << 20;
// What a slab grows by at once is less, a list that doubles soon is not.
constexpr size_t kSmall = size_t{16} << 10;

ace_heap *g_limited;
size_t g_limit;         // what was asked for
void (*g_tell_near)();  // nullptr: nobody is told

// Since the limit was armed.
size_t g_reserve_begins;     // it was, or the heap held more
uint64_t g_refusals_before;  // of the heap
bool g_uses_reserve;

EnteredLimit *g_entered;  // the last
size_t g_limit_outside;   // in force before the first

ace_stats stats_of(ace_heap *heap) {
  ace_stats stats{};
  ace_heap_stats_shared(heap, &stats, sizeof stats);
  return stats;
}

void arm() {
  if (g_limited == nullptr) return;
  const ace_stats stats = stats_of(g_limited);
  g_reserve_begins = std::max(g_limit, static_cast<size_t>(stats.resident_bytes));
  g_refusals_before = stats.limit_failures;
  g_uses_reserve = false;
  ace_heap_set_limit(g_limited, g_tell_near == nullptr ? g_limit : g_limit - g_limit / 8);
}

// Raises the limit by what is missing, out of the reserve; false where it may not.
bool take_from_reserve(ace_heap *heap, size_t missing) {
  const ace_stats stats = stats_of(heap);
  const size_t needed = stats.limit_bytes + missing;
  if (stats.limit_failures == g_refusals_before || needed - stats.resident_bytes > kSmall) return false;
  if (needed > g_reserve_begins + kReserve) return false;
  g_uses_reserve = true;
  ace_heap_set_limit(heap, needed);
  return true;
}

void count_the_last_entered() { set_limit(g_entered != nullptr ? g_entered->limit : g_limit_outside); }

template <typename Ends>
void end_those(Ends ends) {
  for (EnteredLimit **link = &g_entered; *link != nullptr;) {
    EnteredLimit &one = **link;
    if (!ends(one)) {
      link = &one.before;
      continue;
    }
    *link = one.before;
    one.is_in_force = false;
  }
  count_the_last_entered();
}

}  // namespace

void begin_limit(ace_heap *heap, size_t limit) {
  g_limited = heap;
  g_limit = limit;
  arm();
}

int near_limit(ace_heap *heap, size_t missing, void *) {
  if (heap != g_limited) return 0;
  if (g_tell_near != nullptr && !g_uses_reserve && ace_heap_set_limit(heap, g_limit) != g_limit) {
    g_tell_near();
    return 1;
  }
  return take_from_reserve(heap, missing);
}

void arm_limit_after_collection() {
  if ((g_tell_near == nullptr && !g_uses_reserve) || g_limited == nullptr) return;
  if (stats_of(g_limited).live_bytes < g_limit - g_limit / 4) arm();
}

size_t set_limit(size_t limit) {
  const size_t former = std::exchange(g_limit, limit);
  arm();
  return former;
}

size_t present_limit() { return g_limit; }

EnteredLimit *enter_limit(size_t limit) {
  auto *entered = static_cast<EnteredLimit *>(malloc(sizeof(EnteredLimit)));
  if (entered == nullptr) return nullptr;
  if (g_entered == nullptr) g_limit_outside = g_limit;
  *entered = {pthread_self(), limit, g_entered, true};
  g_entered = entered;
  count_the_last_entered();
  return entered;
}

void leave_limit(EnteredLimit &entered) {
  if (entered.is_in_force) end_those([&](const EnteredLimit &one) { return &one == &entered; });
}

void leave_limits_of_other_threads() {
  if (g_entered == nullptr) return;
  end_those([](const EnteredLimit &one) { return pthread_equal(one.thread, pthread_self()) == 0; });
}

void forget_limits() {
  if (g_entered != nullptr) end_those([](const EnteredLimit &) { return true; });
  tell_near_limit(nullptr);
}

void tell_near_limit(void (*tell)()) {
  g_tell_near = tell;
  arm();
}

}  // namespace ace::python
