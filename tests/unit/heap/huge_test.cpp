// Huge pages: which superslabs come as one, how they count, and how they end.
#include "heap/tiers.h"
#include "unit/fake_os.h"
#include "unit/heap_test.h"

namespace ace {
namespace {

using test::FakeOs;
using test::HeapTest;
using test::OptionGuard;

constexpr size_t kMiB = size_t{1} << 20;

class Huge : public HeapTest {
 protected:
  Huge() : on("huge_pages", "on") {
    fake.give_huge_pages();
    make();
    // Once it was larger than the tests make it again.
    auto blocks = fill_bytes(48 * kMiB);
    free_all(blocks);
    ace_trim(heap, SIZE_MAX);
    EXPECT_EQ(fake.huge_pages(), 0);
  }
  std::vector<void *> fill_bytes(size_t bytes) { return fill(bytes / 64, 64); }

  FakeOs fake;
  OptionGuard on;
};

TEST_F(Huge, AHeapThatGrowsForTheFirstTimeHasNone) {
  make();
  fill_bytes(28 * kMiB);
  EXPECT_EQ(fake.huge_pages(), 0);
}

TEST_F(Huge, SmallHeapsHaveNone) {
  fill_bytes(15 * kMiB);
  EXPECT_EQ(fake.huge_pages(), 0);
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(Huge, WhatAHeapGrowsByOnceMoreIsResidentAtOnce) {
  fill_bytes(16 * kMiB);
  while (fake.huge_pages() == 0) fill(1, 64);
  const int before = fake.huge_pages();
  const uint64_t faulted = stats().faulted_bytes;
  fill_bytes(4 * kMiB);
  const int more = fake.huge_pages() - before;
  EXPECT_GE(more, 2);
  EXPECT_EQ(stats().faulted_bytes - faulted,
            static_cast<uint64_t>(more) * (kSuperslabSize - kSlabSize + kSparePages * kPage));
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(Huge, NoneWhereTheOptionSaysSo) {
  OptionGuard off("huge_pages", "off");
  fill_bytes(28 * kMiB);
  EXPECT_EQ(fake.huge_pages(), 0);
}

TEST_F(Huge, NoneThatWouldReachTheLimit) {
  ace_heap_set_limit(heap, 17 * kMiB);
  fill_bytes(16 * kMiB);
  EXPECT_EQ(fake.huge_pages(), 0);
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(Huge, APurgeEndsThoseThatItTouches) {
  auto blocks = fill_bytes(28 * kMiB);
  const int all = fake.huge_pages();
  ASSERT_GE(all, 5);
  // All blocks of one superslab but the first of each slab; the rest of the heap lives.
  Superslab *one = superslab_of(blocks[blocks.size() - blocks.size() / 4]);
  ASSERT_TRUE(one->head.is_huge);
  for (void *block : blocks) {
    if (superslab_of(block) == one && offset_in_slab(block) != 0) ace_heap_free(heap, block);
  }
  EXPECT_GT(ace_trim(heap, SIZE_MAX), 28 * 15 * kPage);
  EXPECT_EQ(fake.huge_pages(), all - 1 - 1) << "and the last one, whose slabs were not all assigned";
  EXPECT_FALSE(one->head.is_huge);
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(Huge, SlabsThatWereNeverAssignedGoBackToo) {
  fill_bytes(16 * kMiB);
  while (fake.huge_pages() == 0) fill(1, 64);
  const uint64_t resident = stats().resident_bytes;
  EXPECT_GE(ace_trim(heap, SIZE_MAX), 29 * kSlabSize);
  EXPECT_LE(stats().resident_bytes, resident - 29 * kSlabSize);
  EXPECT_EQ(fake.huge_pages(), 0);
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(Huge, ReleasedSuperslabsStartOverWithNormalPages) {
  auto blocks = fill_bytes(28 * kMiB);
  ASSERT_GE(fake.huge_pages(), 5);
  free_all(blocks);
  ace_trim(heap, SIZE_MAX);
  EXPECT_EQ(fake.huge_pages(), 0);
  EXPECT_EQ(test::audit(heap), "");
}

}  // namespace
}  // namespace ace
