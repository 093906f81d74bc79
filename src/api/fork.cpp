#include "api/fork.h"

#include <pthread.h>

#include "api/stats_page.h"
#include "api/thread_heap.h"
#include "control/container.h"
#include "control/decision_log.h"
#include "control/first_thread.h"
#include "control/playbook.h"
#include "control/worker.h"
#include "heap/address_map.h"
#include "heap/all_heaps.h"
#include "heap/annotate.h"
#include "heap/purge.h"
#include "heap/superslab_pool.h"
#include "trace/recorder.h"
#include "wire/options.h"

namespace ace {
namespace {

// In the order in which the locks are taken elsewhere: a purger takes heaps' lists, the worker its own.
void before() {
  pause_page();
  pause_worker();
  lock_abandoned_heaps();
  lock_container();
  lock_playbook();
  lock_decision_log();
  lock_purging();
  lock_all_heaps();
  lock_worker();
  lock_superslab_pool();
  trace::lock_recording();
  lock_options();
  lock_address_map();
}

void after_in_parent() {
  unlock_address_map();
  unlock_options();
  trace::unlock_recording();
  unlock_superslab_pool();
  resume_worker();
  unlock_worker();
  unlock_all_heaps();
  unlock_purging();
  unlock_decision_log();
  unlock_playbook();
  unlock_container();
  unlock_abandoned_heaps();
  resume_page();
}

void after_in_child() {
  unlock_address_map();
  unlock_options();
  trace::record_anew_in_child();
  trace::unlock_recording();
  unlock_superslab_pool();
  forget_worker();
  unlock_worker();
  forget_visitors();
  forget_first_heap();
  unlock_all_heaps();
  reset_purging();
  OpenMemory::reset_in_child();
  unlock_decision_log();
  unlock_playbook();
  unlock_container();
  unlock_abandoned_heaps();
  forget_page();
}

pthread_once_t g_once = PTHREAD_ONCE_INIT;

}  // namespace

void watch_forks() {
  pthread_once(&g_once, [] { pthread_atfork(before, after_in_parent, after_in_child); });
}

namespace {
// Handlers that are registered first run last before a fork, and first after it: a host's own find the locks
// free.
[[gnu::constructor(101)]] void watch_from_the_start() {
  watch_forks();
  watch_first_thread();  // which may leave all that follows to others
}
}  // namespace

}  // namespace ace
