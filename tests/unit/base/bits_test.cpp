#include "base/bits.h"

#include <gtest/gtest.h>

namespace ace {
namespace {

TEST(Bits, PowersOfTwo) {
  EXPECT_FALSE(is_power_of_two(0));
  for (unsigned i = 0; i < 64; ++i) EXPECT_TRUE(is_power_of_two(size_t{1} << i));
  for (size_t n : {size_t{3}, size_t{6}, size_t{4097}, SIZE_MAX}) EXPECT_FALSE(is_power_of_two(n)) << n;
}

TEST(Bits, Rounding) {
  EXPECT_EQ(round_up(0, 16), 0u);
  EXPECT_EQ(round_up(1, 16), 16u);
  EXPECT_EQ(round_up(16, 16), 16u);
  EXPECT_EQ(round_up(17, 16), 32u);
  EXPECT_EQ(round_down(0, 16), 0u);
  EXPECT_EQ(round_down(15, 16), 0u);
  EXPECT_EQ(round_down(31, 16), 16u);
  EXPECT_EQ(round_down(SIZE_MAX, 4096), SIZE_MAX - 4095);
}

TEST(Bits, LowBitsAtBothEnds) {
  EXPECT_EQ(low_bits(0), 0u);
  EXPECT_EQ(low_bits(1), 1u);
  EXPECT_EQ(low_bits(63), UINT64_MAX / 2);
  EXPECT_EQ(low_bits(64), UINT64_MAX);
}

}  // namespace
}  // namespace ace
