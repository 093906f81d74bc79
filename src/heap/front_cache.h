// The seed paper's front, in libace-malloc.so and as an experiment (front_cache): what is freed outside its
// bin's window goes onto a list of the bin that mixes slabs, last in, first out. A refill takes it before it
// carves, so the allocation list may hold blocks of any slab of the bin. There are two such lists: when the
// young one is full, the old one, which nobody has asked for meanwhile, is spilled to the bitmaps, and the
// young one becomes the old. Plain heaps alone have them: a hardened heap re-issues late.
//
// A block in the cache counts as used and carries the tag of a listed block, so a second free of it is seen. It
// is never in the free bitmap; where its slab becomes current it lies in the window, and goes to the list from
// there.
#pragma once
#include <algorithm>
#include <array>
#include <utility>

#include "heap/slab.h"

namespace ace {

inline bool has_cache(const Heap &heap) { return kFrontCache != 0 && heap.nature == Nature::kPlain; }

// The length of a full list; of large blocks fewer, so that they hold little.
constexpr std::array<uint8_t, kClasses> make_full_lengths() {
  constexpr uint32_t kMostBytes = 16 << 10;
  std::array<uint8_t, kClasses> lengths{};
  for (unsigned c = 0; c < kClasses; ++c)
    lengths[c] = static_cast<uint8_t>(std::max(std::min(kMostBytes / kClassSize[c], kFrontCache / 2), 1u));
  return lengths;
}
inline constexpr auto kFullLength = make_full_lengths();
inline uint32_t full_length(unsigned bin) { return kFullLength[class_of_bin(bin)]; }
inline CachedBlocks &cached_of(Heap &heap, unsigned bin) { return (*heap.front_cache.operator->())[bin]; }
inline uint32_t cached_blocks(const Heap &heap, unsigned bin) {
  const CachedBlocks &cached = (*heap.front_cache.operator->())[bin];
  return cached.young_length + (cached.old != nullptr ? full_length(bin) : 0);
}

// Does it start a block of the bin that may be cached? Whoever wrote to a free block may have led a list
// anywhere.
bool may_be_cached(const Heap &heap, const Bin &bin, const Block *block);

// Makes room: the young list is full.
void spill_old(Heap &heap, unsigned bin);

// As free_to_bitmap, by way of the cache. False, too, where the block carries a free one's tag: whoever calls
// asks is_tagged_free then.
[[gnu::always_inline]] inline bool free_to_cache(Heap &heap, Superslab *superslab, SlabRow &row, void *p) {
  const unsigned index = row.prefix.bin;
  Bin &bin = heap.bins[index];
  auto *block = static_cast<Block *>(p);
  if (is_in_bitmap(superslab, p) || block->tag == &bin) [[unlikely]]
    return false;
  block->tag = &bin;
  CachedBlocks &cached = cached_of(heap, index);
  block->next = std::exchange(cached.young, block);
  if (++cached.young_length == full_length(index)) [[unlikely]]
    spill_old(heap, index);
  return true;
}

// Fills the bin's empty list; false where nothing was cached.
bool refill_from_cache(Heap &heap, unsigned bin);

// Leaves on the bin's list the blocks of its window, and nothing in its cache.
void flush_cache(Heap &heap, unsigned bin);

}  // namespace ace
