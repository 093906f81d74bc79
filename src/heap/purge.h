// Giving memory back: the dead pages of slabs and of the mid pool, whoever holds the heap.
#pragma once
#include "heap/heap.h"

namespace ace {

// Returns up to `budget` bytes of dead pages to the system, and says how many. Any thread: a wholly dead page
// can only be taken by a refill, and a refill needs the slab's claim, which is held here meanwhile. No lock is
// held across a system call, and one call covers at most one superslab.
size_t purge_pages(Heap &heap, size_t budget);

// The same by the holder: takes over remote frees, retires the current slabs so that their pages count too,
// releases empty superslabs, then purges pages.
size_t trim_heap(Heap &heap, size_t budget);

// Meanwhile no purger is inside: around a fork, so that no claim is left behind in the child, and while a heap
// is audited.
void lock_purging();
void unlock_purging();

// Instead of unlocking, in the child: a lock for which threads of the parent were waiting still counts them.
void reset_purging();

}  // namespace ace
