// How a hardened heap issues a slab's blocks: a word of the bitmap after another, and those of a word in random
// order. The words of a slab follow one another in an order of its own: small blocks' within their page,
// others' in all of the slab. What is freed behind is issued when the slab's turn comes again: a freed block
// rests until its bin has gone through the rest of the slab.
#pragma once
#include "heap/red_zone.h"
#include "heap/slab.h"

namespace ace {

// The word that is `step`th in the slab's order.
inline unsigned scattered_word(const Heap &heap, SlabRow &row, unsigned step) {
  const unsigned most = block_size_of(row.prefix) < 512 ? kWordsPerPage - 1 : kWordsPerSlab - 1;
  return step ^ (static_cast<unsigned>(key_of(heap.secret, slab_of(row)) >> 8) & most);
}

inline uint64_t next_random(Heap &heap) {
  heap.random = heap.random * 6364136223846793005u + 1442695040888963407u;
  return heap.random >> 32;
}

// A free block of the bin, no longer free; nullptr where the bin needs a refill.
inline std::byte *take_scattered(Heap &heap, unsigned bin) {
  if constexpr (!kCanHarden) return nullptr;
  BinSlabs &slabs = heap.slabs[bin];
  const uint64_t bits = slabs.scatter->bits;
  if (bits == 0) return nullptr;
  const auto turn = static_cast<int>(next_random(heap) % 64);
  const int n = (std::countr_zero(std::rotr(bits, turn)) + turn) % 64;
  slabs.scatter->bits = bits & ~(uint64_t{1} << n);
  auto *block = reinterpret_cast<std::byte *>(heap.bins[bin].base) + static_cast<unsigned>(n) * kGranule;
  BitmapWord &word = free_word(superslab_of(block), block);
  word.store(word.load(std::memory_order_relaxed) & ~(uint64_t{1} << n), std::memory_order_relaxed);
  ++slabs.current->prefix.used;
  slabs.used_blocks.add(1);
  return block;
}

}  // namespace ace
