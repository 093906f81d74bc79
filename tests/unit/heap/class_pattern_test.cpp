// The patterns against brute force over every granule of a slab.
#include "heap/class_pattern.h"

#include <gtest/gtest.h>

namespace ace {
namespace {

class EachClass : public testing::TestWithParam<unsigned> {};
INSTANTIATE_TEST_SUITE_P(ClassPattern, EachClass, testing::Range(0u, kClasses));

TEST_P(EachClass, ABitWhereABlockStarts) {
  const ClassPattern &pattern = kClassPattern[GetParam()];
  const unsigned size = kClassSize[GetParam()];
  for (unsigned granule = 0; granule < kSlabSize / kGranule; ++granule) {
    const unsigned offset = granule * kGranule;
    const bool starts = offset % size == 0 && offset + size <= kSlabSize;
    ASSERT_EQ(pattern.words[granule / 64] >> granule % 64 & 1, starts) << "granule " << granule;
  }
}

TEST_P(EachClass, WhichBlockReachesIntoAPage) {
  const ClassPattern &pattern = kClassPattern[GetParam()];
  const unsigned size = kClassSize[GetParam()];
  for (unsigned page = 0; page < kPagesPerSlab; ++page) {
    unsigned expected = kNoBlock;
    for (unsigned block = 0; (block + 1) * size <= kSlabSize; ++block) {
      const unsigned from = block * size, to = from + size;
      if (from < page * kPage && to > page * kPage) expected = from / kGranule;
    }
    ASSERT_EQ(pattern.reaches_into[page], expected) << "page " << page;
  }
}

}  // namespace
}  // namespace ace
