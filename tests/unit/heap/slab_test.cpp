#include "heap/slab.h"

#include <algorithm>
#include <set>

#include "unit/fake_os.h"
#include "unit/heap_test.h"
#include "wire/options.h"

namespace ace {
namespace {

using test::HeapTest;

constexpr size_t kSize = 64;
const unsigned kClass = class_of(kSize);
const unsigned kBlocks = blocks_per_slab(kClass);
constexpr unsigned kBlocksPerPage = kPage / kSize;

SlabRow &row_of(const void *p) { return superslab_of(p)->row(slab_index_of(p)); }
SlabState state_of(const void *p) { return row_of(p).prefix.state; }

class Slab : public HeapTest {
 protected:
  // `count` whole slabs of 64-byte blocks, by slab, and a further block that makes the last of them not
  // current.
  std::vector<std::vector<void *>> fill_slabs(unsigned count) {
    std::vector<std::vector<void *>> slabs;
    for (unsigned i = 0; i < count; ++i) slabs.push_back(fill(kBlocks, kSize));
    next = fill(1, kSize)[0];
    return slabs;
  }
  void *next = nullptr;
};

TEST_F(Slab, IsCarvedInAddressOrder) {
  auto blocks = fill(kBlocks, kSize);
  for (size_t i = 0; i < blocks.size(); ++i) {
    ASSERT_EQ(address_of(blocks[i]), address_of(blocks[0]) + i * kSize);
  }
  EXPECT_EQ(offset_in_slab(blocks[0]), 0u);
}

class SealedSlab : public Slab {
 protected:
  // Two slabs of which every other block is free, in the child of a fork.
  void make_sealed() {
    slabs = fill_slabs(2);
    for (auto &slab : slabs) {
      for (size_t i = 0; i < slab.size(); i += 2) ace_heap_free(heap, slab[i]);
    }
    EXPECT_EQ(ace_hint(heap, ACE_HINT_FORK_CHILD, 0), 0);
  }
  bool is_of_old_slab(const void *p) const {
    return &row_of(p) == &row_of(slabs[0][0]) || &row_of(p) == &row_of(slabs[1][0]) ||
           &row_of(p) == &row_of(next);
  }
  std::vector<std::vector<void *>> slabs;
};

TEST_F(SealedSlab, ItsHolesArePassedOver) {
  make_sealed();
  for (void *p : fill(3 * kBlocks, kSize)) ASSERT_FALSE(is_of_old_slab(p));
}

TEST_F(SealedSlab, SoAreTheHolesOfWhatWasFullThen) {
  slabs = fill_slabs(2);
  EXPECT_EQ(ace_hint(heap, ACE_HINT_FORK_CHILD, 0), 0);
  for (auto &slab : slabs) {
    for (size_t i = 0; i < slab.size(); i += 2) ace_heap_free(heap, slab[i]);
  }
  for (void *p : fill(3 * kBlocks, kSize)) ASSERT_FALSE(is_of_old_slab(p));
}

TEST_F(SealedSlab, WhatIsFreedThereIsSeen) {
  make_sealed();
  for (size_t i = 1; i < slabs[0].size(); i += 2) {
    EXPECT_EQ(state_of(slabs[0][1]), SlabState::kFull);
    ace_heap_free(heap, slabs[0][i]);
  }
  EXPECT_EQ(state_of(slabs[0][1]), SlabState::kFree);
}

TEST_F(SealedSlab, AFullCollectionEndsIt) {
  make_sealed();
  ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 1);
  ace_hint(heap, ACE_HINT_COLLECT_END, 0);
  EXPECT_FALSE(is_of_old_slab(fill(1, kSize)[0])) << "it was a partial one";
  ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 0);
  ace_hint(heap, ACE_HINT_COLLECT_END, 0);
  unsigned old = 0;
  for (void *p : fill(2 * kBlocks, kSize)) old += is_of_old_slab(p);
  EXPECT_GE(old, kBlocks);
}

TEST_F(SealedSlab, InModeOffNothingIs) {
  test::OptionGuard off("mode", "off");
  make_sealed();
  unsigned old = 0;
  for (void *p : fill(2 * kBlocks, kSize)) old += is_of_old_slab(p);
  EXPECT_GE(old, kBlocks);
}

TEST_F(Slab, TakesPagesOneByOne) {
  for (unsigned page = 1; page <= kPagesPerSlab; ++page) {
    fill(kBlocksPerPage, kSize);
    EXPECT_EQ(stats().faulted_bytes, page * kPage);
  }
}

TEST_F(Slab, RefillsAndCarvesAreCounted) {
  fill(2 * kBlocksPerPage, kSize);  // a page, and another one
  const ace_stats s = stats();
  EXPECT_EQ(s.refills, 2u);
  EXPECT_EQ(s.carves, 2u);
  EXPECT_EQ(s.slabs_assigned, 1u);
  EXPECT_EQ(s.taken_bytes, 2 * kPage);
}

TEST_F(Slab, EveryClassFillsItsSlabsAndKeepsApart) {
  for (unsigned c = 0; c < kClasses; ++c) {
    auto blocks = fill(blocks_per_slab(c) + 3, kClassSize[c]);
    std::sort(blocks.begin(), blocks.end());
    for (size_t i = 1; i < blocks.size(); ++i) {
      ASSERT_GE(address_of(blocks[i]) - address_of(blocks[i - 1]), kClassSize[c]);
    }
    for (void *block : blocks) {
      ASSERT_EQ(row_of(block).prefix.size_class, c);
      ASSERT_EQ(offset_in_slab(block) % kClassSize[c], 0u);
      ASSERT_LE(offset_in_slab(block) + kClassSize[c], kSlabSize);
    }
    EXPECT_EQ(test::audit(heap), "");
  }
}

TEST_F(Slab, StatesAndTheOfferThreshold) {
  auto slab = fill(kBlocks, kSize);
  EXPECT_EQ(state_of(slab[0]), SlabState::kCurrent);
  fill(1, kSize);
  EXPECT_EQ(state_of(slab[0]), SlabState::kFull);
  const unsigned offer_at = row_of(slab[0]).prefix.due;
  EXPECT_EQ(offer_at, (kBlocks + 31) / 32);
  for (unsigned i = 0; i < offer_at; ++i) {
    EXPECT_EQ(state_of(slab[0]), SlabState::kFull) << i;
    ace_heap_free(heap, slab[i]);
  }
  EXPECT_EQ(state_of(slab[0]), SlabState::kPartial);
  for (unsigned i = offer_at; i < kBlocks; ++i) ace_heap_free(heap, slab[i]);
  EXPECT_EQ(state_of(slab[0]), SlabState::kFree);
  EXPECT_EQ(stats().slabs_emptied, 1u);
}

TEST_F(Slab, SparseWhereOnlyAbsentPagesAreFree) {
  auto slabs = fill_slabs(2);
  for (unsigned s : {0u, 1u}) {
    // Four dead pages, and two pages' worth of holes in the others.
    for (unsigned i = 0; i < 4 * kBlocksPerPage; ++i) ace_heap_free(heap, slabs[s][i]);
    for (unsigned i = 0; i < 2 * kBlocksPerPage; ++i) ace_heap_free(heap, slabs[s][5 * kBlocksPerPage + 3 * i]);
  }
  EXPECT_GE(ace_trim(heap, SIZE_MAX), 8 * kPage);
  const uint64_t faulted = stats().faulted_bytes;
  // The trim left the holes of the former current slab: one page with one live block.
  auto again = fill(4 * kBlocksPerPage + kBlocksPerPage - 1, kSize);
  EXPECT_EQ(stats().faulted_bytes, faulted) << "resident holes come first";
  fill(1, kSize);
  EXPECT_EQ(stats().faulted_bytes, faulted + kPage);
  const bool sparse0 = state_of(slabs[0].back()) == SlabState::kSparse;
  const bool sparse1 = state_of(slabs[1].back()) == SlabState::kSparse;
  EXPECT_TRUE(sparse0 || sparse1);
}

TEST_F(Slab, UnusedCurrentSlabsServeOtherSizesBeforeTheHeapGrows) {
  for (size_t size : {4000, 6000, 8000, 12000}) ace_heap_free(heap, fill(1, size)[0]);
  const uint64_t faulted = stats().faulted_bytes;
  auto blocks = fill(2, 16000);  // each of the four has left some of the pages that these take
  EXPECT_LT(stats().faulted_bytes - faulted, 2 * 16000u);
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(Slab, ResidentHolesComeBeforeFreshSlabs) {
  auto slabs = fill_slabs(4);
  std::set<void *> freed;
  for (auto &slab : slabs) {
    for (unsigned i = 0; i < kBlocks; i += 8) {
      ace_heap_free(heap, slab[i]);
      freed.insert(slab[i]);
    }
  }
  const auto before = stats();
  // What is left of the current slab's page, then all holes.
  for (void *block : fill(kBlocksPerPage - 1 + freed.size(), kSize)) freed.erase(block);
  EXPECT_TRUE(freed.empty());
  EXPECT_EQ(stats().faulted_bytes, before.faulted_bytes);
  EXPECT_EQ(stats().slabs_assigned, before.slabs_assigned);
  fill(1, kSize);
  EXPECT_EQ(stats().faulted_bytes, before.faulted_bytes + kPage);
}

TEST_F(Slab, FreedPagesServeOtherClasses) {
  auto small = fill(31 * kBlocks, kSize);
  const auto before = stats();
  EXPECT_EQ(before.mapped_bytes, kSuperslabSize);
  free_all(small);
  for (size_t size : {16u, 512u, 8192u}) {
    auto blocks = fill(28 * blocks_per_slab(class_of(size)), size);
    EXPECT_EQ(stats().mapped_bytes, before.mapped_bytes) << size;
    EXPECT_LE(stats().resident_bytes, before.resident_bytes) << size;
    free_all(blocks);
  }
  // The three classes' current slabs are the only ones that were not free each time.
  EXPECT_EQ(stats().faulted_bytes, before.faulted_bytes) << "resident slabs are taken first";
}

TEST_F(Slab, AFreeSlabWithResidentPagesComesBeforeOneWithout) {
  auto slabs = fill_slabs(3);
  const SlabRow *resident = &row_of(slabs[2][0]);
  free_all(slabs[0]);
  EXPECT_EQ(ace_trim_shared(heap, SIZE_MAX), kSlabSize);
  free_all(slabs[2]);
  const uint64_t faulted = stats().faulted_bytes;
  EXPECT_EQ(&row_of(fill(1, kPage)[0]), resident);
  EXPECT_EQ(stats().faulted_bytes, faulted);
}

TEST_F(Slab, KindGroupsLiveInSlabsOfTheirOwn) {
  make(3);
  std::vector<void *> blocks[3];
  for (int i = 0; i < 300; ++i) {
    for (unsigned kind : {0u, 1u, 2u, 9u})
      blocks[std::min(kind, 2u)].push_back(ace_heap_alloc_kind(heap, kSize, kind));
  }
  for (unsigned group = 0; group < 3; ++group) {
    for (void *block : blocks[group]) ASSERT_EQ(row_of(block).prefix.kind_group, group);
  }
}

TEST_F(Slab, TheListGrowsByWhatIsFreedIntoTheWindow) {
  auto blocks = fill(kBlocksPerPage, kSize);
  const Bin &bin = heap->bins[kClass];
  EXPECT_EQ(list_length(*heap, bin), 0u);
  ace_heap_free(heap, blocks[5]);
  ace_heap_free(heap, blocks[9]);
  EXPECT_EQ(list_length(*heap, bin), 2u);
  EXPECT_TRUE(is_on_list(bin, blocks[5]));
  EXPECT_FALSE(is_on_list(bin, blocks[6]));
  retire_current(*heap, kClass);
  EXPECT_EQ(list_length(*heap, bin), 0u);
  EXPECT_EQ(heap->slabs[kClass].current, nullptr);
  EXPECT_FALSE(bin.has(blocks[0]));
  EXPECT_EQ(free_blocks(row_of(blocks[0])), kBlocks - kBlocksPerPage + 2);
  EXPECT_EQ(free_in_resident_pages(row_of(blocks[0])), 2u);
}

TEST_F(Slab, ARetiredBlockLosesItsTag) {
  void *block = fill(kBlocks, kSize)[0];
  auto listed = fill(kBlocks, kSize);
  free_all(listed);
  retire_all(*heap);
  test::MisuseLog misuse;
  for (unsigned i = 0; i < kPagesPerSlab; ++i) {
    // The next user of its memory copies it unwritten to where a live block has its tag.
    const auto *unwritten = static_cast<std::byte *>(ace_heap_alloc(heap, kPage));
    for (size_t at = 0; at < kPage; at += kSize) {
      memcpy(block, unwritten + at, kSize);
      ASSERT_EQ(ace_usable_size(block), kSize);
    }
  }
  EXPECT_TRUE(misuse.take().empty());
}

// What a program that writes to free blocks makes of an allocation list is found where the list is given up.
class SpoiledList : public Slab {
 protected:
  // The first free block of ten is `second`; the next one is `first`.
  SpoiledList() : blocks(fill(10, 64)), first(free(3)), second(free(5)) {}
  Block *free(size_t n) {
    ace_heap_free(heap, blocks[n]);
    return static_cast<Block *>(blocks[n]);
  }
  void expect_report_of(const Block *block) {
    test::MisuseLog misuse;
    retire_all(*heap);
    EXPECT_EQ(misuse.take(), std::vector{int{ACE_ERROR_WRITE_AFTER_FREE}});
    EXPECT_EQ(misuse.last().pointer, block);
    EXPECT_EQ(misuse.last().state, ACE_BLOCK_FREE);
    EXPECT_EQ(test::audit(heap), "");
  }
  std::vector<void *> blocks;
  Block *first, *second;
};

TEST_F(SpoiledList, ThatLeavesTheSlab) {
  alignas(64) static Block elsewhere[4];
  second->next = elsewhere;
  expect_report_of(second);
  EXPECT_EQ(elsewhere[0].tag, nullptr) << "nothing is written there";
}

TEST_F(SpoiledList, ThatLeadsIntoABlock) {
  second->next = reinterpret_cast<Block *>(static_cast<std::byte *>(blocks[7]) + 16);
  expect_report_of(second);
}

TEST_F(SpoiledList, ThatGoesInACircle) {
  first->next = second;
  EXPECT_GE(list_length(*heap, heap->bins[class_of(64)]), 2u) << "and comes to an end";
  expect_report_of(second);
}

TEST_F(SpoiledList, OfABlockWithoutItsTag) {
  first->tag = blocks[0];
  expect_report_of(first);
}

TEST_F(Slab, DrainingSuperslabsAreUsedLast) {
  // Two superslabs; then the older one keeps one block, and the younger one stays full but for two slabs.
  auto first = fill(31 * kBlocks, kSize);
  auto second = fill(31 * kBlocks, kSize);
  ASSERT_NE(superslab_of(first[0]), superslab_of(second[0]));
  for (size_t i = 1; i < first.size(); ++i) ace_heap_free(heap, first[i]);
  for (size_t i = 0; i < 2 * kBlocks; ++i) ace_heap_free(heap, second[i]);
  ace_trim(heap, SIZE_MAX);
  EXPECT_EQ(stats().superslabs_draining, 1u);
  EXPECT_EQ(superslab_of(first[0])->head.tier, Tier::kDraining);
  // Another class needs fresh slabs: the HOT superslab's first.
  auto other = fill(2 * blocks_per_slab(class_of(512)), 512);
  for (void *block : other) ASSERT_EQ(superslab_of(block), superslab_of(second[0]));
  EXPECT_EQ(superslab_of(fill(1, 512)[0]), superslab_of(first[0]));
}

TEST_F(Slab, SuperslabsDrainWhereAtMostAQuarterIsUsed) {
  for (unsigned used : {8u, 9u}) {
    make();
    auto blocks = fill(31 * kBlocks, kSize);
    for (size_t i = 0; i < blocks.size(); ++i) {
      if (i % kBlocks != 0 || i / kBlocks >= used) ace_heap_free(heap, blocks[i]);
    }
    ace_trim(heap, SIZE_MAX);
    EXPECT_EQ(stats().superslabs_draining, used == 8 ? 1u : 0u) << used;
  }
}

// Whoever may come later for what is empty.
class SpareSlabs : public Slab {
 protected:
  // How often it was asked while 20 slabs fell free.
  int asked_while_20_fall_free() {
    asked = 0;
    heap->on_spare = [](Heap &) { return ++asked, true; };
    auto blocks = fill(20 * kBlocks, kSize);
    free_all(blocks);
    return asked;
  }
  static inline int asked;
};

TEST_F(SpareSlabs, AreToldOfOnceInAWhile) { EXPECT_EQ(asked_while_20_fall_free(), 2); }

TEST_F(SpareSlabs, AreNotToldOfInACollectionWhichWillTellItself) {
  ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 0);
  EXPECT_EQ(asked_while_20_fall_free(), 0);
}

TEST_F(SpareSlabs, AreNotToldOfInModeOff) {
  test::OptionGuard off("mode", "off");
  EXPECT_EQ(asked_while_20_fall_free(), 0);
}

TEST_F(Slab, OfAHeapThatIsHintedAllEmptySuperslabsStayUntilTheWorkerComes) {
  test::FakeOs fake;
  make(0, 0, nullptr, nullptr, 0);
  auto blocks = fill(20 * 31 * kBlocks, kSize);
  const ace_stats full = stats();
  ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 0);
  free_all(blocks);
  EXPECT_EQ(stats().mapped_bytes, full.mapped_bytes);
  EXPECT_GE(stats().superslabs_free, 19u);
  blocks = fill(20 * 31 * kBlocks, kSize);
  EXPECT_EQ(stats().faulted_bytes, full.faulted_bytes) << "what was held is used again";
  free_all(blocks);
  fake.advance(options().idle_delay_ns);
  ace_tick(UINT64_MAX);
  EXPECT_LT(stats().resident_bytes, kSuperslabSize) << "though no collection ended";
  ace_trim(heap, SIZE_MAX);
  EXPECT_EQ(stats().mapped_bytes, kSuperslabSize);
}

TEST_F(Slab, WhereTheWorkerWillComeCurrentSlabsAreRetired) {
  test::FakeOs fake;
  make(0, 0, nullptr, nullptr, 0);
  ace_hint(heap, ACE_HINT_IDLE_END, 0);
  auto blocks = fill(20 * kBlocks, kSize);
  free_all(blocks);
  EXPECT_EQ(heap->slabs[kClass].current, nullptr) << "their lists are out of its reach";
  EXPECT_FALSE(heap->retire_asked) << "once";
}

TEST_F(Slab, OfAHeapWithoutAWorkerTheyDoNot) {
  auto blocks = fill(20 * 31 * kBlocks, kSize);
  ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 0);
  free_all(blocks);
  EXPECT_LE(stats().superslabs_free, 8u);
}

TEST_F(Slab, OneThatIsNotUsedUpGoesOnAfterACollection) {
  // Many small states on one heap: each makes a few blocks that stay and some that do not, and is collected.
  for (int i = 0; i < 200; ++i) {
    fill(40, kSize);
    for (size_t size : {128, 256, 1024}) {  // an empty slab that has a resident page tempts
      auto garbage = fill(3, size);
      free_all(garbage);
    }
    fill(3, 512);
    retire_all(*heap);
  }
  EXPECT_LE(stats().slabs_in_use, (200 * 40 * kSize + 200 * 3 * 512) / kSlabSize + 20);
  EXPECT_LE(stats().resident_bytes, stats().live_bytes + 4 * kPage);
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(Slab, InModeOffTheyStayUntilATrim) {
  test::OptionGuard off("mode", "off");
  auto blocks = fill(20 * 31 * kBlocks, kSize);
  const uint64_t mapped = stats().mapped_bytes;
  free_all(blocks);
  EXPECT_EQ(stats().mapped_bytes, mapped);
  ace_trim(heap, SIZE_MAX);
  EXPECT_EQ(stats().mapped_bytes, kSuperslabSize);
}

TEST_F(Slab, EmptySuperslabsAreKeptForReuseButNotMany) {
  auto blocks = fill(20 * 31 * kBlocks, kSize);
  EXPECT_GE(stats().mapped_bytes, 20 * kSuperslabSize);
  free_all(blocks);
  const auto after = stats();
  EXPECT_GE(after.superslabs_free, 1u);
  EXPECT_LE(after.superslabs_free, 8u);
  EXPECT_EQ(after.live_blocks, 0u);
  ace_trim(heap, SIZE_MAX);
  EXPECT_EQ(stats().mapped_bytes, kSuperslabSize) << "the heap's own superslab stays";
  EXPECT_EQ(stats().resident_bytes, 0u);
  blocks = fill(20 * 31 * kBlocks, kSize);
  free_all(blocks);
  EXPECT_LE(stats().superslabs_free, 8u) << "after a trim as before";
}

TEST_F(Slab, NoMemoryFailsTheAllocationAndNothingElse) {
  test::FakeOs fake;
  fake.fail_always(test::OsCall::kMap);
  std::vector<void *> blocks;
  while (void *block = ace_heap_alloc(heap, 8192)) blocks.push_back(block);
  EXPECT_GE(stats().system_failures, 1u);
  EXPECT_EQ(test::audit(heap), "");
  ace_heap_free(heap, blocks.back());
  EXPECT_EQ(ace_heap_alloc(heap, 8192), blocks.back());
  fake.fail_never();
  EXPECT_NE(ace_heap_alloc(heap, 8192), nullptr);
}

TEST_F(Slab, WhereThereIsNoMemoryTheLastHolesAreUsed) {
  test::FakeOs fake;
  fake.fail_always(test::OsCall::kMap);
  std::vector<void *> blocks;
  while (void *block = ace_heap_alloc(heap, kSize)) blocks.push_back(block);
  ace_heap_free(heap, blocks[5]);  // of a full slab, which is not offered for one block
  EXPECT_EQ(ace_heap_alloc(heap, kSize), blocks[5]);
  EXPECT_EQ(ace_heap_alloc(heap, kSize), nullptr);
}

}  // namespace
}  // namespace ace
