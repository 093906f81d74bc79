// What the workloads write into blocks, so that an allocator that hands out memory twice, or changes it, fails.
#pragma once
#include <stdint.h>
#include <string.h>

namespace micro {

// A live block and its size, as the workloads keep them. `p` is nullptr in an empty slot.
struct Slot {
  void *p;
  uint64_t size;
};

// Ends the process with status 1: in the hot loops an exception would cost registers.
[[noreturn, gnu::cold, gnu::noinline]] void out_of_memory();

[[gnu::always_inline]] inline void *checked(void *p) {
  if (p == nullptr) [[unlikely]]
    out_of_memory();
  return p;
}

// The first word of a block says where it is and how large; sizes are at most 2^20.
[[gnu::always_inline]] inline uint64_t word_of(const void *p, uint64_t size) {
  return reinterpret_cast<uintptr_t>(p) << 16 ^ size;
}

[[gnu::always_inline]] inline uint64_t first_word(const void *p) {
  uint64_t word;
  memcpy(&word, p, sizeof word);
  return word;
}

// First eight bytes and last byte; `size` is 16 or more.
[[gnu::always_inline]] inline void fill(void *p, uint64_t size) {
  const uint64_t word = word_of(p, size);
  memcpy(p, &word, sizeof word);
  static_cast<unsigned char *>(p)[size - 1] = static_cast<unsigned char>(size);
}

// Each page as well: the middle of a large block would not be resident otherwise.
[[gnu::always_inline]] inline void fill_pages(void *p, uint64_t size) {
  for (uint64_t at = 4096; at < size; at += 4096) static_cast<unsigned char *>(p)[at] = 1;
  fill(p, size);
}

// 0 where the block holds what `fill` wrote.
[[gnu::always_inline]] inline uint64_t damage(const void *p, uint64_t size) {
  const auto last = static_cast<const unsigned char *>(p)[size - 1];
  return (first_word(p) ^ word_of(p, size)) | (last ^ static_cast<unsigned char>(size));
}

// The size that the first word of a block gives; a damaged one gives a large number.
[[gnu::always_inline]] inline uint64_t size_in(const void *p) { return first_word(p) ^ word_of(p, 0); }

}  // namespace micro
