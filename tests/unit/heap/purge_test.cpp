#include "heap/purge.h"

#include <sys/mman.h>

#include <algorithm>
#include <random>

#include "heap/address_map.h"
#include "heap/mid.h"
#include "heap/slab.h"
#include "unit/fake_os.h"
#include "unit/heap_test.h"

namespace ace {
namespace {

using test::FakeOs;
using test::HeapTest;
using test::OptionGuard;
using test::OsCall;
using test::Range;

constexpr size_t kSize = 64;
constexpr unsigned kBlocks = kSlabSize / kSize, kBlocksPerPage = kPage / kSize;

Range pages_at(const void *p, size_t pages) { return {address_of(p), address_of(p) + pages * kPage}; }

bool is_resident(const void *page) {
  unsigned char resident = 0;
  EXPECT_EQ(mincore(reinterpret_cast<void *>(round_down(address_of(page), kPage)), kPage, &resident), 0);
  return resident & 1;
}

class Purge : public HeapTest {
 protected:
  explicit Purge(size_t page_size = real_os().page_size) : fake(page_size) {
    make();  // on the fake system
    keep_what_is_free();
    fake.take_purged();
  }

  void free_range(std::vector<void *> &blocks, size_t from, size_t to) {
    for (size_t i = from; i < to; ++i) ace_heap_free(heap, std::exchange(blocks[i], nullptr));
  }

  FakeOs fake;
};

TEST_F(Purge, DeadPagesAloneAreGivenBack) {
  auto blocks = fill(2 * kBlocks + 1, kSize);  // the first two slabs are not current
  void *page3 = blocks[3 * kBlocksPerPage], *page7 = blocks[7 * kBlocksPerPage];
  free_range(blocks, 3 * kBlocksPerPage, 5 * kBlocksPerPage);
  free_range(blocks, 7 * kBlocksPerPage, 8 * kBlocksPerPage);
  free_range(blocks, 9 * kBlocksPerPage, 10 * kBlocksPerPage - 1);  // one block lives
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), 3 * kPage);
  EXPECT_EQ(fake.take_purged(), (std::vector<Range>{pages_at(page3, 2), pages_at(page7, 1)}));
  EXPECT_FALSE(is_resident(page3));
  EXPECT_EQ(stats().returned_bytes, 3 * kPage);
  EXPECT_EQ(stats().purge_calls, 2u);
  EXPECT_EQ(stats().purges, 1u);
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), 0u) << "what is gone is gone";
  EXPECT_TRUE(fake.take_purged().empty());
}

// Fills 16 slabs, and leaves one block in each.
class Growth : public Purge {
 protected:
  Growth() { make(); }

  void fill_and_thin(size_t size) {
    const size_t a_slab = blocks_per_slab(class_of(size));
    auto blocks = fill(16 * a_slab, size);
    fill(1, size);
    for (size_t i = 0; i < blocks.size(); ++i) {
      if (i % a_slab != 0) ace_heap_free(heap, blocks[i]);
    }
  }
};

TEST_F(Growth, DeadPagesGoBackFirst) {
  fill_and_thin(64);
  const uint64_t peak = stats().peak_resident_bytes;
  EXPECT_EQ(stats().returned_bytes, 0u) << "there were none";
  fill_and_thin(128);
  EXPECT_GT(stats().returned_bytes, peak / 2);
  EXPECT_LT(stats().peak_resident_bytes, peak + peak / 2) << "not twice as much";
}

TEST_F(Growth, AHeapThatBreathesKeepsItsPages) {
  for (int i = 0; i < 10; ++i) fill_and_thin(i % 2 == 0 ? 64 : 128);
  const uint64_t returned = stats().returned_bytes;
  for (int i = 0; i < 10; ++i) fill_and_thin(i % 2 == 0 ? 64 : 128);
  EXPECT_LE(stats().returned_bytes - returned, kSlabSize);
}

TEST_F(Growth, TheLargerAHeapTheMoreRarelyItIsLookedAt) {
  fill(64 << 10, 1024);
  EXPECT_LE(stats().purges, 80u) << "by a sixteenth each time, from 4 MiB on";
  EXPECT_GE(stats().purges, 40u);
}

TEST_F(Growth, InModeOffNothingGoesBack) {
  OptionGuard off("mode", "off");
  fill_and_thin(64);
  fill_and_thin(128);
  EXPECT_EQ(stats().returned_bytes, 0u);
}

TEST_F(Purge, ABlockAcrossThePageKeepsIt) {
  // Blocks of 1536 bytes: the third one of a slab lies across its first page's end.
  constexpr size_t kAcross = 1536;
  auto blocks = fill(2 * blocks_per_slab(class_of(kAcross)), kAcross);
  fill(1, kAcross);
  for (size_t i = 0; i < 8; ++i) {
    if (i != 2) ace_heap_free(heap, std::exchange(blocks[i], nullptr));
  }
  // [3072, 4608) lives, [0, 12288) else is free: of three pages only the third is dead.
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), kPage);
  EXPECT_EQ(fake.take_purged(),
            (std::vector<Range>{{address_of(blocks[2]) - 3072 + 8192, address_of(blocks[2]) - 3072 + 12288}}));
  ace_heap_free(heap, blocks[2]);
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), 2 * kPage);
}

TEST_F(Purge, LiveDataSurvivesByteForByte) {
  std::mt19937 random(11);
  struct Live {
    unsigned char *p;
    size_t size;
    unsigned char value;
  };
  std::vector<Live> all;
  for (int i = 0; i < 20'000; ++i) {
    const size_t size = i % 50 == 0 ? 8193 + random() % 60'000 : 1 + random() % 3000;
    auto *p = static_cast<unsigned char *>(ace_heap_alloc(heap, size));
    const auto value = static_cast<unsigned char>(random());
    memset(p, value, size);
    all.push_back({p, size, value});
  }
  std::shuffle(all.begin(), all.end(), random);
  for (int round = 0; round < 4; ++round) {
    for (size_t keep = all.size() / 3; all.size() > keep; all.pop_back()) ace_heap_free(heap, all.back().p);
    EXPECT_GT(round % 2 == 0 ? ace_trim(heap, SIZE_MAX) : ace_trim_shared(heap, SIZE_MAX), 0u);
    EXPECT_EQ(test::audit(heap), "");
    for (const Live &live : all) {
      for (size_t i = 0; i < live.size; ++i) ASSERT_EQ(live.p[i], live.value);
    }
  }
}

TEST_F(Purge, WhatIsClaimedIsLeftAlone) {
  auto blocks = fill(kBlocks - 1, kSize);  // the slab stays current
  free_range(blocks, 0, kBlocks - 1);
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), 0u);
  EXPECT_TRUE(fake.take_purged().empty());
  EXPECT_TRUE(is_resident(heap->bins[class_of(kSize)].list));
  EXPECT_GT(trim_heap(*heap, SIZE_MAX), 0u) << "the holder's trim retires it first";
}

TEST_F(Purge, AClaimHeldByAnotherPurgerIsPassedOver) {
  auto blocks = fill(2 * kBlocks + 1, kSize);
  SlabRow &row = superslab_of(blocks[0])->row(slab_index_of(blocks[0]));
  free_range(blocks, 0, 2 * kBlocks);
  ASSERT_TRUE(row.claim.try_take());
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), kSlabSize) << "the other slab";
  row.claim.release();
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), kSlabSize);
}

TEST_F(Purge, SoIsAKeptBlockThatOneIsAt) {
  void *p = ace_heap_alloc(heap, 3 << 20);
  ace_heap_free(heap, p);
  Claim &claim = superslab_of(p)->head.claim;
  ASSERT_TRUE(claim.try_take());
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), 0u);
  EXPECT_TRUE(claim.held());
  claim.release();
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), 3u << 20);
}

TEST_F(Purge, OfAKeptBlockTheEndGoesFirst) {
  auto *p = static_cast<std::byte *>(ace_heap_alloc(heap, 3 << 20));
  ace_heap_free(heap, p);
  fake.take_purged();
  EXPECT_EQ(purge_pages(*heap, 5 * kPage), 5 * kPage);
  EXPECT_EQ(fake.take_purged(), (std::vector<Range>{pages_at(p + (3 << 20) - 5 * kPage, 5)}));
}

TEST_F(Purge, WhatAVisitorIsAtIsNotReleased) {
  auto blocks = fill(40 * kBlocks, kSize);
  Superslab *visited = superslab_of(blocks.back());
  ASSERT_NE(visited, heap->home);
  free_all(blocks);
  visited->head.pins = 1;
  ace_trim(heap, SIZE_MAX);
  EXPECT_TRUE(is_ours(visited));
  visited->head.pins = 0;
  ace_trim(heap, SIZE_MAX);
  EXPECT_FALSE(is_ours(visited));
}

TEST_F(Purge, WhatCouldNotGoBackIsKnownAfterwards) {
  auto blocks = fill(2 * kBlocks, kSize);
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (i % kBlocksPerPage != 0) ace_heap_free(heap, blocks[i]);  // one lives on each page
  }
  for (bool by_the_holder : {false, true}) {
    heap->stuck_bytes = 0;
    by_the_holder ? ace_trim(heap, SIZE_MAX) : ace_trim_shared(heap, SIZE_MAX);
    EXPECT_EQ(heap->stuck_bytes, stats().resident_bytes - live_bytes_bound(*heap));
    EXPECT_GT(heap->stuck_bytes, kSlabSize / 2);
  }
}

TEST_F(Purge, TheTimeOfTheCallsIsCounted) {
  auto blocks = fill(3 * 31 * kBlocks, kSize);
  free_range(blocks, 0, kBlocks);
  free_range(blocks, 2 * kBlocks, 3 * kBlocks);
  fake.slow_purges(1000);
  purge_pages(*heap, SIZE_MAX);
  EXPECT_EQ(stats().purge_ns, 2000u);
  EXPECT_EQ(stats().purge_call_ns, 2000u);
  for (void *block : blocks) ace_heap_free(heap, block);
  const uint64_t calls = fake.calls(OsCall::kPurge);
  ace_trim(heap, SIZE_MAX);  // superslabs as a whole as well
  EXPECT_EQ(stats().purge_ns, 2000 + 1000 * (fake.calls(OsCall::kPurge) - calls));
  EXPECT_EQ(stats().purge_call_ns, stats().purge_ns);
}

TEST_F(Purge, RunsGoOnOverAbsentPagesAndAcrossSlabs) {
  auto blocks = fill(4 * kBlocks + 1, kSize);
  void *start = blocks[0];
  free_range(blocks, 2 * kBlocksPerPage, 3 * kBlocksPerPage);
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), kPage);
  fake.take_purged();
  free_range(blocks, 0, 2 * kBlocksPerPage);
  free_range(blocks, 3 * kBlocksPerPage, 4 * kBlocks);
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), 4 * kSlabSize - kPage);
  EXPECT_EQ(fake.take_purged(), (std::vector<Range>{pages_at(start, 4 * kPagesPerSlab)}));
}

TEST_F(Purge, OneCallCoversAtMostOneSuperslab) {
  auto blocks = fill(5 * 31 * kBlocks, kSize);
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (i % (31 * kBlocks) != 0) ace_heap_free(heap, blocks[i]);  // one lives in each: none is released
  }
  EXPECT_GT(ace_trim(heap, SIZE_MAX), 4 * 30 * kSlabSize);
  for (const Range &range : fake.take_purged()) {
    EXPECT_LE(range.to - range.from, kSuperslabSize);
    EXPECT_EQ(range.from / kSuperslabSize, (range.to - 1) / kSuperslabSize);
  }
}

TEST_F(Purge, NeverMoreThanTheBudget) {
  auto blocks = fill(2 * kBlocks + 1, kSize);
  for (unsigned page = 0; page < 2 * kPagesPerSlab; page += 2) {
    free_range(blocks, page * kBlocksPerPage, (page + 1) * kBlocksPerPage);
  }
  EXPECT_EQ(purge_pages(*heap, 3 * kPage), 3 * kPage);
  EXPECT_EQ(purge_pages(*heap, kPage + 1), kPage);
  EXPECT_EQ(purge_pages(*heap, kPage - 1), 0u);
  EXPECT_EQ(purge_pages(*heap, 0), 0u);
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), (kPagesPerSlab - 4) * kPage);
}

// Who gives memory back in small parts would look through all that is done for each.
TEST_F(Purge, GoesOnWhereItsBudgetEnded) {
  const size_t in_superslab = (kSlabsPerSuperslab - 1) * kBlocks;
  auto blocks = fill(3 * in_superslab + 1, kSize);
  const auto free_page = [&](size_t superslab, size_t page) {
    const size_t first = superslab * in_superslab + page * kBlocksPerPage;
    free_range(blocks, first, first + kBlocksPerPage);
  };
  for (size_t superslab : {0, 1, 2}) {
    for (size_t page : {3, 7}) free_page(superslab, page);
  }
  std::vector<uintptr_t> seen;
  const auto give_a_page = [&] {
    EXPECT_EQ(purge_pages(*heap, kPage), kPage);
    const std::vector<Range> purged = fake.take_purged();
    ASSERT_EQ(purged.size(), 1u);
    seen.push_back(round_down(purged[0].from, kSuperslabSize));
  };
  for (int i = 0; i < 3; ++i) give_a_page();
  EXPECT_EQ(seen[1], seen[0]);
  EXPECT_NE(seen[2], seen[0]);
  for (size_t superslab : {0, 1, 2}) free_page(superslab, 11);
  give_a_page();
  EXPECT_EQ(seen[3], seen[2]) << "not at the first again";
  for (int i = 0; i < 5; ++i) give_a_page();
  EXPECT_EQ(seen.back(), seen.front()) << "what it had passed comes last";
  EXPECT_EQ(purge_pages(*heap, kPage), 0u);
}

TEST_F(Purge, ARunIsCutToTheBudget) {
  auto blocks = fill(kBlocks + 1, kSize);
  void *start = blocks[0];
  free_range(blocks, 0, kBlocks);
  EXPECT_EQ(purge_pages(*heap, 5 * kPage + 100), 5 * kPage);
  EXPECT_EQ(fake.take_purged(), (std::vector<Range>{pages_at(start, 5)}));
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), 11 * kPage);
}

TEST_F(Purge, AFailedCallChangesNothing) {
  auto blocks = fill(kBlocks + 1, kSize);
  free_range(blocks, 0, 8 * kBlocksPerPage);
  const auto before = stats();
  fake.fail_always(OsCall::kPurge);
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), 0u);
  EXPECT_EQ(stats().resident_bytes, before.resident_bytes);
  EXPECT_EQ(stats().returned_bytes, before.returned_bytes);
  EXPECT_EQ(stats().purge_calls, before.purge_calls);
  EXPECT_EQ(test::audit(heap), "");
  fake.fail_never();
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), 8 * kPage) << "the next one takes the same pages";
}

TEST_F(Purge, OneFailedCallOfSeveral) {
  auto blocks = fill(kBlocks + 1, kSize);
  for (unsigned page = 0; page < 8; page += 2) {
    free_range(blocks, page * kBlocksPerPage, (page + 1) * kBlocksPerPage);
  }
  fake.fail(OsCall::kPurge, 2);
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), 3 * kPage);
  EXPECT_EQ(test::audit(heap), "");
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), kPage);
}

TEST_F(Purge, FreeRunsOfTheMidPool) {
  void *a = ace_heap_alloc(heap, 10 * kPage), *b = ace_heap_alloc(heap, 10 * kPage),
       *c = ace_heap_alloc(heap, 10 * kPage);
  for (void *p : {a, b, c}) memset(p, 0x77, 10 * kPage);
  ace_heap_free(heap, b);
  fake.take_purged();  // a superslab that was another heap's comes emptied
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), 10 * kPage);
  EXPECT_EQ(fake.take_purged(), (std::vector<Range>{pages_at(b, 10)}));
  for (auto *p : {a, c}) {
    for (size_t i = 0; i < 10 * kPage; ++i) ASSERT_EQ(static_cast<unsigned char *>(p)[i], 0x77);
  }
  EXPECT_EQ(ace_heap_alloc(heap, 10 * kPage), b);
  EXPECT_EQ(stats().faulted_bytes, 40 * kPage);
}

TEST_F(Purge, TailOfAShrunkRun) {
  auto *p = static_cast<std::byte *>(ace_heap_alloc(heap, 20 * kPage));
  memset(p, 1, 20 * kPage);
  ASSERT_EQ(ace_heap_realloc(heap, p, 5 * kPage, 0), p);
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), 15 * kPage);
  EXPECT_EQ(fake.take_purged(), (std::vector<Range>{pages_at(p + 5 * kPage, 15)}));
}

class PurgeOfLargerPages : public Purge {
 protected:
  PurgeOfLargerPages() : Purge(4 * kPage) {}
};

TEST_F(PurgeOfLargerPages, OnlyWholeOnes) {
  auto blocks = fill(2 * kBlocks + 1, kSize);
  void *page4 = blocks[4 * kBlocksPerPage];
  free_range(blocks, 1 * kBlocksPerPage, 7 * kBlocksPerPage);
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), 0u) << "each has a page of ours that lives";
  free_range(blocks, 7 * kBlocksPerPage, 10 * kBlocksPerPage);
  EXPECT_EQ(purge_pages(*heap, 4 * kPage - 1), 0u) << "more than the budget";
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), 4 * kPage);
  EXPECT_EQ(fake.take_purged(), (std::vector<Range>{pages_at(page4, 4)}));
  free_range(blocks, 10 * kBlocksPerPage, 13 * kBlocksPerPage);
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), 4 * kPage);
  EXPECT_EQ(fake.take_purged(), (std::vector<Range>{pages_at(page4, 8)}));
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(PurgeOfLargerPages, OnesThatWereUsedInPart) {
  fill(kBlocks, kSize);
  auto blocks = fill(3, kSize);  // one of the next slab's pages is present
  free_range(blocks, 0, 3);
  retire_all(*heap);
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), kPage);
  EXPECT_EQ(stats().resident_bytes, kSlabSize);
  void *run = ace_heap_alloc(heap, 9 * kPage);
  ace_heap_free(heap, run);
  EXPECT_EQ(purge_pages(*heap, SIZE_MAX), 7 * kPage)
      << "the first two share a page of the system with the head";
  EXPECT_EQ(stats().resident_bytes, kSlabSize + 2 * kPage);
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(Purge, PurgedPagesAreFilledAgain) {
  auto blocks = fill(kBlocks + 1, kSize);
  free_range(blocks, 0, kBlocks);
  EXPECT_EQ(trim_heap(*heap, SIZE_MAX), kSlabSize);
  const auto before = stats();
  fill(kBlocks - 1, kSize);
  EXPECT_LE(stats().faulted_bytes - before.faulted_bytes, kSlabSize);
  EXPECT_EQ(stats().resident_bytes, before.resident_bytes + (stats().faulted_bytes - before.faulted_bytes));
}

TEST_F(Purge, TrimReleasesEmptySuperslabsWhole) {
  auto blocks = fill(3 * 31 * kBlocks, kSize);
  free_all(blocks);
  const uint64_t resident = stats().resident_bytes;
  EXPECT_EQ(ace_trim(heap, SIZE_MAX), resident);
  EXPECT_EQ(stats().resident_bytes, 0u);
}

TEST_F(Purge, TrimOfNothing) {
  EXPECT_EQ(ace_trim(heap, SIZE_MAX), 0u);
  fill(100, kSize);
  EXPECT_EQ(ace_trim(heap, 0), 0u);
  EXPECT_TRUE(fake.take_purged().empty());
}

}  // namespace
}  // namespace ace
