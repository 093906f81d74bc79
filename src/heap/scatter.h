// How a hardened heap issues a slab's blocks: a word of the bitmap after another, and those of a word in a
// circle that begins anywhere. The words of a slab follow one another by address, those of blocks from 512
// bytes on in an order of the slab's own. (Small blocks or words in any order cost a collector's program up to
// as much time again: it goes through objects in the order in which they were made.) What is freed behind is
// issued when the slab's turn comes again: a freed block rests until its bin has gone through the rest of the
// slab.
//
// A hardened bin has no window, so that Bin::base is free to say where the word's first granule lies, and
// Bin::reciprocal where the circle begins.
#pragma once
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

// A free block of the bin, no longer free; nullptr where the bin needs a refill.
inline std::byte *take_scattered(Heap &heap, unsigned bin) {
  if constexpr (!kCanHarden) return nullptr;
  BinSlabs &slabs = heap.slabs[bin];
  const uint64_t bits = slabs.scatter->bits;
  if (bits == 0) return nullptr;
  const auto turn = static_cast<int>(heap.bins[bin].reciprocal);
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
