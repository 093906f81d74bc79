// The seed paper's front, in libace-malloc.so and as an experiment (front_cache): what is freed outside its
// bin's window goes onto a list of the bin that mixes slabs, last in, first out. A refill takes it before it
// carves, so the allocation list may hold blocks of any slab of the bin. What the list has no room for goes to
// the bitmaps. Where that is much, with no refill in between, a program shrinks, and what is on the list goes
// there, too: so no slab is held by it. Plain heaps alone have them: a hardened heap re-issues late.
//
// A look at the window is the cheapest free where the processor foretells how it ends. Where blocks die at
// random it guesses wrong every other time, which costs more than the rest of the free. So some frees are
// watched now and then, and where one cannot tell which are inside a window none looks: the hints of the
// current slabs (Heap::bin_of_slab) name a bin they are not of, and all that is freed comes to the cache. (A
// free with a size takes its bin from that, and looks as ever.)
//
// A block in the cache counts as used and carries the tag of a listed block, so a second free of it is seen;
// and where its owner has overwritten that since, it is seen before it is issued twice. It is never in the free
// bitmap; where its slab becomes current it lies in the window, and goes to the list from there.
#pragma once
#include <algorithm>
#include <array>

#include "heap/slab.h"

namespace ace {

inline bool has_cache(const Heap &heap) { return kFrontCache != 0 && heap.nature == Nature::kPlain; }

// How many the list holds; of large blocks fewer, so that they hold little.
constexpr std::array<uint16_t, kClasses> make_rooms() {
  constexpr uint32_t kMostBytes = 32 << 10;
  std::array<uint16_t, kClasses> rooms{};
  for (unsigned c = 0; c < kClasses; ++c)
    rooms[c] = static_cast<uint16_t>(std::min(kMostBytes / kClassSize[c], kFrontCache));
  return rooms;
}
inline constexpr auto kRoom = make_rooms();

template <typename AnyHeap>
auto &cached_of(AnyHeap &heap, unsigned bin) {
  return heap.front_cache->bins[bin];
}

// The bin whose window the frees of the bin's current slab look at: one that says no, where none is to look.
inline unsigned bin_to_look_at(const Heap &heap, unsigned bin) {
  if (!has_cache(heap) || (!heap.front_cache->is_mixed && heap.front_cache->watched == 0)) return bin;
  return bin == 0 ? 1 : 0;
}

// To be called at each refill: now and then the next frees are watched.
void watch_frees_at_times(Heap &heap);

// How many are cached.
uint32_t cached_blocks(const Heap &heap, unsigned bin);

// Does it start a block of the bin that may be cached? Whoever wrote to a free block may have led a list
// anywhere.
bool may_be_cached(const Heap &heap, const Bin &bin, const Block *block);

// Frees a watched block, or one that the list has no room for: of the current slab, or with which the list is
// given up. Its state has been looked at.
[[gnu::noinline]] void watch_free(Heap &heap, SlabRow &row, Block *block);
[[gnu::noinline]] void free_beyond_room(Heap &heap, SlabRow &row, Block *block);

// Frees the block of the slab by way of the cache; its state has been looked at. `with` is what its word of the
// bitmap becomes, where it goes there.
[[gnu::always_inline]] inline void cache_block(Heap &heap, SlabRow &row, BitmapWord &word, uint64_t with,
                                               Block *block) {
  const unsigned index = row.prefix.bin;
  CachedBlocks &cached = cached_of(heap, index);
  if (--cached.room >= 0) {
    block->tag = &heap.bins[index];
    block->next = cached.list;
    cached.list = block;
  } else if (cached.room == cached.gives_up_at || row.prefix.state == SlabState::kCurrent) [[unlikely]] {
    free_beyond_room(heap, row, block);
  } else {
    set_free_bit(heap, row, word, with);
  }
}

// As free_to_bitmap, by way of the cache. False, too, where the block carries a free one's tag: whoever calls
// asks is_tagged_free then.
[[gnu::always_inline]] inline bool free_to_cache(Heap &heap, Superslab *superslab, SlabRow &row, void *p) {
  auto *block = static_cast<Block *>(p);
  BitmapWord &word = free_word(superslab, p);
  const uint64_t bits = word.load(std::memory_order_relaxed), with = bits | free_bit(p);
  if (with == bits || block->tag == &heap.bins[row.prefix.bin]) [[unlikely]]
    return false;
  if (heap.front_cache->watched != 0) [[unlikely]]
    watch_free(heap, row, block);
  else
    cache_block(heap, row, word, with, block);
  return true;
}

// Fills the bin's empty list; false where nothing was cached.
bool refill_from_cache(Heap &heap, unsigned bin);

// Leaves on the bin's list the blocks of its window, and nothing in its cache.
void flush_cache(Heap &heap, unsigned bin);

}  // namespace ace
