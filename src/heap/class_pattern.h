// What the free bitmap of a slab looks like when every block is free, and which block lies across the start
// of each page: a page is dead when its words equal the pattern and that block is free too.
#pragma once
#include <array>

#include "base/size_class.h"

namespace ace {

struct ClassPattern {
  std::array<uint64_t, kWordsPerSlab> words;
  // The granule where the block starts that reaches into the page from before it; kNoBlock where none does.
  std::array<uint16_t, kPagesPerSlab> reaches_into;
};
inline constexpr uint16_t kNoBlock = 0xffff;

constexpr ClassPattern make_class_pattern(unsigned size_class) {
  ClassPattern pattern{};
  const unsigned size = kClassSize[size_class], blocks = blocks_per_slab(size_class);
  for (unsigned b = 0; b < blocks; ++b) {
    auto granule = static_cast<unsigned>(b * size / kGranule);
    pattern.words[granule / 64] |= uint64_t{1} << granule % 64;
  }
  for (unsigned page = 0; page < kPagesPerSlab; ++page) {
    unsigned start = static_cast<unsigned>(page * kPage / size * size);
    bool none = start == page * kPage || start / size >= blocks;
    pattern.reaches_into[page] = none ? kNoBlock : static_cast<uint16_t>(start / kGranule);
  }
  return pattern;
}

constexpr std::array<ClassPattern, kClasses> make_class_patterns() {
  std::array<ClassPattern, kClasses> patterns{};
  for (unsigned c = 0; c < kClasses; ++c) patterns[c] = make_class_pattern(c);
  return patterns;
}
inline constexpr std::array<ClassPattern, kClasses> kClassPattern = make_class_patterns();

}  // namespace ace
