// How a hardened heap issues a slab's blocks: a word of the bitmap after another, and those of a word in a
// circle that begins anywhere. The words of a slab follow one another by address, those of blocks from 512
// bytes on in an order of the slab's own. (Small blocks or words in any order cost a collector's program up to
// as much time again: it goes through objects in the order in which they were made.) What is freed behind is
// issued when the slab's turn comes again: a freed block rests until its bin has gone through the rest of the
// slab.
//
// A hardened bin has no window, so that Bin::reciprocal is free to hold what may be issued of the word, turned
// so that the circle begins with the lowest bit, and Bin::base where the word's first granule lies and, in the
// bits that are zero of that, where the circle begins.
#pragma once
#include <bit>

#include "heap/red_zone.h"
#include "heap/slab.h"

namespace ace {

// The word that is `step`th in the slab's order.
inline unsigned scattered_word(const Heap &heap, SlabRow &row, unsigned step) {
  if (block_size_of(row.prefix) < 512) return step;
  return step ^ (static_cast<unsigned>(key_of(heap.secret, slab_of(row)) >> 8) % kWordsPerSlab);
}

inline uint64_t next_random(Heap &heap) {
  heap.random = heap.random * 6364136223846793005u + 1442695040888963407u;
  return heap.random >> 32;
}

inline constexpr uint32_t kBytesPerWord = 64 * kGranule;

// The blocks of a word, `free`, whose first granule lies at `start`, are issued next.
inline void scatter(Heap &heap, unsigned index, std::byte *start, uint64_t free) {
  const auto turn = static_cast<int>(next_random(heap) % 64);
  heap.bins[index].base = address_of(start) + static_cast<unsigned>(turn) * kGranule;
  heap.bins[index].reciprocal = std::rotr(free, turn);
  heap.slabs[index].scattered() = &free_word(superslab_of(start), start);
}

// Has the bin a block to issue, or does it need a refill?
inline bool can_issue(const Bin &bin) { return bin.reciprocal != 0; }

// One of its blocks, no longer free.
[[gnu::always_inline]] inline std::byte *take_scattered(Heap &heap, unsigned index) {
  Bin &bin = heap.bins[index];
  constexpr uintptr_t kInWord = kBytesPerWord - 1;
  const uint64_t bits = bin.reciprocal;
  bin.reciprocal = bits & (bits - 1);
  const uintptr_t turned = bin.base + static_cast<unsigned>(std::countr_zero(bits)) * kGranule;
  auto *block = reinterpret_cast<std::byte *>((bin.base & ~kInWord) | (turned & kInWord));
  BinSlabs &slabs = heap.slabs[index];
  BitmapWord &word = *slabs.scattered();
  word.store(word.load(std::memory_order_relaxed) & ~free_bit(block), std::memory_order_relaxed);
  ++slabs.current->prefix.used;
  slabs.used_blocks.add(1);
  return block;
}

}  // namespace ace
