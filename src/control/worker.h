// Deferred trims: done by a background thread that sleeps until the earliest is due and is never woken
// otherwise, or by the host's own ace_tick.
#pragma once
#include "control/first_thread.h"
#include "heap/heap.h"
#include "wire/options.h"

namespace ace {

// Can memory of this heap go back later?
inline bool may_defer(const Heap &heap) {
  const WorkerOption worker = options().worker;
  if (worker == WorkerOption::kOff || (heap.flags & ACE_HEAP_NO_WORKER) != 0) return false;
  return worker == WorkerOption::kTick || !g_threads_barred.load(std::memory_order_relaxed);
}

// Where there are thousands of heaps, of which each is due at another moment, a look at all of them for each
// would take a core: the worker rests so long for each that it has looked at, some ten times as long as the
// look took.
inline constexpr uint64_t kRestPerHeapNs = 2'000;

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
