// The large pool: blocks above kMidMax, each in a mapping of its own behind a superslab's head.
#pragma once
#include "heap/heap.h"

namespace ace {

// `alignment` is a power of two, from kPage to ACE_ALIGNMENT_MAX. nullptr where the limit or the system's
// memory is exhausted. A block may be one that was kept; it is zero where large_is_zero says so.
void *allocate_large(Heap &heap, size_t size, size_t alignment);
inline bool large_is_zero(const void *block) { return superslab_of(block)->head.holds_zeroes; }

// What a new one for `size` bytes has, where none is kept that fits.
size_t large_block_size_for(size_t size);

// Some blocks are kept for the next one of about their size: a program that needs a buffer again and again
// would pay for its page faults each time.
void free_large(Heap &heap, Superslab *superslab);

// Unmaps kept blocks, up to `budget` resident bytes, but for those that somebody else is at. Returns the bytes.
size_t release_kept(Heap &heap, size_t budget);

// Resizes the block; where it must move, so do its pages, and only what the system will not move is copied:
// both are resident meanwhile, whatever the limit. nullptr where it cannot (the block is as it was). `size` may
// be any size above kMidMax.
void *resize_large(Heap &heap, Superslab *superslab, size_t size);

inline std::byte *large_block(Superslab *superslab) {
  return reinterpret_cast<std::byte *>(superslab) + superslab->head.block_offset;
}
inline size_t large_block_size(const Superslab *superslab) {
  return superslab->head.mapped - superslab->head.block_offset;
}

}  // namespace ace
