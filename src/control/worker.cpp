#include "control/worker.h"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "base/uncancelled.h"
#include "control/hints.h"
#include "decide/trim.h"
#include "heap/all_heaps.h"
#include "heap/purge.h"
#include "heap/superslab_pool.h"
#include "os/os.h"
#include "wire/options.h"

namespace ace {

namespace {

// Guards what Heap says is under it, and the earliest of all due times.
pthread_mutex_t g_worker_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t g_changed;
pthread_once_t g_made_condition = PTHREAD_ONCE_INIT;
bool g_running, g_stopping;
bool g_forked_by_first;  // the fork under way is by the process's first thread
pid_t g_worker_process;  // in which the worker runs: the child of a raw clone has none
unsigned g_forks;        // that are under way: meanwhile no worker is started
uint64_t g_earliest = UINT64_MAX;
uint64_t g_released_due;                   // when what destroyed heaps left goes back
std::atomic<bool> g_ended_by_fork{false};  // and trims wait

void make_condition() {
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&g_changed, &attributes);
  pthread_condattr_destroy(&attributes);
}

// So much goes back between two looks at the clock: about a fifth of a millisecond.
constexpr size_t kPart = size_t{256} << 10;

// Who has destroyed a heap goes on for so long before the worker may take its core.
constexpr uint64_t kReleaseDelayNs = 1'000'000;

struct Round {
  uint64_t now;
  uint64_t until;     // no more is begun from then on; UINT64_MAX: all is done
  uint64_t earliest;  // of the trims that are not yet due, or left
  unsigned heaps;     // that were looked at
};

bool has_time(const Round &round) { return round.until == UINT64_MAX || os().now() < round.until; }

// False where there was no time for all of it.
bool purge_until(Heap &heap, size_t budget, uint64_t until) {
  if (until == UINT64_MAX) {
    purge_pages(heap, budget);
    return true;
  }
  while (os().now() < until) {
    const size_t part = std::min(budget, kPart), given = purge_pages(heap, part);
    budget -= std::min(budget, given);
    if (given < part || budget == 0) return true;
  }
  return false;
}

// Looks at one heap; its trim is decided under the lock and done outside it.
void trim_if_due(Heap &heap, void *context) {
  auto &round = *static_cast<Round *>(context);
  ++round.heaps;
  TrimDecision decision{TrimAction::kNothing, 0, 0, false};
  pthread_mutex_lock(&g_worker_lock);
  if (options().mode == Mode::kOff) heap.trim_due = 0;
  if (heap.trim_due != 0 && heap.trim_due <= round.now && has_time(round) && !g_stopping) {
    const uint64_t taken = heap.counters.taken_bytes.get();
    DeferredView view{round.now,
                      heap.trim_asked,
                      options().idle_delay_ns,
                      heap.counters.resident_bytes(),
                      live_bytes_bound(heap),
                      taken - heap.taken_at_hint,
                      taken == heap.taken_at_look,
                      heap.trim_delay,
                      heap.reuse.last.load(std::memory_order_relaxed)};
    decision = decide_when_due(view);
    heap.taken_at_look = taken;
    heap.trim_due = decision.due;
    if (decision.recount) {
      heap.trim_asked = round.now;
      heap.taken_at_hint = taken;
    }
  }
  if (heap.trim_due != 0) round.earliest = std::min(round.earliest, heap.trim_due);
  pthread_mutex_unlock(&g_worker_lock);
  if (decision.action != TrimAction::kNow || purge_until(heap, decision.budget, round.until)) return;
  pthread_mutex_lock(&g_worker_lock);
  if (heap.trim_due == 0) heap.trim_due = round.now;
  round.earliest = std::min(round.earliest, heap.trim_due);
  pthread_mutex_unlock(&g_worker_lock);
}

// Does what is due. How many heaps were looked at.
unsigned run_round(uint64_t begin, uint64_t until) {
  pthread_mutex_lock(&g_worker_lock);
  g_earliest = UINT64_MAX;  // asked anew: a trim that is scheduled meanwhile lowers it
  const uint64_t released_due = g_released_due;
  pthread_mutex_unlock(&g_worker_lock);
  Round round{begin, until, UINT64_MAX, 0};
  while (begin >= released_due && has_time(round) && purge_released()) continue;
  if (has_released()) round.earliest = std::max(begin, released_due);
  visit_heaps(trim_if_due, &round);
  pthread_mutex_lock(&g_worker_lock);
  if (round.earliest < g_earliest) {
    g_earliest = round.earliest;
    if (g_running) pthread_cond_signal(&g_changed);  // it may have gone to sleep meanwhile
  }
  pthread_mutex_unlock(&g_worker_lock);
  return round.heaps;
}

void work() {
  pthread_mutex_lock(&g_worker_lock);
  uint64_t rested = 0;
  // With option tick all of it is the host's from now on.
  while (!g_stopping && options().worker != WorkerOption::kTick) {
    const uint64_t now = os().now(), until = std::max(g_earliest, rested);
    if (until == UINT64_MAX) {
      pthread_cond_wait(&g_changed, &g_worker_lock);
    } else if (until > now) {
      timespec at{static_cast<time_t>(until / 1'000'000'000), static_cast<long>(until % 1'000'000'000)};
      pthread_cond_timedwait(&g_changed, &g_worker_lock, &at);
    } else {
      pthread_mutex_unlock(&g_worker_lock);
      const unsigned heaps = run_round(now, UINT64_MAX);
      pthread_mutex_lock(&g_worker_lock);
      rested = os().now() + heaps * kRestPerHeapNs;
    }
  }
  g_running = g_stopping = false;
  pthread_cond_broadcast(&g_changed);
  pthread_mutex_unlock(&g_worker_lock);
}

// The lock is held.
void stop() {
  if (g_worker_process != getpid()) g_running = false;
  if (!g_running) return;
  const Uncancelled whole;
  g_stopping = true;
  pthread_cond_broadcast(&g_changed);
  while (g_stopping) pthread_cond_wait(&g_changed, &g_worker_lock);
}

void trim_if_pending(Heap &heap, void *) {
  pthread_mutex_lock(&g_worker_lock);
  const bool pending = std::exchange(heap.trim_due, 0) != 0;
  pthread_mutex_unlock(&g_worker_lock);
  if (pending && options().mode != Mode::kOff) purge_pages(heap, SIZE_MAX);
}

// The worker ends. What was to go back later goes back now, since nobody may come any more; in mode off it
// stays.
void finish_worker() {
  pthread_mutex_lock(&g_worker_lock);
  stop();
  const bool pending = std::exchange(g_earliest, UINT64_MAX) != UINT64_MAX;
  pthread_mutex_unlock(&g_worker_lock);
  os().await_thread_end(Thread::kWorker);
  while (purge_released()) continue;
  if (pending) visit_heaps(trim_if_pending, nullptr);
}

// The lock is held. A host whose thread limit is reached goes without: ace_tick still serves.
void start() {
  if (!end_with_first_thread(Thread::kWorker, finish_worker)) return;
  if (g_running || g_forks != 0 || options().worker != WorkerOption::kOn) return;
  g_running = os().start_thread(Thread::kWorker, work);
  g_worker_process = getpid();
}

}  // namespace

void schedule_trim(Heap &heap, uint64_t now, uint64_t due, uint64_t delay) {
  pthread_once(&g_made_condition, make_condition);
  pthread_mutex_lock(&g_worker_lock);
  const uint64_t taken = heap.counters.taken_bytes.get();
  if (heap.trim_due == 0) {
    heap.trim_asked = now;
    heap.taken_at_hint = taken;
    heap.trim_due = due;
    heap.trim_delay = delay;
  }
  heap.taken_at_look = taken;
  start();
  if (heap.trim_due < g_earliest) {
    g_earliest = heap.trim_due;
    pthread_cond_signal(&g_changed);
  }
  pthread_mutex_unlock(&g_worker_lock);
}

void schedule_released() {
  pthread_once(&g_made_condition, make_condition);
  const uint64_t now = os().now();
  pthread_mutex_lock(&g_worker_lock);
  start();
  const bool is_served = g_running || g_forks != 0 || options().worker == WorkerOption::kTick;
  g_released_due = now + kReleaseDelayNs;
  if (is_served && g_released_due < g_earliest) {
    g_earliest = g_released_due;
    pthread_cond_signal(&g_changed);
  }
  pthread_mutex_unlock(&g_worker_lock);
  while (!is_served && purge_released()) continue;
}

void cancel_trim(Heap &heap) {
  pthread_mutex_lock(&g_worker_lock);
  heap.trim_due = 0;
  pthread_mutex_unlock(&g_worker_lock);
}

uint64_t run_due_trims(uint64_t budget) {
  const uint64_t begin = os().now();
  run_round(begin, budget < UINT64_MAX - begin ? begin + budget : UINT64_MAX);
  pthread_mutex_lock(&g_worker_lock);
  const uint64_t earliest = g_earliest;
  pthread_mutex_unlock(&g_worker_lock);
  const uint64_t now = os().now();
  return earliest == UINT64_MAX ? UINT64_MAX : earliest > now ? earliest - now : 0;
}

void stop_worker() {
  pthread_mutex_lock(&g_worker_lock);
  stop();
  pthread_mutex_unlock(&g_worker_lock);
}

void pause_worker() {
  pthread_mutex_lock(&g_worker_lock);
  ++g_forks;
  pthread_mutex_unlock(&g_worker_lock);
  finish_worker();
}

void lock_worker() {
  pthread_mutex_lock(&g_worker_lock);
  g_forked_by_first = gettid() == getpid();
}
void unlock_worker() { pthread_mutex_unlock(&g_worker_lock); }

// The lock is held. Not at once: whoever looks just after a fork shall find no other thread.
void resume_worker() {
  --g_forks;
  if (g_earliest != UINT64_MAX) g_ended_by_fork.store(true, std::memory_order_relaxed);
}

void forget_worker() {
  if (!g_forked_by_first) g_threads_barred = true;
  g_running = g_stopping = false;
  g_forks = 0;
  g_made_condition = PTHREAD_ONCE_INIT;
  if (g_earliest != UINT64_MAX) g_ended_by_fork.store(true, std::memory_order_relaxed);
}

void wake_after_fork() {
  if (!g_ended_by_fork.load(std::memory_order_relaxed)) return;
  if (!g_ended_by_fork.exchange(false, std::memory_order_relaxed)) return;
  pthread_once(&g_made_condition, make_condition);
  pthread_mutex_lock(&g_worker_lock);
  start();
  pthread_mutex_unlock(&g_worker_lock);
}

}  // namespace ace
