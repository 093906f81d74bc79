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
  const size_t kept = size % 8 * 8;
  *word = key >> kept << kept;
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

// In open memory: are seal and padding whole? `size` is what was asked for.
[[gnu::always_inline]] inline bool check_seal(const Heap &heap, const void *block, size_t gross, size_t &size) {
  const uint64_t key = key_of(heap.secret, block);
  const Word *end = seal_of(block, gross);
  size = std::rotr(*end ^ key, 8);  // what should be zero comes first, and is too large where it is not
  if (size > gross - kSeal) [[unlikely]]
    return false;
  const Word *word = padding_of(const_cast<void *>(block), size);
  if (word == end) return true;
  uint64_t wrong = (*word ^ key) >> size % 8 * 8;
  while (++word < end) {
    wrong |= *word ^ key;
    not_by_vectors();
  }
  return wrong == 0;
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

// `size` is a multiple of 16. What is over four times that comes first, so that small blocks need no loop.
[[gnu::always_inline]] inline bool is_zero(const void *start, size_t size) {
  auto *p = static_cast<const TwoWords *>(start);
  size_t n = size / sizeof *p;
  TwoWords bits{}, more{};
  if (n & 1) bits = p[--n];
  if (n & 2) {
    n -= 2;
    bits |= p[n] | p[n + 1];
  }
  while (n != 0) {
    n -= 4;
    bits |= p[n] | p[n + 1];
    more |= p[n + 2] | p[n + 3];
  }
  bits |= more;
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

// Zeroes a block of up to kShortWipe; `size` is a multiple of 16.
[[gnu::always_inline]] inline void wipe_short(void *start, size_t size) {
  auto *p = static_cast<TwoWords *>(start);
  size_t n = size / sizeof *p;
  if (n & 1) p[--n] = TwoWords{};
  if (n & 2) {
    n -= 2;
    p[n] = p[n + 1] = TwoWords{};
  }
  while (n != 0) {
    n -= 4;
    p[n] = p[n + 1] = p[n + 2] = p[n + 3] = TwoWords{};
  }
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
  if (heap.nature != Nature::kHardened) return gross - kHeader;
  const size_t size = read_seal(heap, block, gross);
  return size == kBroken ? gross - kSeal : size;
}

}  // namespace ace
