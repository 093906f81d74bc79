#include "heap/red_zone.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace ace {
namespace {

// Room for blocks with something before and behind them.
struct Memory {
  alignas(16) std::array<std::byte, 4096> bytes{};
  std::byte *block = bytes.data() + 64;
};

TEST(RedZone, AByteThatIsNotZeroIsSeenAnywhereInABlock) {
  Memory memory;
  for (size_t size = 16; size <= 1024; size += 16) {
    memory.block[-1] = memory.block[size] = std::byte{1};
    ASSERT_TRUE(is_zero(memory.block, size)) << size;
    memory.block[size] = {};
    for (size_t at = 0; at < size; ++at) {
      memory.block[at] = std::byte{1};
      ASSERT_FALSE(is_zero(memory.block, size)) << size << " bytes, of which one at " << at;
      memory.block[at] = {};
    }
  }
}

TEST(RedZone, ABlockIsWipedAndNothingBesideIt) {
  Memory memory;
  for (size_t size = 16; size <= 2 * kShortWipe; size += 16) {
    memory.bytes.fill(std::byte{0xa5});
    wipe(memory.block, size);
    EXPECT_TRUE(is_zero(memory.block, size)) << size;
    EXPECT_EQ(memory.block[-1], std::byte{0xa5}) << size;
    EXPECT_EQ(memory.block[size], std::byte{0xa5}) << size;
  }
}

// Each size that a block may have been asked for, with the last of what it holds.
TEST(RedZone, AnyByteBehindTheSizeIsSeen) {
  Memory memory;
  static Heap heap{};
  heap.secret = 0x0123456789abcdef;
  for (size_t gross : {16, 32, 48, 80, 320}) {
    for (size_t size = 0; size <= gross - kSeal; ++size) {
      memory.bytes.fill({});
      put_first_seal(heap, memory.block, gross, size);
      ASSERT_EQ(std::count(memory.block, memory.block + size, std::byte{}), size)
          << "the program's bytes are zero";
      memset(memory.block, 0xff, size);
      size_t told = 0;
      ASSERT_TRUE(check_seal(heap, memory.block, gross, told)) << size << " of " << gross;
      ASSERT_EQ(told, size);
      ASSERT_TRUE(check_seal_of(heap, memory.block, gross, size)) << size << " of " << gross;
      ASSERT_FALSE(check_seal_of(heap, memory.block, gross, size + 1));
      ASSERT_FALSE(check_seal_of(heap, memory.block, gross, SIZE_MAX));
      for (size_t at = size; at < gross; ++at) {
        for (auto value : {std::byte{0}, memory.block[at] ^ std::byte{1}}) {
          const std::byte before = std::exchange(memory.block[at], value);
          if (before == value) {  // a zero: only within the seal, behind its first byte
            EXPECT_GT(at, gross - kSeal) << size << ", at " << at;
            continue;
          }
          EXPECT_FALSE(check_seal(heap, memory.block, gross, told) && told == size) << size << ", at " << at;
          EXPECT_FALSE(check_seal_of(heap, memory.block, gross, size)) << size << ", at " << at;
          memory.block[at] = before;
        }
      }
    }
  }
}

}  // namespace
}  // namespace ace
