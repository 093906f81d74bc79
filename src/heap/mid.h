// The mid pool: runs of pages inside superslabs, for blocks above the tiny range and up to kMidMax.
#pragma once
#include "heap/heap.h"

namespace ace {

// A block of `pages` pages whose address is divisible by `alignment` (a power of two, at least kPage);
// nullptr where the limit or the system's memory is exhausted. With `room` (for which the alignment is kPage)
// it comes to lie behind so many free pages where there are such: into them the run before it may grow.
void *allocate_mid(Heap &heap, unsigned pages, size_t alignment, unsigned room = 0);

// Frees the run that starts at page `page` of a mid superslab of this heap.
void free_mid(Heap &heap, Superslab *superslab, unsigned page);

// Resizes the run in place; false where it cannot grow there. Shrinking always succeeds.
bool resize_mid(Heap &heap, Superslab *superslab, unsigned page, unsigned pages);

// Fills pages of a run with zeroes. Of a large one the program may have touched little, and zeroes of our own
// would be resident.
void wipe_run(void *start, size_t size);

// Gives superslabs without runs back to the shared pool, up to `budget` resident bytes, but for those that
// somebody else is at. Returns the bytes.
size_t release_empty_mid(Heap &heap, size_t budget);

inline unsigned pages_for(size_t size) { return static_cast<unsigned>((size + kPage - 1) / kPage); }
inline unsigned page_index_of(const void *p) {
  return static_cast<unsigned>(address_of(p) / kPage) % kPagesPerSuperslab;
}

}  // namespace ace
