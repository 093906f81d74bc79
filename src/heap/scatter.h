// How a hardened heap issues a slab's blocks: a word of the bitmap after another, and those of a word in a
// circle that begins anywhere. The words of a slab follow one another by address, those of blocks from 512
// bytes on in an order of the slab's own. (Small blocks or words in any order cost a collector's program up to
// as much time again: it goes through objects in the order in which they were made.) What is freed behind is
// issued when the slab's turn comes again: a freed block rests until its bin has gone through the rest of the
// slab.
//
// A hardened bin has no window, so that Bin::reciprocal is free to hold what may be issued of the word, turned
// so that the circle begins with the lowest bit, and Bin::base where the word's first granule lies and, in the
// bits that are zero of that, where the circle begins. Like an allocation list's, these blocks have left the
// bitmap and count as used.
#pragma once
#include <bit>
#include <utility>

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
inline constexpr uintptr_t kInWord = kBytesPerWord - 1;

// How far the circle of the bin's word is turned.
inline int turn_of(const Bin &bin) { return static_cast<int>((bin.base & kInWord) / kGranule); }

// The blocks of a word, `free`, whose first granule lies at `start`, are issued next. The bin has none.
inline void scatter(Heap &heap, Bin &bin, const std::byte *start, uint64_t free) {
  const auto turn = static_cast<unsigned>(next_random(heap) % 64);
  bin.base = address_of(start) + turn * kGranule;
  bin.reciprocal = std::rotr(free, static_cast<int>(turn));
}

inline bool has_scattered(const Bin &bin) { return bin.reciprocal != 0; }

// Takes back those that were not issued: the word's bits. Its first granule lies at `start`.
inline uint64_t gather(Bin &bin, const void *&start) {
  start = reinterpret_cast<const void *>(bin.base & ~kInWord);
  return std::rotl(std::exchange(bin.reciprocal, 0), turn_of(bin));
}

// Is the block, which lies in the bin's current slab, one of them?
inline bool is_scattered(const Bin &bin, const void *block) {
  const uintptr_t apart = address_of(block) ^ bin.base;
  const auto n = (address_of(block) - bin.base) / kGranule % 64;
  return (apart & ~kInWord) == 0 && (bin.reciprocal >> n & 1) != 0;
}

// One of its blocks; it has some.
[[gnu::always_inline]] inline std::byte *take_scattered(Bin &bin) {
  const uint64_t bits = bin.reciprocal;
  bin.reciprocal = bits & (bits - 1);
  const uintptr_t turned = bin.base + static_cast<unsigned>(std::countr_zero(bits)) * kGranule;
  return reinterpret_cast<std::byte *>((bin.base & ~kInWord) | (turned & kInWord));
}

}  // namespace ace
