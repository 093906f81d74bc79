// Huge pages: which superslabs come as one, how they count, and how they end.
#include <thread>

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

TEST_F(Huge, OfTwoPurgersOneGivesTheSparePagesBack) {
  auto blocks = fill_bytes(28 * kMiB);
  Superslab *one = superslab_of(blocks[blocks.size() - blocks.size() / 4]);
  ASSERT_TRUE(one->head.is_huge);
  const auto free_slabs = [&](unsigned from, unsigned to) {
    for (void *block : blocks) {
      if (superslab_of(block) == one && slab_index_of(block) >= from && slab_index_of(block) < to)
        ace_heap_free(heap, block);
    }
  };
  free_slabs(2, 8);
  fake.hold(test::OsCall::kPurge);
  std::thread other([&] { ace_trim_shared(heap, SIZE_MAX); });
  while (!fake.is_held(test::OsCall::kPurge))
    std::this_thread::yield();  // it is about to give the first spare pages back
  free_slabs(8, 16);
  ace_trim(heap, SIZE_MAX);
  fake.let_go(test::OsCall::kPurge);
  other.join();
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(Huge, PagesThatTheSystemDoesNotTakeStayCounted) {
  auto blocks = fill_bytes(28 * kMiB);
  ASSERT_GE(fake.huge_pages(), 5);
  for (size_t i = blocks.size() / 2; i < blocks.size(); ++i) {
    if (i % 1000 != 0) ace_heap_free(heap, blocks[i]);
  }
  fake.fail_always(test::OsCall::kPurge);
  EXPECT_EQ(ace_trim_shared(heap, SIZE_MAX), 0u);
  EXPECT_EQ(test::audit(heap), "");
  fake.fail_never();
  EXPECT_GT(ace_trim_shared(heap, SIZE_MAX), 8 * kMiB);
}

TEST_F(Huge, ABudgetBelowTheSparePagesLeavesThem) {
  auto blocks = fill_bytes(28 * kMiB);
  free_all(blocks);
  EXPECT_LE(ace_trim(heap, 2 * kPage), 2 * kPage);
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(Huge, WhatTheWorkerHasEmptiedComesBackAsHugePagesToo) {
  auto blocks = fill_bytes(28 * kMiB);
  const int before = fake.huge_pages();
  ASSERT_GE(before, 5);
  free_all(blocks);
  ace_trim_shared(heap, SIZE_MAX);  // as the worker does: superslabs stay in the heap
  EXPECT_EQ(fake.huge_pages(), 0);
  fill_bytes(28 * kMiB);
  EXPECT_GE(fake.huge_pages(), before - 1);
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(Huge, WhatWouldReturnAsHugePagesIsCounted) {
  EXPECT_EQ(bytes_that_return_huge(*heap), 0u);
  auto blocks = fill_bytes(40 * kMiB);
  EXPECT_EQ(bytes_that_return_huge(*heap), 0u) << "nothing is free";
  ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 0);
  OptionGuard off("mode", "off");  // so that empty superslabs stay
  free_all(blocks);
  EXPECT_GE(bytes_that_return_huge(*heap), 23 * kMiB);
  EXPECT_LE(bytes_that_return_huge(*heap), 26 * kMiB);
  OptionGuard small("huge_pages", "off");
  EXPECT_EQ(bytes_that_return_huge(*heap), 0u);
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
