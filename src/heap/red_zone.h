// What a hardened heap keeps behind and inside its blocks.
//
//   live    | what was asked for | padding | seal |     the seal is the block's last 8 bytes
//   free    | zero ...                            |
//
// The seal holds the size that was asked for, under a key of the process's secret and the block's address;
// padding, up to the next block size, is the key. So a write beyond the size is seen, by one byte even and by a
// zero (no byte of the padding is zero, nor the seal's first), and so is a size that is not the block's. Free
// blocks are zero, as are pages that went back to the system: whatever else is found in one was written to it
// after the free.
#pragma once
#include <bit>

#include "heap/annotate.h"

namespace ace {

inline constexpr size_t kSeal = 8;

// Blocks are read here as what they are not, hence the attributes.
using Word [[gnu::may_alias]] = uint64_t;
using TwoWords [[gnu::vector_size(16), gnu::may_alias]] = uint64_t;

// No byte of it is zero. What a multiplication mixes best are the highest bits: they become the lowest.
inline uint64_t key_of(uint64_t secret, const void *block) {
  return __builtin_bswap64((address_of(block) ^ secret) * 0x9e3779b97f4a7c15u) | 0x0101010101010101u;
}

// Where the seal stands in a block of `gross` bytes, of which its user gets less.
inline Word *seal_of(void *block, size_t gross) {
  return reinterpret_cast<Word *>(static_cast<std::byte *>(block) + gross - kSeal);
}
inline const Word *seal_of(const void *block, size_t gross) {
  return seal_of(const_cast<void *>(block), gross);
}

// The word that the byte behind `size` lies in: its first size % 8 bytes are still the user's.
inline Word *padding_of(void *block, size_t size) {
  return reinterpret_cast<Word *>(static_cast<std::byte *>(block) + size / 8 * 8);
}

// In loops over the padding, which has a word or two most of the time: compilers make no vectors of them, whose
// beginning and end would take longer than the loop.
inline void not_by_vectors() { __asm__ volatile(""); }

// Makes a block of `gross` bytes, all zero, one of `size`, at most gross - kSeal. Without padding its first
// word is the seal's.
[[gnu::always_inline]] inline void put_first_seal(const Heap &heap, void *block, size_t gross, size_t size) {
  const uint64_t key = key_of(heap.secret, block);
  Word *end = seal_of(block, gross), *word = padding_of(block, size);
  *word = key >> size * 8 % 64 << size * 8 % 64;
  *end = key ^ uint64_t { size } << 8;
  while (++word < end) {
    *word = key;
    not_by_vectors();
  }
}

// Before a block grows in place: what the program gets shows nothing of the key, which is the same as long as
// the block stays. `gross` is what the block had.
inline void wipe_old_seal(void *block, size_t old_size, size_t size, size_t gross) {
  if (size > old_size)
    __builtin_memset(static_cast<std::byte *>(block) + old_size, 0, std::min(size, gross) - old_size);
}

// Seals a block that holds something already.
inline void put_seal(const Heap &heap, void *block, size_t gross, size_t size) {
  Word *word = padding_of(block, size);
  const uint64_t kept = *word & ~(~uint64_t{0} << size % 8 * 8);
  put_first_seal(heap, block, gross, size);
  *word |= kept;
}

// Is what lies between the size and the seal, at `end`, whole?
[[gnu::always_inline]] inline bool check_padding(uint64_t key, const void *block, const Word *end,
                                                 size_t size) {
  const Word *word = padding_of(const_cast<void *>(block), size);
  if (word == end) return true;
  uint64_t wrong = (*word ^ key) >> size * 8 % 64;
  while (++word < end) {
    wrong |= *word ^ key;
    not_by_vectors();
  }
  return wrong == 0;
}

// In open memory: are seal and padding whole? `size` is what was asked for.
[[gnu::always_inline]] inline bool check_seal(const Heap &heap, const void *block, size_t gross, size_t &size) {
  const uint64_t key = key_of(heap.secret, block);
  const Word *end = seal_of(block, gross);
  size = std::rotr(*end ^ key, 8);  // what should be zero comes first, and is too large where it is not
  if (size > gross - kSeal) [[unlikely]]
    return false;
  return check_padding(key, block, end, size);
}

// ... and is it `size` that was asked for?
[[gnu::always_inline]] inline bool check_seal_of(const Heap &heap, const void *block, size_t gross,
                                                 size_t size) {
  const uint64_t key = key_of(heap.secret, block);
  const Word *end = seal_of(block, gross);
  return *end == (key ^ size << 8) && size <= gross - kSeal && check_padding(key, block, end, size);
}

inline constexpr size_t kBroken = SIZE_MAX;

// As read_seal, in open memory.
inline size_t read_open_seal(const Heap &heap, const void *block, size_t gross) {
  size_t size;
  return check_seal(heap, block, gross, size) ? size : kBroken;
}

// Of a heap that a tool watches: only what is behind the program's bytes is opened for it.
[[gnu::noinline, gnu::cold]] inline size_t read_closed_seal(const Heap &heap, const void *block, size_t gross) {
  const OpenMemory open(heap);
  const Word *seal = seal_of(block, gross);
  open_memory(seal, kSeal);
  const size_t told = (*seal ^ key_of(heap.secret, block)) >> 8, begin = std::min(told, gross - kSeal);
  auto *behind = static_cast<const std::byte *>(block) + begin;
  open_memory(behind, gross - begin);
  const size_t size = read_open_seal(heap, block, gross);
  if (size == kBroken) {
    close_memory(seal, kSeal);  // what lies before it may be the program's
  } else {
    close_memory(behind, gross - begin);
  }
  return size;
}

// The size that was asked for; kBroken where seal or padding were overwritten.
inline size_t read_seal(const Heap &heap, const void *block, size_t gross) {
  if (is_watched(heap)) [[unlikely]]
    return read_closed_seal(heap, block, gross);
  return read_open_seal(heap, block, gross);
}

// `size` is a multiple of 16, and not 0. Small blocks need no loop: their beginning and their end may overlap.
[[gnu::always_inline]] inline bool is_zero(const void *start, size_t size) {
  auto *p = static_cast<const TwoWords *>(start), *end = p + size / sizeof *p;
  TwoWords bits;
  if (size <= 2 * sizeof *p) {
    bits = p[0] | end[-1];
  } else {
    bits = p[0] | p[1] | end[-2] | end[-1];
    if (size > 4 * sizeof *p) {
      bits |= p[2] | p[3] | end[-4] | end[-3];
      for (p += 4, end -= 4; p < end; p += 2) bits |= p[0] | p[1];
    }
  }
  return (bits[0] | bits[1]) == 0;
}

// Is a free block, or free page, of the heap as it must be?
inline bool is_still_zero(const Heap &heap, const void *start, size_t size) {
  if (!is_watched(heap)) return is_zero(start, size);
  const OpenMemory open(heap);
  open_memory(start, size);
  const bool zero = is_zero(start, size);
  close_memory(start, size);
  return zero;
}

// Is the block, live or free, one that was wiped? It is told from one whose end was overwritten by zeroes, but
// for a block that was all zero before that. A tool that watches has seen such a write.
inline bool is_wiped(const Heap &heap, const void *block, size_t gross) {
  if (!is_watched(heap)) return *seal_of(block, gross) == 0 && is_zero(block, gross);
  const OpenMemory open(heap);
  open_memory(seal_of(block, gross), kSeal);
  const bool wiped = *seal_of(block, gross) == 0;
  close_memory(seal_of(block, gross), kSeal);
  return wiped;
}

inline constexpr size_t kShortWipe = 256;  // beyond, the library's loop is faster than its call is long

// Zeroes a block of up to kShortWipe, as is_zero reads it.
[[gnu::always_inline]] inline void wipe_short(void *start, size_t size) {
  auto *p = static_cast<TwoWords *>(start), *end = p + size / sizeof *p;
  p[0] = end[-1] = TwoWords{};
  if (size <= 2 * sizeof *p) return;
  p[1] = end[-2] = TwoWords{};
  if (size <= 4 * sizeof *p) return;
  p[2] = p[3] = end[-4] = end[-3] = TwoWords{};
  for (p += 4, end -= 4; p < end; p += 2) p[0] = p[1] = TwoWords{};
}

inline void wipe(void *start, size_t size) {
  if (size > kShortWipe) {
    __builtin_memset(start, 0, size);
  } else {
    wipe_short(start, size);
  }
}

// Where a block, whose size in the bitmaps is `gross`, ends for its user.
inline size_t size_for_user(const Heap &heap, const void *block, size_t gross) {
  if (heap.nature != Nature::kHardened) return gross;
  const size_t size = read_seal(heap, block, gross);
  return size == kBroken ? gross - kSeal : size;
}

}  // namespace ace
