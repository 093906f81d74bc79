#include "heap/mid.h"

#include <thread>

#include "unit/fake_os.h"
#include "unit/heap_test.h"

namespace ace {
namespace {

using test::FakeOs;
using test::HeapTest;
using test::OsCall;

class Mid : public HeapTest {
 protected:
  unsigned pages_of(const void *p) { return superslab_of(p)->mid().run_pages[page_index_of(p)]; }
  std::byte *alloc(unsigned pages, size_t alignment = kPage) {
    auto *p = static_cast<std::byte *>(allocate_mid(*heap, pages, alignment));
    if (p != nullptr) memset(p, 0x3d, pages * kPage);
    return p;
  }
  void free(std::byte *p) { free_mid(*heap, superslab_of(p), page_index_of(p)); }
  bool resize(std::byte *p, unsigned pages) {
    return resize_mid(*heap, superslab_of(p), page_index_of(p), pages);
  }
};

TEST_F(Mid, WhichSizesComeHere) {
  for (size_t size : {kTinyMax + 1, size_t{5} * kPage, size_t{5} * kPage + 1, kMidMax - 1, kMidMax}) {
    void *p = ace_heap_alloc(heap, size);
    EXPECT_EQ(superslab_of(p)->head.prefix.pool, Pool::kMid) << size;
    EXPECT_EQ(ace_usable_size(p), round_up(size, kPage));
    EXPECT_EQ(address_of(p) % kPage, 0u);
  }
  EXPECT_EQ(superslab_of(ace_heap_alloc(heap, kTinyMax))->head.prefix.pool, Pool::kTiny);
  EXPECT_EQ(superslab_of(ace_heap_alloc(heap, kMidMax + 1))->head.prefix.pool, Pool::kLarge);
}

TEST_F(Mid, RunsComeInAddressOrderAndTheLowestHoleFirst) {
  std::byte *a = alloc(3), *b = alloc(5), *c = alloc(4);
  EXPECT_EQ(b, a + 3 * kPage);
  EXPECT_EQ(c, b + 5 * kPage);
  free(b);
  free(a);
  EXPECT_EQ(alloc(4), a);
  EXPECT_EQ(alloc(4), a + 4 * kPage);
}

TEST_F(Mid, Alignment) {
  alloc(3);
  for (size_t alignment = kPage; alignment <= ACE_ALIGNMENT_MAX; alignment *= 2) {
    std::byte *p = alloc(3, alignment);
    ASSERT_NE(p, nullptr);
    EXPECT_EQ(address_of(p) % alignment, 0u) << alignment;
  }
}

TEST_F(Mid, ResizesInPlace) {
  std::byte *a = alloc(4), *b = alloc(4);
  EXPECT_TRUE(resize(a, 2));
  EXPECT_EQ(pages_of(a), 2u);
  EXPECT_TRUE(resize(a, 4));
  EXPECT_FALSE(resize(a, 5)) << "another run follows";
  EXPECT_EQ(pages_of(a), 4u);
  EXPECT_TRUE(resize(b, 100));
  EXPECT_EQ(stats().mid_live_bytes, 104 * kPage);
  EXPECT_EQ(stats().mid_live_blocks, 2u);
  free(b);
  EXPECT_TRUE(resize(a, 5));
}

TEST_F(Mid, ResizeStopsAtTheSuperslabsEnd) {
  std::byte *last = nullptr;
  for (unsigned i = 0; i < (kPagesPerSuperslab - kMidFirstPage) / 10; ++i) last = alloc(10);
  ASSERT_EQ(page_index_of(last) + 10, kPagesPerSuperslab);
  EXPECT_FALSE(resize(last, 11));
  EXPECT_TRUE(resize(last, 9));
  EXPECT_TRUE(resize(last, 10));
}

TEST_F(Mid, ResizeRespectsTheLimit) {
  std::byte *a = alloc(4);
  ace_heap_set_limit(heap, 5 * kPage);
  EXPECT_TRUE(resize(a, 5));
  EXPECT_FALSE(resize(a, 6));
  EXPECT_TRUE(resize(a, 1));
}

TEST_F(Mid, AtTheLimitARunGrowsIntoTheRoomThatTheHostMakes) {
  static std::vector<void *> others;
  static std::vector<size_t> asked;
  asked.clear();
  make(0, 7 * kPage, [](ace_heap *asking, size_t missing, void *) {
    asked.push_back(missing);
    for (void *block : others) ace_heap_free(asking, block);
    others.clear();
    return 1;
  });
  void *a = ace_heap_alloc(heap, 5 * kPage);
  others = fill(2, kPage);
  EXPECT_EQ(ace_heap_realloc(heap, a, 7 * kPage, 0), a);
  EXPECT_EQ(asked.size(), 1u);
  EXPECT_EQ(ace_heap_realloc(heap, a, 8 * kPage, 0), nullptr);
  EXPECT_EQ(asked.size(), 2u);
}

TEST_F(Mid, FreedPagesAreReusedBeforeFreshOnesAreTaken) {
  std::byte *a = alloc(64);
  alloc(1);
  free(a);
  const uint64_t faulted = stats().faulted_bytes;
  alloc(32), alloc(32);
  EXPECT_EQ(stats().faulted_bytes, faulted);
}

// ---- runs that were freed lately

TEST_F(Mid, TheRunThatWasFreedLastComesBackFirst) {
  std::byte *a = alloc(5);
  alloc(1);
  std::byte *b = alloc(5);
  alloc(1);
  free(a);
  free(b);
  EXPECT_EQ(alloc(5), b);
  EXPECT_EQ(alloc(5), a);
}

TEST_F(Mid, ARecentRunThatOthersHaveTakenIsPassedOver) {
  std::byte *a = alloc(5);
  alloc(1);
  free(a);
  EXPECT_EQ(alloc(4), a) << "a part of it";
  EXPECT_NE(alloc(5), a);
}

TEST_F(Mid, ARecentRunThatWasPurgedIsNotResident) {
  std::byte *a = alloc(5);
  alloc(1);
  free(a);
  ace_trim_shared(heap, SIZE_MAX);
  const uint64_t faulted = stats().faulted_bytes;
  alloc(5);
  EXPECT_EQ(stats().faulted_bytes, faulted + 5 * kPage);
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(Mid, ARecentRunThatAPurgerIsAtIsPassedOver) {
  std::byte *a = alloc(5);
  alloc(1);
  free(a);
  Claim &claim = superslab_of(a)->head.claim;
  ASSERT_TRUE(claim.try_take());
  EXPECT_NE(superslab_of(alloc(5)), superslab_of(a));
  EXPECT_TRUE(claim.held());
  claim.release();
}

TEST_F(Mid, ARecentRunGoesWithItsSuperslab) {
  std::byte *a = alloc(5);
  free(a);
  ace_trim(heap, SIZE_MAX);
  EXPECT_EQ(stats().mapped_bytes, kSuperslabSize);
  EXPECT_NE(alloc(5), nullptr);
}

// ---- room to grow

TEST_F(Mid, ARunWithRoomLeavesItToTheRunBefore) {
  std::byte *a = alloc(4);
  auto *b = static_cast<std::byte *>(allocate_mid(*heap, 4, kPage, 3));
  EXPECT_EQ(b, a + 7 * kPage);
  EXPECT_EQ(stats().resident_bytes, 8 * kPage) << "the room is not touched";
  EXPECT_TRUE(resize(a, 7));
  EXPECT_FALSE(resize(a, 8));
}

TEST_F(Mid, WhereThereIsNoRoomARunGoesWithout) {
  std::byte *a = alloc(8);
  alloc(1);
  std::vector<std::byte *> rest;
  while (page_index_of(rest.empty() ? a : rest.back()) != kPagesPerSuperslab - 1) rest.push_back(alloc(1));
  free(a);
  EXPECT_EQ(allocate_mid(*heap, 6, kPage, 3), a);
  EXPECT_EQ(stats().mapped_bytes, 2 * kSuperslabSize);
}

TEST_F(Mid, BuffersThatGrowSideBySideMoveOnceInSeveralSteps) {
  void *buffers[8];
  size_t size = 10 * kPage;
  for (void *&p : buffers) p = ace_heap_alloc(heap, size);
  int moves = 0, steps = 0;
  for (; size < kMidMax * 8 / 9; size += size / 8) {
    for (void *&p : buffers) {
      void *q = ace_heap_realloc(heap, p, size + size / 8, 0);
      ASSERT_NE(q, nullptr);
      moves += q != p;
      ++steps;
      p = q;
    }
    ASSERT_EQ(test::audit(heap), "");
  }
  EXPECT_LT(moves, steps / 2);
}

// ---- frees from other threads

TEST_F(Mid, RemoteFreesAreTakenOverBeforeTheHeapGrows) {
  for (int i = 0; i < 100; ++i) {
    std::vector<std::byte *> runs;
    for (int j = 0; j < 10; ++j) runs.push_back(alloc(20));
    std::thread([&] {
      for (std::byte *run : runs) ace_free(run);
    }).join();
  }
  EXPECT_EQ(stats().resident_bytes, 10 * 20 * kPage);
}

TEST_F(Mid, EmptySuperslabsGoBackWithATrim) {
  std::vector<std::byte *> runs;
  for (int i = 0; i < 12; ++i) runs.push_back(alloc(128));
  const auto before = stats();
  EXPECT_GE(before.mapped_bytes, 4 * kSuperslabSize);
  for (size_t i = 1; i < runs.size(); ++i) free(runs[i]);
  EXPECT_EQ(stats().mapped_bytes, before.mapped_bytes);
  ace_trim(heap, SIZE_MAX);
  EXPECT_EQ(stats().mapped_bytes, 2 * kSuperslabSize) << "the heap's own, and that of the run that lives";
  EXPECT_EQ(stats().resident_bytes, 128 * kPage);
  for (size_t i = 0; i < 128 * kPage; ++i) ASSERT_EQ(runs[0][i], std::byte{0x3d});
}

TEST_F(Mid, OfEmptySuperslabsATrimGivesBackItsBudget) {
  std::vector<std::byte *> runs;
  for (int i = 0; i < 12; ++i) runs.push_back(alloc(128));
  for (std::byte *run : runs) free(run);
  EXPECT_EQ(ace_trim(heap, 100 * kPage), 100 * kPage);
  EXPECT_EQ(stats().resident_bytes, (12 * 128 - 100) * kPage);
}

TEST_F(Mid, NoMemoryFailsTheAllocationAndNothingElse) {
  FakeOs fake;
  fake.fail_always(OsCall::kMap);
  std::vector<std::byte *> runs;
  while (std::byte *p = alloc(100)) runs.push_back(p);
  EXPECT_GE(stats().system_failures, 1u);
  if (runs.empty()) return;
  free(runs.back());
  EXPECT_EQ(alloc(100), runs.back());
}

TEST_F(Mid, WhatIsTakenIsCounted) {
  const uint64_t before = stats().taken_bytes;
  std::byte *a = alloc(5);
  EXPECT_EQ(stats().taken_bytes - before, 5 * kPage);
  EXPECT_TRUE(resize(a, 8));
  EXPECT_TRUE(resize(a, 2));
  EXPECT_EQ(stats().taken_bytes - before, 8 * kPage);
}

TEST_F(Mid, AHoleThatWasNotAlignedServesOthers) {
  std::vector<std::byte *> runs;
  for (unsigned i = 0; i < (kPagesPerSuperslab - kMidFirstPage) / 10; ++i) runs.push_back(alloc(10));
  free(runs[3]);
  EXPECT_NE(superslab_of(alloc(4, size_t{1} << 20)), superslab_of(runs[3]));
  EXPECT_EQ(alloc(10), runs[3]);
}

TEST_F(Mid, LostRoomForAlignmentIsNotLost) {
  std::byte *a = alloc(1);
  std::byte *b = alloc(4, size_t{1} << 20);
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(alloc(1), a + kPage) << "the pages passed over are still there";
}

}  // namespace
}  // namespace ace
