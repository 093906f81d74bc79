#include "base/size_class.h"

#include <gtest/gtest.h>

namespace ace {
namespace {

TEST(SizeClass, SizesRiseAndAreWholeGranules) {
  for (unsigned c = 0; c < kClasses; ++c) {
    EXPECT_EQ(kClassSize[c] % kGranule, 0u);
    if (c != 0) EXPECT_GT(kClassSize[c], kClassSize[c - 1]);
  }
  EXPECT_EQ(kClassSize[0], kGranule);
  EXPECT_EQ(kClassSize[kClasses - 1], kTinyMax);
}

TEST(SizeClass, EverySizeGetsTheSmallestClassThatHoldsIt) {
  for (size_t size = 1; size <= kTinyMax; ++size) {
    unsigned expected = 0;
    while (kClassSize[expected] < size) ++expected;
    ASSERT_EQ(class_of(size), expected) << size;
  }
}

TEST(SizeClass, LittleIsLostToRounding) {
  for (size_t size = 257; size <= kTinyMax; ++size) {
    ASSERT_LE(kClassSize[class_of(size)] - size, size / (size <= 1024 ? 8 : 4)) << size;
  }
}

TEST(SizeClass, StartsBlockIsDivisibility) {
  for (unsigned c = 0; c < kClasses; ++c) {
    const uint32_t size = kClassSize[c];
    for (uint32_t offset = 0; offset < kSlabSize; ++offset) {
      ASSERT_EQ(starts_block(offset, reciprocal(size)), offset % size == 0)
          << offset << " in blocks of " << size;
    }
  }
}

TEST(SizeClass, WithoutReciprocalNothingStarts) {
  for (uint32_t offset = 0; offset < kSlabSize; ++offset) ASSERT_FALSE(starts_block(offset, 0));
}

TEST(SizeClass, SlabsHoldTheirBlocks) {
  for (unsigned c = 0; c < kClasses; ++c) {
    EXPECT_LE(blocks_per_slab(c) * kClassSize[c], kSlabSize);
    EXPECT_GT((blocks_per_slab(c) + 1) * kClassSize[c], kSlabSize);
  }
}

}  // namespace
}  // namespace ace
