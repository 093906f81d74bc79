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

TEST(SizeClass, StartsBlockIsDivisibilityUpToTheLastBlock) {
  for (unsigned c = 0; c < kClasses; ++c) {
    const uint32_t size = kClassSize[c];
    for (uint32_t offset = 0; offset < kSlabSize; ++offset) {
      ASSERT_EQ(starts_block(offset, slab_reciprocal(c), slab_bound(c)),
                offset % size == 0 && offset / size < blocks_per_slab(c))
          << offset << " in blocks of " << size;
    }
  }
}

// Distances in both directions: every one near the window, and some from all over the address space.
TEST(SizeClass, WideReciprocalsProveAddresses) {
  for (unsigned c = 0; c < kClasses; ++c) {
    const auto size = static_cast<int64_t>(kClassSize[c]);
    const auto [factor, excess] = kWideReciprocal[c];
    for (int64_t blocks : {int64_t{0}, int64_t{1}, int64_t{blocks_per_slab(c)}}) {
      auto check = [&](int64_t distance) {
        const bool in_window = distance >= 0 && distance % size == 0 && distance / size < blocks;
        ASSERT_EQ(static_cast<uint64_t>(distance) * factor < static_cast<uint64_t>(blocks) * excess, in_window)
            << distance << ", " << blocks << " blocks of " << size;
      };
      for (int64_t distance = -70'000; distance <= 70'000; ++distance) check(distance);
      for (int64_t k = 1; k < int64_t{1} << 47; k = k * 3 + 1) {
        for (int64_t near : {k / size * size - 1, k / size * size, k / size * size + 1, k}) {
          check(near);
          check(-near);
        }
      }
    }
  }
}

TEST(SizeClass, SlabsHoldTheirBlocks) {
  for (unsigned c = 0; c < kClasses; ++c) {
    EXPECT_LE(blocks_per_slab(c) * kClassSize[c], kSlabSize);
    EXPECT_GT((blocks_per_slab(c) + 1) * kClassSize[c], kSlabSize);
  }
}

}  // namespace
}  // namespace ace
