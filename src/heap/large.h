// The large pool: blocks above kMidMax, each in a mapping of its own behind a superslab's head.
#pragma once
#include "heap/heap.h"

namespace ace {

// `alignment` is a power of two, from kPage to ACE_ALIGNMENT_MAX. nullptr where the limit or the system's
// memory is exhausted.
void *allocate_large(Heap &heap, size_t size, size_t alignment);

void free_large(Heap &heap, Superslab *superslab);

// Resizes the block, moving its pages instead of copying them where it must move. nullptr where it cannot
// (the block is as it was). `size` may be any size above kMidMax.
void *resize_large(Heap &heap, Superslab *superslab, size_t size);

inline std::byte *large_block(Superslab *superslab) {
  return reinterpret_cast<std::byte *>(superslab) + superslab->head.block_offset;
}
inline size_t large_block_size(const Superslab *superslab) {
  return superslab->head.mapped - superslab->head.block_offset;
}

}  // namespace ace
