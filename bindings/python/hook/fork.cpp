// Forks: what is free goes back before, so that it need not be copied page by page, and the child finds no lock
// taken, and nothing of the threads that it does not have.
#include <pthread.h>
#include <stdint.h>

#include "python/hook/census.h"
#include "python/hook/hook.h"

namespace ace::python {
namespace {

// A fork from C code may come without the GIL, when another thread is inside the heap: then nothing is told.
// Written before the fork.
thread_local bool t_has_gil;

// Of the heap for mem and obj, in the child. All lists are empty then.
uint64_t g_refills_at_fork = UINT64_MAX;

void tell(ace_hint_code code) {
  if (t_has_gil) hint(code, 0, false);
  hint_raw(code, 0);
}

uint64_t refills() {
  ace_stats stats{};
  if (ace_heap *heap = standing().vm_heap; heap != nullptr) ace_heap_stats_shared(heap, &stats, sizeof stats);
  return stats.refills;
}

void before() {
  t_has_gil = runs_main_interpreter();
  tell(ACE_HINT_FORK_BEFORE);
  lock_interpreters();
  lock_domains();
}

void in_parent() {
  unlock_domains();
  unlock_interpreters();
}

void in_child() {
  in_parent();
  if (t_has_gil) {
    leave_limits_of_other_threads();
    forget_census();
  }
  tell(ACE_HINT_FORK_CHILD);
  g_refills_at_fork = refills();
}

}  // namespace

void watch_forks_of_python() { pthread_atfork(before, in_parent, in_child); }

bool has_worked_since_fork() { return standing().vm_heap == nullptr || refills() != g_refills_at_fork; }

}  // namespace ace::python
