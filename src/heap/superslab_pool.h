// The shared pool: superslabs of address space for all heaps of the process.
#pragma once
#include "heap/superslab.h"

namespace ace {

// A zeroed superslab that is in the address map, nothing of it resident; nullptr where the system has no
// more. `guarded`: behind it lies a page that nobody may touch, so that what overflows from its last block does
// not reach whatever lies there, another superslab's head perhaps. Any thread.
Superslab *acquire_superslab(bool guarded = false);

// Bytes of the guard behind a superslab, or behind a large block's mapping.
size_t guard_of(const Superslab *superslab);
// Makes it, where the system lets us: `mapped` bytes and the guard were mapped.
void put_guard(Superslab *superslab, size_t mapped);

// Takes back a superslab whose blocks are all dead: its pages go back to the system, its addresses are kept
// for the next one or unmapped. Any thread.
void release_superslab(Superslab *superslab);

// The same, also of a large block's mapping, but the pages go back when somebody calls purge_released; at once
// where 256 MiB wait for that. Any thread.
void release_superslab_later(Superslab *superslab);

// Gives the pages of one that waits back. False where none does. Any thread.
bool purge_released();
bool has_released();

// Unmaps those that are kept, for who needs their addresses for something else. Any thread.
void unmap_kept_superslabs();

// Unmaps memory that nobody uses any more: a mapping, whose first page can be written to, and before it another
// piece, as it may be. What the system refuses to take back loses its pages, and is tried again when next
// something was taken. Any thread.
void end_mapping(void *start, size_t size, void *behind = nullptr, size_t behind_size = 0);

// Around fork: nobody else is inside the pool while the child is made.
void lock_superslab_pool();
void unlock_superslab_pool();

}  // namespace ace
