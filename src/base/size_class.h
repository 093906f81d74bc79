// Size classes of the tiny range: 16-byte steps to 256, then eight to a doubling to 16 KiB.
#pragma once
#include <array>

#include "base/bits.h"
#include "base/config.h"
#include "base/experiment.h"

namespace ace {

inline constexpr unsigned kClasses = 64;

constexpr std::array<uint16_t, kClasses> make_class_sizes() {
  std::array<uint16_t, kClasses> sizes{};
  unsigned n = 0;
  size_t size = 0;
  while (size < kTinyMax) {
    size_t step = size < 256 ? 16 : std::bit_floor(size) / 8;
    size += step;
    sizes[n++] = static_cast<uint16_t>(size);
  }
  return sizes;
}
inline constexpr std::array<uint16_t, kClasses> kClassSize = make_class_sizes();
static_assert(kClassSize[kClasses - 1] == kTinyMax);

// The class of a request of `size` bytes, 1 <= size <= kTinyMax, is kClassOf[(size - 1) / kGranule].
constexpr std::array<uint8_t, kTinyMax / kGranule> make_class_of() {
  std::array<uint8_t, kTinyMax / kGranule> table{};
  unsigned c = 0;
  for (size_t i = 0; i < table.size(); ++i) {
    while (kClassSize[c] < (i + 1) * kGranule) ++c;
    table[i] = static_cast<uint8_t>(c);
  }
  return table;
}
inline constexpr std::array<uint8_t, kTinyMax / kGranule> kClassOf = make_class_of();

constexpr unsigned class_of(size_t size) { return kClassOf[(size - 1) / kGranule]; }

// What blocks leave of a slab (experiment prefix).
inline constexpr size_t kSlabTail = kTailPrefix ? 128 : 0;

constexpr unsigned blocks_per_slab(unsigned size_class) {
  return static_cast<unsigned>((kSlabSize - kSlabTail) / kClassSize[size_class]);
}

// Divisibility and range in one comparison, by multiplication (after Lemire, Kaser, Kurz, "Faster remainder by
// direct computation", 2019). The reciprocal is the smallest number above 2^N / size, so that size * reciprocal
// exceeds 2^N by a small excess, at least 1 and at most size. Modulo 2^N then
//
//   (k * size) * reciprocal = k * excess                     small, and growing with k
//   (k * size + r) * reciprocal, 0 < r < size                at least reciprocal - k * excess: large
//
// and what lies before the first block is large as well, as long as k * excess stays below the reciprocal. So
// `distance` from the first of n blocks leads to the start of one of them if and only if
// distance * reciprocal < n * excess.
template <typename Word>
constexpr Word reciprocal(Word size) {
  return static_cast<Word>(Word(~Word{0}) / size + (size & (size - 1) ? 1 : 2));
}
template <typename Word>
constexpr Word excess(Word size) {
  return static_cast<Word>(size * reciprocal<Word>(size));
}

// For offsets in a slab 32 bits do. The bound is below 2^16: it is that of the slab's last block.
constexpr uint32_t slab_reciprocal(unsigned size_class) { return reciprocal<uint32_t>(kClassSize[size_class]); }
constexpr uint16_t slab_bound(unsigned size_class) {
  return static_cast<uint16_t>((blocks_per_slab(size_class) - 1) * excess<uint32_t>(kClassSize[size_class]));
}
constexpr bool starts_block(uint32_t offset_in_slab, uint32_t reciprocal_of_size, uint32_t bound) {
  return offset_in_slab * reciprocal_of_size <= bound;
}

// For differences of addresses: 64 bits, right for any two addresses below 2^47.
struct WideReciprocal {
  uint64_t reciprocal, excess;
};
constexpr std::array<WideReciprocal, kClasses> make_wide_reciprocals() {
  std::array<WideReciprocal, kClasses> table{};
  for (unsigned c = 0; c < kClasses; ++c)
    table[c] = {reciprocal<uint64_t>(kClassSize[c]), excess<uint64_t>(kClassSize[c])};
  return table;
}
inline constexpr std::array<WideReciprocal, kClasses> kWideReciprocal = make_wide_reciprocals();

}  // namespace ace
