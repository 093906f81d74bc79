// How a hardened heap issues a slab's blocks: a word of the bitmap after another, by address, in a circle that
// begins anywhere in the slab; those of blocks from 512 bytes on in another order each time. (Small blocks in
// any order cost a collector's program up to as much time again, and a circle in each word up to 1.6 times as
// much: it goes through objects in the order in which they were made.) What is freed ahead is issued when its
// word comes, what is freed behind when the slab has its next turn.
//
// A hardened bin has no window, so that Bin::reciprocal is free to hold what may be issued of the word, and
// Bin::base where the word's first granule lies. Like an allocation list's, these blocks have left the bitmap
// and count as used.
#pragma once
#include <bit>
#include <utility>

#include "heap/red_zone.h"
#include "heap/slab.h"

namespace ace {

inline uint64_t next_random(Heap &heap) {
  heap.random = heap.random * 6364136223846793005u + 1442695040888963407u;
  return heap.random >> 32;
}

// A slab of the heap has become the bin's current one.
inline void begin_circle(Heap &heap, BinSlabs &slabs) {
  slabs.first_word() = static_cast<uint32_t>(next_random(heap) % kWordsPerSlab);
}

// The order of the current slab's words.
class Circle {
 public:
  explicit Circle(BinSlabs &slabs)
      : turned_(is_small(slabs) ? slabs.first_word() : 0), flipped_(is_small(slabs) ? 0 : slabs.first_word()) {}
  unsigned word(unsigned step) const { return (step + turned_) % kWordsPerSlab ^ flipped_; }

 private:
  static bool is_small(const BinSlabs &slabs) { return block_size_of(slabs.current->prefix) < 512; }
  const unsigned turned_, flipped_;
};

inline constexpr uint32_t kBytesPerWord = 64 * kGranule;

// The blocks of a word, `free`, whose first granule lies at `start`, are issued next. The bin has none.
inline void scatter(Bin &bin, const std::byte *start, uint64_t free) {
  bin.base = address_of(start);
  bin.reciprocal = free;
}

inline bool has_scattered(const Bin &bin) { return bin.reciprocal != 0; }

// Takes back those that were not issued: the word's bits. Its first granule lies at `start`.
inline uint64_t take_back_scattered(Bin &bin, const void *&start) {
  start = reinterpret_cast<const void *>(bin.base);
  return std::exchange(bin.reciprocal, 0);
}

// What waits of the word whose first granule lies at `start`.
inline uint64_t scattered_at(const Bin &bin, const std::byte *start) {
  return address_of(start) == bin.base ? bin.reciprocal : 0;
}

// Is the block, which lies in the bin's current slab, one of them?
inline bool is_scattered(const Bin &bin, const void *block) {
  const uintptr_t distance = address_of(block) - bin.base;
  return distance < kBytesPerWord && (bin.reciprocal >> distance / kGranule & 1) != 0;
}

// One of its blocks; it has some.
[[gnu::always_inline]] inline std::byte *take_scattered(Bin &bin) {
  const uint64_t bits = bin.reciprocal;
  bin.reciprocal = bits & (bits - 1);
  return reinterpret_cast<std::byte *>(bin.base + static_cast<unsigned>(std::countr_zero(bits)) * kGranule);
}

}  // namespace ace
