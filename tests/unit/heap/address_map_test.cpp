#include "heap/address_map.h"

#include <gtest/gtest.h>

namespace ace {
namespace {

const void *at(uintptr_t address) { return reinterpret_cast<const void *>(address); }

TEST(AddressMap, ABitEach2MiB) {
  // An address that no mapping of this process has: the last superslab of user space.
  const uintptr_t last = (uintptr_t{1} << kAddressBits) - kSuperslabSize;
  ASSERT_FALSE(is_ours(at(last)));
  ASSERT_TRUE(enter_address(at(last)));
  EXPECT_TRUE(is_ours(at(last)));
  EXPECT_TRUE(is_ours(at(last + kSuperslabSize - 1)));
  EXPECT_FALSE(is_ours(at(last - 1)));
  EXPECT_FALSE(is_ours(at(last + kSuperslabSize)));
  leave_address(at(last));
  EXPECT_FALSE(is_ours(at(last)));
}

TEST(AddressMap, NeighboursDoNotDisturbOneAnother) {
  const uintptr_t first = uintptr_t{64} * 5 * kSuperslabSize;  // the first bit of a word
  for (unsigned i = 0; i < 64; ++i) ASSERT_TRUE(enter_address(at(first + i * kSuperslabSize)));
  leave_address(at(first + 17 * kSuperslabSize));
  for (unsigned i = 0; i < 64; ++i) EXPECT_EQ(is_ours(at(first + i * kSuperslabSize)), i != 17);
  for (unsigned i = 0; i < 64; ++i) leave_address(at(first + i * kSuperslabSize));
  for (unsigned i = 0; i < 64; ++i) EXPECT_FALSE(is_ours(at(first + i * kSuperslabSize)));
}

TEST(AddressMap, AddressesBeyondTheMap) {
  for (uintptr_t address : {uintptr_t{1} << kAddressBits, uintptr_t{1} << 63, UINTPTR_MAX}) {
    EXPECT_FALSE(is_ours(at(address)));
  }
  EXPECT_FALSE(enter_address(at(uintptr_t{1} << kAddressBits)));
}

TEST(AddressMap, NothingElseIsOurs) {
  int local = 0;
  static int global;
  EXPECT_FALSE(is_ours(nullptr));
  EXPECT_FALSE(is_ours(&local));
  EXPECT_FALSE(is_ours(&global));
  EXPECT_FALSE(is_ours(at(1)));
}

}  // namespace
}  // namespace ace
