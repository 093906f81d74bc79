// The front cache of libace-malloc.so's heaps: see heap/front_cache.h.
#include "heap/front_cache.h"

#include <algorithm>

#include "front/hot.h"
#include "unit/heap_test.h"

namespace ace {
namespace {

using test::HeapTest;
using test::MisuseLog;

class FrontCached : public HeapTest {
 protected:
  // Blocks of a slab that is no longer current: all of it, and one block more to make the next slab current.
  std::vector<void *> blocks_of_a_full_slab(size_t size) {
    auto blocks = fill(blocks_per_slab(class_of(size)), size);
    fill(1, size);
    return blocks;
  }
  bool is_in_bitmap(void *p) { return ace::is_in_bitmap(superslab_of(p), p); }
  unsigned in_bitmap(const std::vector<void *> &blocks) {
    return static_cast<unsigned>(
        std::count_if(blocks.begin(), blocks.end(), [&](void *p) { return is_in_bitmap(p); }));
  }
  // Uses up what the bin has on its list.
  void use_up(size_t size) {
    while (heap->bins[class_of(size)].list != nullptr) fill(1, size);
  }
  // As if frees were mixed: none looks at a window.
  void forget_windows() { heap->front_cache->is_mixed = true; }
  uint32_t cached(size_t size) { return cached_blocks(*heap, class_of(size)); }
};

TEST_F(FrontCached, TheNextRefillTakesWhatWasFreedLastFirst) {
  auto blocks = blocks_of_a_full_slab(64);
  for (unsigned i : {10, 20, 30}) ace_heap_free(heap, blocks[i]);
  EXPECT_EQ(in_bitmap(blocks), 0u);
  EXPECT_EQ(test::audit(heap), "");
  use_up(64);
  for (unsigned i : {30, 20, 10}) EXPECT_EQ(ace_heap_alloc(heap, 64), blocks[i]);
}

TEST_F(FrontCached, WhatItHasNoRoomForGoesToTheBitmaps) {
  auto blocks = blocks_of_a_full_slab(64);
  for (unsigned i = 0; i < kFrontCache; ++i) ace_heap_free(heap, blocks[i]);
  EXPECT_EQ(cached(64), kFrontCache);
  EXPECT_EQ(in_bitmap(blocks), 0u);
  EXPECT_EQ(test::audit(heap), "");
  for (unsigned i = kFrontCache; i < kFrontCache + 3; ++i) ace_heap_free(heap, blocks[i]);
  EXPECT_EQ(cached(64), kFrontCache);
  for (unsigned i = 0; i < kFrontCache + 3; ++i) EXPECT_EQ(is_in_bitmap(blocks[i]), i >= kFrontCache) << i;
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(FrontCached, AProgramThatShrinksLeavesNothingInIt) {
  auto blocks = blocks_of_a_full_slab(64);
  unsigned freed = 0;
  const auto free_one = [&] { ace_heap_free(heap, blocks[freed++]); };
  for (unsigned i = 0; i < 2 * kFrontCache - 1; ++i) free_one();
  EXPECT_EQ(cached(64), kFrontCache);
  free_one();
  for (int i = 0; i < 3; ++i, free_one()) {
    EXPECT_EQ(cached(64), 0u);
    EXPECT_EQ(in_bitmap(blocks), freed);
  }
  EXPECT_EQ(test::audit(heap), "");
  use_up(64);
  fill(1, 64);
  const unsigned before = in_bitmap(blocks);
  free_one();
  EXPECT_EQ(cached(64), 1u) << "after a refill";
  EXPECT_EQ(in_bitmap(blocks), before);
  EXPECT_EQ(test::audit(heap), "");
}

// What is given back may be the last of its slab, and then the current slabs are retired where that was asked
// for.
TEST_F(FrontCached, WhatItGivesBackMayBeTheLastOfASlab) {
  const unsigned in_slab = blocks_per_slab(class_of(512)), room = in_slab / 2;
  auto first = fill(in_slab, 512), second = fill(in_slab, 512);
  fill(1, 512);
  for (unsigned i = 0; i <= room; ++i) ace_heap_free(heap, first[i]);
  ASSERT_TRUE(is_in_bitmap(first[room]));
  use_up(512);
  fill(room, 512);  // those that were cached, once more
  for (unsigned i = 0; i < in_slab; ++i) {
    if (i != room) ace_heap_free(heap, first[i]);
  }
  ASSERT_EQ(cached(512), room);
  heap->retire_asked = true;
  ace_heap_free(heap, second[0]);
  EXPECT_EQ(superslab_of(first[0])->row(slab_index_of(first[0])).prefix.state, SlabState::kFree);
  EXPECT_FALSE(heap->retire_asked);
  EXPECT_EQ(heap->slabs[class_of(512)].current, nullptr);
  EXPECT_TRUE(is_in_bitmap(second[0]));
  EXPECT_EQ(test::audit(heap), "");
}

// The current slab lies in the window, whichever way its blocks were freed.
TEST_F(FrontCached, NoBlockOfTheWindowGetsAFreeBit) {
  forget_windows();
  auto blocks = fill(blocks_per_slab(class_of(16)) / 2, 16);
  for (void *block : blocks) ace_heap_free(heap, block);
  EXPECT_EQ(cached(16), 0u) << "that many are a program that shrinks";
  EXPECT_EQ(test::audit(heap), "");
  EXPECT_EQ(in_bitmap(blocks), 0u);
  EXPECT_EQ(stats().live_blocks, 0u);
}

TEST_F(FrontCached, WhereFreesAreMixedNoneLooksAtTheWindow) {
  std::vector<void *> live = fill(8000, 64);
  const auto refills = [&] { return stats().refills; };
  const auto block_of_the_window = [&] { return fill(1, 64)[0]; };
  const auto goes_to_cache = [&](void *p) {
    const uint32_t before = cached(64);
    ace_heap_free(heap, p);
    return cached(64) != before;
  };
  uint64_t random = 1;
  const auto die_at_random = [&](uint64_t until) {
    while (refills() < until) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      void *&block = live[(random >> 33) % live.size()];
      ace_heap_free(heap, block);
      block = fill(1, 64)[0];
    }
  };
  const auto die_in_order = [&](uint64_t until) {
    while (refills() < until) {
      auto blocks = fill(8000, 64);
      for (void *block : blocks) ace_heap_free(heap, block);
    }
  };
  ASSERT_FALSE(goes_to_cache(block_of_the_window()));
  die_at_random(2500);
  EXPECT_TRUE(heap->front_cache->is_mixed);
  EXPECT_EQ(test::audit(heap), "");
  retire_current(*heap, class_of(64));
  void *inside = block_of_the_window();
  ASSERT_TRUE(heap->bins[class_of(64)].has(inside));
  EXPECT_TRUE(goes_to_cache(inside));
  MisuseLog misuse;
  ace_heap_free(heap, inside);
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE});
  die_in_order(5000);
  EXPECT_FALSE(heap->front_cache->is_mixed);
  EXPECT_EQ(test::audit(heap), "");
  retire_current(*heap, class_of(64));
  EXPECT_FALSE(goes_to_cache(block_of_the_window()));
}

// One free inside the window, one outside: a processor learns that.
TEST_F(FrontCached, WhereFreesAlternateTheyGoOnToLook) {
  while (stats().refills < 3000) {
    auto outside = blocks_of_a_full_slab(64);
    for (unsigned i = 0; i < outside.size(); ++i) {
      void *inside = fill(1, 48)[0];
      ace_heap_free(heap, outside[i]);
      ace_heap_free(heap, inside);
    }
    EXPECT_FALSE(heap->front_cache->is_mixed);
  }
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(FrontCached, ALinkIntoNowhereIsReportedWhereTheSlabGoes) {
  // The slab falls free by the block whose link is wrong; 64 is a block's address in the first slab of all.
  for (uintptr_t next : {64u, 1u, 65536u}) {
    make();
    auto blocks = blocks_of_a_full_slab(64);
    SlabRow &row = superslab_of(blocks[0])->row(slab_index_of(blocks[0]));
    for (unsigned i = 1; i < blocks.size(); ++i) ace_heap_free(heap, blocks[i]);
    retire_current(*heap, class_of(64));
    ASSERT_EQ(row.prefix.used, 1u);
    ace_heap_free(heap, blocks[0]);
    ASSERT_EQ(cached(64), 1u);
    static_cast<Block *>(blocks[0])->next = reinterpret_cast<Block *>(next);
    MisuseLog misuse;
    retire_current(*heap, class_of(64));
    EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_WRITE_AFTER_FREE});
    EXPECT_EQ(row.prefix.state, SlabState::kFree);
  }
}

TEST_F(FrontCached, ItCountsAsFree) {
  auto blocks = blocks_of_a_full_slab(64);
  const uint64_t live = stats().live_blocks;
  for (unsigned i = 0; i < 40; ++i) ace_heap_free(heap, blocks[i]);
  EXPECT_EQ(cached(64), 40u);
  EXPECT_EQ(stats().live_blocks, live - 40);
  EXPECT_EQ(test::walk(heap).size(), live - 40);
}

TEST_F(FrontCached, OfLargeBlocksItHoldsFew) {
  for (size_t size : {size_t{1024}, size_t{4096}, size_t{16384}}) {
    std::vector<void *> blocks;
    for (int slab = 0; slab < 40; ++slab) {
      auto more = blocks_of_a_full_slab(size);
      blocks.insert(blocks.end(), more.begin(), more.end());
    }
    uint32_t most = 0;
    for (void *block : blocks) {
      ace_heap_free(heap, block);
      most = std::max(most, cached(size));
    }
    EXPECT_LE(most * size, 32u << 10) << size;
    EXPECT_GE(most, 2u) << size;
    EXPECT_EQ(test::audit(heap), "");
  }
}

TEST_F(FrontCached, ATrimEmptiesIt) {
  auto blocks = blocks_of_a_full_slab(4096);
  for (unsigned i = 0; i < 7; ++i) ace_heap_free(heap, blocks[i]);
  EXPECT_EQ(cached(4096), 7u);
  for (unsigned i = 7; i < blocks.size(); ++i) ace_heap_free(heap, blocks[i]);
  EXPECT_GT(ace_trim(heap, SIZE_MAX), 0u);
  EXPECT_EQ(cached(4096), 0u);
  EXPECT_EQ(test::audit(heap), "");
  EXPECT_EQ(superslab_of(blocks[0])->row(slab_index_of(blocks[0])).prefix.state, SlabState::kFree);
}

TEST_F(FrontCached, ASecondFreeIsSeen) {
  auto blocks = blocks_of_a_full_slab(64);
  MisuseLog misuse;
  // In the bitmap, on the bin's list as the cache was, and at both ends of the cache.
  for (unsigned i = 0; i < kFrontCache + 1; ++i) ace_heap_free(heap, blocks[i]);
  use_up(64);
  fill(1, 64);
  const unsigned in_bitmap = kFrontCache, listed_before = 60, first = kFrontCache + 1;
  ASSERT_TRUE(is_in_bitmap(blocks[in_bitmap]));
  for (unsigned i = first; i < first + kFrontCache - 4; ++i) ace_heap_free(heap, blocks[i]);
  ASSERT_EQ(cached(64), kFrontCache - 4);
  const uint64_t live = stats().live_blocks;
  for (unsigned i : {in_bitmap, listed_before, first, first + kFrontCache - 5}) {
    ace_heap_free(heap, blocks[i]);
    EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE}) << i;
    ace_heap_free_sized(heap, blocks[i], 64);
    EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE}) << i;
    EXPECT_EQ(ace_heap_realloc(heap, blocks[i], 100, 0), nullptr);
    EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE}) << i;
  }
  EXPECT_EQ(stats().live_blocks, live);
  use_up(64);
  fill(1, 64);  // the cached ones are on the list now
  const Block *listed = heap->bins[class_of(64)].list;
  ASSERT_NE(listed, nullptr);
  ace_heap_free(heap, const_cast<Block *>(listed));
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE});
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(FrontCached, WhereItsOwnerHasWrittenToItTheRefillSeesIt) {
  struct {
    unsigned between;  // freed between the two frees of a block
    unsigned frees;    // in all, at least
  } const cases[] = {
      {0, 2}, {1, 3}, {5, 7}, {40, 42}, {kFrontCache, kFrontCache}, {kFrontCache + 9, kFrontCache}};
  for (auto [between, frees] : cases) {
    make();
    auto blocks = blocks_of_a_full_slab(64);
    ace_heap_free(heap, blocks[0]);
    memset(blocks[0], 0, 64);
    for (unsigned i = 1; i <= between; ++i) ace_heap_free(heap, blocks[i]);
    MisuseLog misuse;
    ace_heap_free(heap, blocks[0]);
    EXPECT_EQ(cached(64), frees) << "nothing tells yet";
    std::vector<void *> taken;
    for (unsigned i = 0; i < 200; ++i) taken.push_back(ace_heap_alloc(heap, 64));
    while (heap->bins[class_of(64)].list != nullptr) taken.push_back(ace_heap_alloc(heap, 64));
    EXPECT_FALSE(misuse.take().empty()) << between;
    std::sort(taken.begin(), taken.end());
    EXPECT_EQ(std::adjacent_find(taken.begin(), taken.end()), taken.end()) << "none is handed out twice";
  }
}

TEST_F(FrontCached, ALiveBlockWhoseOwnerWroteTheTagIsFreed) {
  auto blocks = blocks_of_a_full_slab(64);
  ace_heap_free(heap, blocks[5]);
  memcpy(blocks[6], blocks[5], 64);
  const uint64_t live = stats().live_blocks;
  MisuseLog misuse;
  ace_heap_free(heap, blocks[6]);
  EXPECT_EQ(misuse.take(), std::vector<int>{});
  EXPECT_EQ(stats().live_blocks, live - 1);
  EXPECT_EQ(test::audit(heap), "");
  // One of the window, where no free looks there.
  forget_windows();
  retire_current(*heap, class_of(64));
  void *inside = fill(1, 64)[0];
  ASSERT_TRUE(heap->bins[class_of(64)].has(inside));
  memcpy(inside, blocks[5], 64);
  ace_heap_free(heap, inside);
  EXPECT_EQ(misuse.take(), std::vector<int>{});
  EXPECT_EQ(stats().live_blocks, live - 1);
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(FrontCached, AListThatIsLedAstrayEndsThere) {
  auto blocks = blocks_of_a_full_slab(64);
  alignas(64) static Block nowhere;
  for (Block *next :
       {&nowhere, static_cast<Block *>(blocks[3]), static_cast<Block *>(blocks[50]),
        reinterpret_cast<Block *>(static_cast<char *>(blocks[50]) + 16), reinterpret_cast<Block *>(1)}) {
    for (unsigned i = 0; i < 10; ++i) ace_heap_free(heap, blocks[i]);
    static_cast<Block *>(blocks[7])->next = next;
    MisuseLog misuse;
    retire_current(*heap, class_of(64));
    // One that leads to a block of the same list only leaves out what lay between.
    if (next != blocks[3]) {
      EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_WRITE_AFTER_FREE});
      // That was written to; or the one it leads to, which has no tag.
      EXPECT_EQ(misuse.last().pointer, next == blocks[50] ? blocks[50] : blocks[7]);
    }
    make();
    blocks = blocks_of_a_full_slab(64);
  }
}

TEST_F(FrontCached, HardenedHeapsHaveNone) {
  make(0, 0, nullptr, nullptr, ACE_HEAP_HARDENED | ACE_HEAP_NO_WORKER);
  auto blocks = fill(2000, 64);
  for (void *block : blocks) ace_heap_free(heap, block);
  EXPECT_EQ(cached(64), 0u);
  EXPECT_EQ(stats().live_blocks, 0u);
}

}  // namespace
}  // namespace ace
