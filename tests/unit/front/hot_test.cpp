#include "front/hot.h"

#include "heap/slab.h"
#include "unit/heap_test.h"

namespace ace {
namespace {

using test::HeapTest;

using Hot = HeapTest;

TEST_F(Hot, EverySizeIsUsableAndAligned) {
  for (size_t size = 0; size <= 10'000; size += size < 300 ? 1 : 37) {
    void *p = allocate(*heap, size, 0);
    ASSERT_NE(p, nullptr);
    EXPECT_EQ(address_of(p) % kGranule, 0u);
    EXPECT_GE(ace_usable_size(p), std::max<size_t>(size, 1));
    memset(p, 0xff, ace_usable_size(p));
  }
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(Hot, TheLastFreedBlockIsTheNext) {
  auto blocks = fill(10, 64);
  free_block(*heap, blocks[7]);
  free_sized(*heap, blocks[2], 64);
  EXPECT_EQ(allocate(*heap, 64, 0), blocks[2]);
  EXPECT_EQ(allocate(*heap, 64, 0), blocks[7]);
}

TEST_F(Hot, PushTakesBlocksOfTheWindowAlone) {
  auto blocks = fill(10, 64);
  auto other = fill(10, 128);
  Bin &bin = heap->bins[class_of(64)];
  EXPECT_FALSE(push(bin, static_cast<std::byte *>(blocks[3]) + 16));
  EXPECT_FALSE(push(bin, other[3]));
  EXPECT_FALSE(push(bin, nullptr));
  EXPECT_FALSE(push(bin, static_cast<std::byte *>(blocks[0]) + kPage)) << "not carved yet";
  EXPECT_TRUE(push(bin, blocks[3]));
  EXPECT_EQ(bin.list, blocks[3]);
}

TEST_F(Hot, AnOverwrittenFreeBlockDoesNotLeadAstrayInTheBitmap) {
  auto blocks = fill(2 * blocks_per_slab(class_of(64)), 64);
  for (size_t i = 0; i < 500; ++i) {
    ace_heap_free(heap, blocks[i]);
    memset(blocks[i], 0xee, 64);  // use after free: out-of-band free state survives it
  }
  EXPECT_EQ(test::audit(heap), "");
  for (void *p : fill(500, 64)) EXPECT_EQ(address_of(p) % 64, 0u);
}

TEST_F(Hot, SizedFreesOfEveryGroupAndShrunkBlock) {
  make(2);
  void *a = allocate(*heap, 64, 1), *b = allocate(*heap, 128, 0);
  ASSERT_EQ(ace_heap_realloc(heap, b, 100, 0), b);
  free_sized(*heap, a, 64);
  free_sized(*heap, b, 100);
  EXPECT_EQ(stats().live_blocks, 0u);
  EXPECT_EQ(test::audit(heap), "");
}

}  // namespace
}  // namespace ace
