#include "api/thread_heap.h"

#include <pthread.h>

#include <algorithm>

#include "api/fork.h"
#include "api/stats_page.h"
#include "control/controller.h"
#include "control/hints.h"
#include "heap/purge.h"
#include "heap/remote.h"
#include "heap/slab.h"

namespace ace {

constinit thread_local Heap *t_heap = nullptr;
FirstThread g_first_thread;

namespace {

// Abandoned heaps, whose thread has ended, for the next threads. What they hold for nothing stays resident up
// to so many bytes in all: threads that come and go find their pages again. Those that go back and are missed
// later, when the next threads take fresh pages instead, raise it: so a program whose threads need much again
// and again pays for its page faults twice, and one that needed it once keeps little.
constexpr uint64_t kAbandonedFreeMin = uint64_t{16} << 20;
Lock g_abandoned_lock;
Heap *g_abandoned;
uint64_t g_abandoned_free;  // the sum of Heap::abandoned_free
uint64_t g_dropped;         // what ever went back at the end of threads,
uint64_t g_replaced;        // and of it what was missed, or is forgiven
uint64_t g_missed;          // so much more than kAbandonedFreeMin may stay
constinit thread_local Heap *t_known_heap = nullptr;
bool g_withheld;
pthread_key_t g_key;
pthread_once_t g_key_once = PTHREAD_ONCE_INIT;
bool g_has_key;

void enter_thread(Heap *heap) {
  t_known_heap = heap;
  if (g_withheld) return;
  t_heap = heap;
  void *nobody = nullptr;
  if (g_first_thread.pointer.compare_exchange_strong(nobody, __builtin_thread_pointer(),
                                                     std::memory_order_acquire, std::memory_order_relaxed)) {
    g_first_thread.heap = heap;
  }
}

// Another thread may be the first from now on, also one whose thread pointer is the same.
void leave_thread() {
  t_heap = t_known_heap = nullptr;
  if (g_first_thread.pointer.load(std::memory_order_relaxed) == __builtin_thread_pointer())
    g_first_thread.pointer.store(nullptr, std::memory_order_release);
}

// Counts what waits on lists and in caches as well: over all bins a MiB or two a heap. The holder's.
uint64_t free_resident_bytes(const Heap &heap) {
  uint64_t free = heap.counters.resident_bytes();
  for (unsigned bin = 0; bin < groups_of(heap) * kClasses; ++bin)
    free += uint64_t{waiting_blocks(heap, bin)} * kClassSize[class_of_bin(bin)];
  const uint64_t live = live_bytes_bound(heap);
  return free > live ? free - live : 0;
}

void note_adopted(Heap &heap) {
  Locked locked(g_abandoned_lock);
  heap.faulted_at_adopt = heap.counters.faulted_bytes.get();
  heap.dropped_at_adopt = g_dropped;
}

// What its thread has taken of fresh pages: in place of what went back before it began, as far as that goes.
// What threads of the same time leave behind none of them has missed.
void note_missed(const Heap &heap) {
  Locked locked(g_abandoned_lock);
  const uint64_t taken = heap.counters.faulted_bytes.get() - heap.faulted_at_adopt;
  const uint64_t before = heap.dropped_at_adopt - std::min(heap.dropped_at_adopt, g_replaced);
  const uint64_t missed = std::min(taken, before);
  g_replaced += missed;
  g_missed += missed;
}

// False where the heap holds more for nothing than may stay.
bool put_abandoned(Heap &heap, uint64_t free_bytes) {
  Locked locked(g_abandoned_lock);
  if (free_bytes != 0 && g_abandoned_free + free_bytes > kAbandonedFreeMin + g_missed) {
    g_dropped += free_bytes;
    return false;
  }
  heap.abandoned_free = free_bytes;
  g_abandoned_free += free_bytes;
  heap.next_abandoned = g_abandoned;
  g_abandoned = &heap;
  return true;
}

// What the heap, which nobody holds, has for nothing goes back; it stays abandoned where a block lives in it.
size_t trim_abandoned(Heap &heap) {
  const size_t given = trim_heap(heap, SIZE_MAX);
  if (live_bytes_bound(heap) != 0) {
    put_abandoned(heap, 0);
    return given;
  }
  end_loop(heap);
  destroy_heap(heap, false);
  return given;
}

// Runs when a thread ends. Blocks that it leaves may still be freed by others: by the remote queue, which the
// next holder drains.
void abandon(void *value) {
  auto *heap = static_cast<Heap *>(value);
  leave_thread();
  // What this thread has asked of it is nothing to the next.
  heap->limit.store(0, std::memory_order_relaxed);
  forget_hints(*heap);
  send_remote_frees(*heap);
  drain_remote_frees(*heap);
  note_missed(*heap);
  if (!put_abandoned(*heap, free_resident_bytes(*heap))) trim_abandoned(*heap);
}

// Off the list, linked by next_abandoned: all, or the heaps in which others have freed something.
Heap *take_abandoned(bool all) {
  Heap *taken = nullptr;
  Locked locked(g_abandoned_lock);
  for (Heap **link = &g_abandoned; *link != nullptr;) {
    Heap *heap = *link;
    if (!all && !has_remote_frees(*heap)) {
      link = &heap->next_abandoned;
      continue;
    }
    *link = heap->next_abandoned;
    g_abandoned_free -= heap->abandoned_free;
    heap->next_abandoned = taken;
    taken = heap;
  }
  return taken;
}

// Where a heap grows: what others have freed in abandoned ones counts as free there from now on, and goes
// back only where that is too much. Threads that come and go would fault it in again each time.
void recount_abandoned_heaps() {
  for (Heap *heap = take_abandoned(false), *next; heap != nullptr; heap = next) {
    next = heap->next_abandoned;
    drain_remote_frees(*heap);
    if (!put_abandoned(*heap, free_resident_bytes(*heap))) trim_abandoned(*heap);
  }
}

Heap *adopt() {
  Heap *heap;
  {
    Locked locked(g_abandoned_lock);
    heap = g_abandoned;
    if (heap == nullptr) return nullptr;
    g_abandoned = heap->next_abandoned;
    g_abandoned_free -= heap->abandoned_free;
  }
  drain_remote_frees(*heap);
  return heap;
}

}  // namespace

Heap *thread_heap() {
  if (t_heap != nullptr) return t_heap;
  if (t_known_heap != nullptr) return t_known_heap;
  pthread_once(&g_key_once, [] { g_has_key = pthread_key_create(&g_key, abandon) == 0; });
  watch_forks();
  Heap *heap = adopt();
  if (heap == nullptr) {
    ace_heap_config config{};
    config.struct_size = sizeof config;
    config.name = "thread";
    heap = create_heap(config, true);
    if (heap == nullptr) return nullptr;
    heap->on_growth = recount_abandoned_heaps;
  }
  // Without a key (a process that has used them all) the heap is never abandoned, and never lost to others'
  // frees either.
  note_adopted(*heap);
  if (g_has_key) pthread_setspecific(g_key, heap);
  enter_thread(heap);
  serve_page();
  return heap;
}

Heap *known_thread_heap() { return t_known_heap; }

void withhold_thread_heaps() { g_withheld = true; }

size_t trim_abandoned_heaps() {
  {
    Locked locked(g_abandoned_lock);
    g_replaced = g_dropped;
    g_missed = 0;
  }
  size_t given = 0;
  for (Heap *heap = take_abandoned(true), *next; heap != nullptr; heap = next) {
    next = heap->next_abandoned;
    given += trim_abandoned(*heap);
  }
  return given;
}

void forget_first_heap() {
  if (!is_first_thread()) g_first_thread.pointer.store(nullptr, std::memory_order_relaxed);
}

void lock_abandoned_heaps() { g_abandoned_lock.lock(); }
void unlock_abandoned_heaps() { g_abandoned_lock.unlock(); }

}  // namespace ace
