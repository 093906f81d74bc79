// The seed paper's front, as an experiment (front_cache): what is freed outside its bin's window goes onto a
// list of the bin that mixes slabs, last in, first out, up to a cap. A refill takes all of it at once before it
// carves, so the allocation list may hold blocks of any slab of the bin.
//
// A block in the cache counts as used and carries the tag of a listed block, so a second free of it is seen. It
// is never in the free bitmap; where its slab becomes current it lies in the window, and goes to the list from
// there.
#pragma once
#include <algorithm>
#include <utility>

#include "heap/slab.h"

namespace ace {

inline bool is_cached(const Heap &heap, unsigned bin, const void *block) {
  const Block *b = heap.front_cache->first[bin];
  while (b != nullptr && b != block) b = b->next;
  return b != nullptr;
}

// Listed or cached blocks go to the bitmaps, those in the window onto the list.
inline void put_back(Heap &heap, unsigned index, Block *blocks) {
  Bin &bin = heap.bins[index];
  for (Block *next; blocks != nullptr; blocks = next) {
    next = blocks->next;
    if (bin.has(blocks)) {
      blocks->next = std::exchange(bin.list, blocks);
      continue;
    }
    blocks->tag = nullptr;
    Superslab *superslab = superslab_of(blocks);
    free_to_bitmap(heap, superslab, superslab->row(slab_index_of(blocks)), blocks);
  }
}

// Spills what was freed first, so that no more than `count` blocks stay.
inline void shrink_cache(Heap &heap, unsigned bin, uint32_t count) {
  if (heap.slabs[bin].cached <= count) return;
  Block **end = &heap.front_cache->first[bin];
  for (uint32_t n = 0; n < count; ++n) end = &(*end)->next;
  heap.slabs[bin].cached = count;
  put_back(heap, bin, std::exchange(*end, nullptr));
}

// As free_to_bitmap, by way of the cache. Beyond kFrontCache blocks the older half is spilled.
inline bool free_to_cache(Heap &heap, Superslab *superslab, SlabRow &row, void *p) {
  const unsigned index = row.prefix.bin;
  Bin &bin = heap.bins[index];
  auto *block = static_cast<Block *>(p);
  if (is_in_bitmap(superslab, p) || (block->tag == &bin && is_on_list(bin, p))) return false;
  block->tag = &bin;
  block->next = std::exchange(heap.front_cache->first[index], block);
  if (++heap.slabs[index].cached > kFrontCache) shrink_cache(heap, index, kFrontCache / 2);
  return true;
}

// Fills the bin's empty list; false where nothing was cached.
inline bool refill_from_cache(Heap &heap, unsigned bin) {
  heap.slabs[bin].cached = 0;
  heap.bins[bin].list = std::exchange(heap.front_cache->first[bin], nullptr);
  return heap.bins[bin].list != nullptr;
}

// Leaves on the bin's list the blocks of its window, and nothing in its cache.
inline void flush_cache(Heap &heap, unsigned bin) {
  put_back(heap, bin, std::exchange(heap.bins[bin].list, nullptr));
  shrink_cache(heap, bin, 0);
}

}  // namespace ace
