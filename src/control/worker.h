// Deferred trims: done by a background thread that sleeps until the earliest is due and is never woken
// otherwise, or by the host's own ace_tick.
#pragma once
#include <atomic>

#include "heap/heap.h"
#include "wire/options.h"

namespace ace {

// In the child of a fork by another thread than the first no worker is started, nor in its own children: the
// process ends when that thread returns, and a worker would keep it.
extern std::atomic<bool> g_worker_barred;

// Can memory of this heap go back later?
inline bool may_defer(const Heap &heap) {
  const WorkerOption worker = options().worker;
  if (worker == WorkerOption::kOff || (heap.flags & ACE_HEAP_NO_WORKER) != 0) return false;
  return worker == WorkerOption::kTick || !g_worker_barred.load(std::memory_order_relaxed);
}

// Asks for a trim of the heap at `due`; one that was asked for before stays as it was. `delay`: as was
// learned, so long nothing must have been needed by then, or it waits for more; 0: the fixed rules say when.
// Starts the worker where there is none yet and one may be. The holder's.
void schedule_trim(Heap &heap, uint64_t now, uint64_t due, uint64_t delay);
void cancel_trim(Heap &heap);

// Asks that what destroyed heaps left (release_superslab_later) goes back soon; it does at once where nobody
// will.
void schedule_released();

// Does what is due, for about `budget` nanoseconds at most; what is left stays due. Returns the nanoseconds
// until the next trim is due: 0 where time ran out, UINT64_MAX where none is. Any thread.
uint64_t run_due_trims(uint64_t budget);

// Ends the worker, if there is one, and waits for it; the next deferred trim starts another. For tests.
void stop_worker();

// Around fork. Before it the worker ends, so that a process of one thread is one again: CPython warns of
// others, and the child has none of them. What was to go back later goes back then, since nobody may come any
// more. A trim that another thread asks for meanwhile is done by the worker that the next hint starts.
void pause_worker();
void lock_worker();
void unlock_worker();
void resume_worker();  // in the parent, under the lock
void forget_worker();

// Starts the worker where a fork ended it and trims still wait. Cheap where not.
void wake_after_fork();

}  // namespace ace
