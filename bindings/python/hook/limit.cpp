// The limit of the heap for mem and obj, and who is told before it is reached: the heap's own limit is lower
// until then. Under a GIL, in the holder's calls.
#include <pthread.h>
#include <stdlib.h>

#include <algorithm>
#include <utility>

#include "python/hook/hook.h"
#include "python/hook/reserve.h"

namespace ace::python {
namespace {

ace_heap *g_limited;
size_t g_limit;          // what was asked for
size_t g_reserve_begin;  // of it
Reserve g_reserve;
bool (*g_tell_near)();  // nullptr: nobody is told
bool g_is_armed;        // the heap's own limit is lower:
size_t g_lower_limit;

EnteredLimit *g_entered;  // the last
// In force before the first.
size_t g_limit_outside, g_reserve_begin_outside;

size_t near_limit_begin() { return g_limit - g_limit / 8; }

void arm() {
  if (g_limited == nullptr) return;
  g_is_armed = g_tell_near != nullptr && g_limit != 0;
  g_lower_limit = g_is_armed ? near_limit_begin() : g_limit;
  ace_heap_set_limit(g_limited, g_lower_limit);
}

void change_limit(size_t limit, size_t reserve_begin) {
  g_limit = limit;
  g_reserve_begin = reserve_begin;
  g_reserve.change(g_limited, limit, reserve_begin);
  arm();
}

void count_the_last_entered() {
  if (g_entered != nullptr) {
    change_limit(g_entered->limit, g_entered->reserve_begin);
  } else {
    change_limit(g_limit_outside, g_reserve_begin_outside);
  }
}

// The last one to be told was, or could not be.
bool may_be_told_again() {
  return g_limited != nullptr && g_tell_near != nullptr && g_limit != 0 &&
         (!g_is_armed || g_lower_limit > near_limit_begin());
}

void arm_where_less_than_most(size_t in_use) {
  if (in_use < g_limit - g_limit / 4) arm();
}

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
  change_limit(limit, limit);
}

Reserve *main_reserve() { return &g_reserve; }

Reserve *make_reserve(size_t limit) {
  auto *reserve = static_cast<Reserve *>(calloc(1, sizeof(Reserve)));
  if (reserve != nullptr) reserve->begin(limit);
  return reserve;
}

int near_limit(ace_heap *heap, size_t missing, void *reserve) {
  if (heap == g_limited && g_is_armed) {
    g_is_armed = false;
    ace_heap_set_limit(heap, g_limit);
    const size_t more = g_lower_limit + std::max(missing, g_limit / 64);
    if (!g_tell_near() && more < g_limit) {  // they are when some more is in use
      g_is_armed = true;
      g_lower_limit = more;
      ace_heap_set_limit(heap, more);
    }
    return 1;
  }
  return static_cast<Reserve *>(reserve)->give(heap, missing) ? 1 : 0;
}

void arm_limit_after_collection() {
  if (may_be_told_again()) arm_where_less_than_most(Reserve::stats_of(g_limited).live_bytes);
}

void arm_limit_after_telling() {
  if (!may_be_told_again()) return;
  trim();
  arm_where_less_than_most(Reserve::stats_of(g_limited).resident_bytes);
}

size_t present_limit() { return g_limit; }

EnteredLimit *enter_limit(size_t limit) {
  auto *entered = static_cast<EnteredLimit *>(malloc(sizeof(EnteredLimit)));
  if (entered == nullptr) return nullptr;
  if (g_entered == nullptr) {
    g_limit_outside = g_limit;
    g_reserve_begin_outside = g_reserve_begin;
  }
  *entered = {pthread_self(), limit, Reserve::begin_of(g_limited, limit), g_entered, true};
  g_entered = entered;
  count_the_last_entered();
  g_reserve.close(g_limited);
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

void tell_near_limit(bool (*tell)()) {
  g_tell_near = tell;
  arm();
}

}  // namespace ace::python
