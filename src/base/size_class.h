// Size classes of the tiny range: 16-byte steps to 256, then eight to a doubling to 1 KiB, four to 8 KiB.
#pragma once
#include <array>

#include "base/bits.h"
#include "base/config.h"

namespace ace {

inline constexpr unsigned kClasses = 44;

constexpr std::array<uint16_t, kClasses> make_class_sizes() {
  std::array<uint16_t, kClasses> sizes{};
  unsigned n = 0;
  size_t size = 0;
  while (size < kTinyMax) {
    size_t step = size < 256 ? 16 : size < 512 ? 32 : size < 1024 ? 64 : std::bit_floor(size) / 4;
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

constexpr unsigned blocks_per_slab(unsigned size_class) {
  return static_cast<unsigned>(kSlabSize / kClassSize[size_class]);
}

// Divisibility by multiplication (Lemire, Kaser, Kurz, "Faster remainder by direct computation", 2019): for
// offset < 2^16, offset % size == 0 if and only if uint32(offset * reciprocal(size)) < reciprocal(size).
constexpr uint32_t reciprocal(uint32_t size) { return UINT32_MAX / size + 1; }

constexpr bool starts_block(uint32_t offset_in_slab, uint32_t block_reciprocal) {
  return offset_in_slab * block_reciprocal < block_reciprocal;
}

}  // namespace ace
