// What a hardened heap keeps behind and inside its blocks.
//
//   live    | what was asked for | padding | seal |     the seal is the block's last 8 bytes
//   free    | zero ...                            |
//
// The seal holds the size that was asked for, under a key of the process's secret and the block's address;
// padding, up to the next block size, is a byte of the key. So a write beyond the size is seen, by one byte
// even and by a zero (no byte of the padding is zero, nor the seal's first), and so is a size that is not the
// block's. Free blocks are zero, as are pages that went back to the system: whatever else is found in one was
// written to it after the free.
#pragma once
#include "heap/annotate.h"

namespace ace {

inline constexpr size_t kSeal = 8;

// Blocks are read here as what they are not, hence the attributes.
using Word [[gnu::may_alias]] = uint64_t;
using TwoWords [[gnu::vector_size(16), gnu::may_alias]] = uint64_t;

inline uint64_t key_of(uint64_t secret, const void *block) {
  const uint64_t x = (address_of(block) ^ secret) * 0x9e3779b97f4a7c15u;
  return (x ^ x >> 32) | 1;
}
inline uint64_t padding_of(uint64_t key) { return (key & 0xff) * 0x0101010101010101u; }
// The bytes of a word from its `n`th on, 0 <= n < 8.
inline uint64_t bytes_from(size_t n) { return ~uint64_t{0} << 8 * n; }

// Where the seal stands in a block of `gross` bytes, of which its user gets less.
inline Word *seal_of(void *block, size_t gross) {
  return reinterpret_cast<Word *>(static_cast<std::byte *>(block) + gross - kSeal);
}

// In loops over the padding, which has a word or two most of the time: compilers make no vectors of them, whose
// beginning and end would take longer than the loop.
inline void not_by_vectors() { __asm__ volatile(""); }

// Makes a block of `gross` bytes one of `size`, at most gross - kSeal. Without padding its first word is the
// seal's.
[[gnu::always_inline]] inline void put_seal(const Heap &heap, void *block, size_t gross, size_t size) {
  const uint64_t key = key_of(heap.secret, block), padding = padding_of(key), mask = bytes_from(size % 8);
  Word *end = seal_of(block, gross);
  auto *word = reinterpret_cast<Word *>(static_cast<std::byte *>(block) + size / 8 * 8);
  *word = (*word & ~mask) | (padding & mask);
  *end = key ^ uint64_t { size } << 8;
  while (++word < end) {
    *word = padding;
    not_by_vectors();
  }
}

inline constexpr size_t kBroken = SIZE_MAX;

// As read_seal, in open memory.
[[gnu::always_inline]] inline size_t read_open_seal(const Heap &heap, const void *block, size_t gross) {
  const uint64_t key = key_of(heap.secret, block), padding = padding_of(key);
  const Word *end = seal_of(const_cast<void *>(block), gross);
  const uint64_t told = *end ^ key;
  const size_t size = told >> 8;
  if ((told & 0xff) != 0 || size > gross - kSeal) [[unlikely]]
    return kBroken;
  auto *word = reinterpret_cast<const Word *>(static_cast<const std::byte *>(block) + size / 8 * 8);
  if (word == end) return size;
  uint64_t wrong = (*word ^ padding) & bytes_from(size % 8);
  while (++word < end) {
    wrong |= *word ^ padding;
    not_by_vectors();
  }
  return wrong == 0 ? size : kBroken;
}

// Of a heap that a tool watches: only what is behind the program's bytes is opened for it.
[[gnu::noinline, gnu::cold]] inline size_t read_closed_seal(const Heap &heap, const void *block, size_t gross) {
  const OpenMemory open(heap);
  const Word *seal = seal_of(const_cast<void *>(block), gross);
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
[[gnu::always_inline]] inline size_t read_seal(const Heap &heap, const void *block, size_t gross) {
  if (is_watched(heap)) [[unlikely]]
    return read_closed_seal(heap, block, gross);
  return read_open_seal(heap, block, gross);
}

// `size` is a multiple of 16. What is over four times that comes first, so that small blocks need no loop.
inline bool is_zero(const void *start, size_t size) {
  auto *p = static_cast<const TwoWords *>(start);
  const TwoWords *end = p + size / sizeof *p;
  TwoWords bits{}, more{};
  if (size & 16) bits = *p++;
  if (size & 32) {
    bits |= p[0] | p[1];
    p += 2;
  }
  for (; p != end; p += 4) {
    bits |= p[0] | p[1];
    more |= p[2] | p[3];
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

inline constexpr size_t kShortWipe = 256;  // beyond, the library's loop is faster than its call is long

// The same for a block of up to kShortWipe.
inline void wipe_short(void *start, size_t size) {
  auto *p = static_cast<TwoWords *>(start);
  const TwoWords *end = p + size / sizeof *p;
  if (size & 16) *p++ = TwoWords{};
  if (size & 32) {
    p[0] = p[1] = TwoWords{};
    p += 2;
  }
  for (; p != end; p += 4) p[0] = p[1] = p[2] = p[3] = TwoWords{};
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
