// Frees from other threads. Here the other thread has come and gone before the holder looks; tests/stress lets
// them run at the same time.
#include "heap/remote.h"

#include <thread>

#include "heap/address_map.h"
#include "heap/slab.h"
#include "heap/tiers.h"
#include "unit/heap_test.h"

namespace ace {
namespace {

using test::HeapTest;
using test::MisuseLog;

class Remote : public HeapTest {
 protected:
  static void free_elsewhere(const std::vector<void *> &blocks) {
    std::thread([&] {
      for (void *block : blocks) ace_free(block);
    }).join();
  }
  static void free_elsewhere(void *block) { free_elsewhere(std::vector<void *>{block}); }
};

TEST_F(Remote, BlocksOfEveryPoolComeHome) {
  std::vector<void *> blocks;
  for (size_t size : {size_t{16}, size_t{1000}, size_t{20'000}, size_t{2'000'000}}) {
    auto more = fill(20, size);
    blocks.insert(blocks.end(), more.begin(), more.end());
  }
  free_elsewhere(blocks);
  EXPECT_TRUE(has_remote_frees(*heap));
  EXPECT_EQ(stats().live_blocks, 80u) << "until the holder takes them over";
  EXPECT_TRUE(test::walk(heap).empty()) << "but they are known to be free";
  EXPECT_EQ(test::audit(heap), "");
  drain_remote_frees(*heap);
  EXPECT_EQ(test::audit(heap), "");
  EXPECT_FALSE(has_remote_frees(*heap));
  EXPECT_EQ(stats().live_blocks, 0u);
  EXPECT_EQ(stats().remote_frees, 80u);
  EXPECT_EQ(stats().remote_drains, 1u);
}

TEST_F(Remote, AnEmptyQueueIsNoDrain) {
  drain_remote_frees(*heap);
  EXPECT_EQ(stats().remote_drains, 0u);
}

TEST_F(Remote, BlocksOfTheCurrentSlab) {
  auto blocks = fill(10, 64);
  free_elsewhere(blocks[3]);
  drain_remote_frees(*heap);
  EXPECT_EQ(test::audit(heap), "");
  EXPECT_EQ(stats().live_blocks, 9u);
  for (void *block : blocks) {
    if (block != blocks[3]) ace_heap_free(heap, block);
  }
  EXPECT_EQ(stats().live_blocks, 0u);
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(Remote, ARefillTakesThemOver) {
  auto blocks = fill(blocks_per_slab(class_of(64)), 64);
  free_elsewhere(blocks);
  auto again = fill(blocks_per_slab(class_of(64)), 64);
  EXPECT_EQ(stats().live_blocks, again.size());
  EXPECT_EQ(stats().faulted_bytes, kSlabSize) << "the slab is filled again";
}

TEST_F(Remote, AFullSlabIsOfferedAgainByThem) {
  auto blocks = fill(blocks_per_slab(class_of(64)), 64);
  fill(1, 64);
  const SlabRow &row = superslab_of(blocks[0])->row(slab_index_of(blocks[0]));
  ASSERT_EQ(row.prefix.state, SlabState::kFull);
  free_elsewhere(
      std::vector<void *>(blocks.begin(), blocks.begin() + static_cast<ptrdiff_t>(blocks.size() / 2)));
  drain_remote_frees(*heap);
  EXPECT_EQ(row.prefix.state, SlabState::kPartial);
}

TEST_F(Remote, ThePageOfTheirBitsIsMetadata) {
  auto blocks = fill(3, 64);
  const uint64_t before = stats().metadata_bytes;
  free_elsewhere(blocks[0]);
  drain_remote_frees(*heap);
  EXPECT_EQ(stats().metadata_bytes, before + kPage);
  free_elsewhere(blocks[1]);
  drain_remote_frees(*heap);
  EXPECT_EQ(stats().metadata_bytes, before + kPage) << "once";
}

TEST_F(Remote, ContentsAreNotTouchedButForTheTag) {
  auto blocks = fill(10, 64);
  free_elsewhere(blocks);
  for (void *block : blocks) {
    EXPECT_NE(static_cast<Block *>(block)->tag, nullptr);
    for (int i = 0; i < 64; ++i) {
      if (i / 8 != 1) ASSERT_EQ(static_cast<unsigned char *>(block)[i], 0xa5);
    }
  }
}

TEST_F(Remote, ItsHoldersFreeOfABlockOfTheWindowIsASecondOne) {
  auto blocks = fill(10, 64);
  free_elsewhere(blocks[3]);
  MisuseLog misuse;
  ace_heap_free(heap, blocks[3]);
  EXPECT_EQ(misuse.take(), std::vector{int{ACE_ERROR_DOUBLE_FREE}});
  EXPECT_EQ(misuse.last().pointer, blocks[3]);
  ace_heap_free_sized(heap, blocks[3], 64);
  EXPECT_EQ(misuse.take(), std::vector{int{ACE_ERROR_DOUBLE_FREE}});
  drain_remote_frees(*heap);
  EXPECT_TRUE(misuse.take().empty());
  EXPECT_EQ(stats().live_blocks, 9u);
}

TEST_F(Remote, ItsHoldersReallocIsSeenThoughItsTagWasOverwritten) {
  auto blocks = fill(10, 64);
  free_elsewhere(blocks[3]);
  memset(blocks[3], 0xee, 64);
  MisuseLog misuse;
  EXPECT_EQ(ace_heap_realloc(heap, blocks[3], 1000, 0), nullptr);
  EXPECT_EQ(misuse.take(), std::vector{int{ACE_ERROR_DOUBLE_FREE}});
}

TEST_F(Remote, ItsHoldersFreeIntoTheBitmapIsSeenAtTheDrain) {
  auto blocks = fill(2 * blocks_per_slab(class_of(64)), 64);
  MisuseLog misuse;
  free_elsewhere(blocks[3]);  // of a slab that is full
  ace_heap_free(heap, blocks[3]);
  drain_remote_frees(*heap);
  EXPECT_EQ(misuse.take(), std::vector{int{ACE_ERROR_DOUBLE_FREE}});
  EXPECT_EQ(misuse.last().pointer, blocks[3]);
  EXPECT_EQ(stats().live_blocks, blocks.size() - 1);
}

TEST_F(Remote, AUsersOwnTagIsNoSecondFree) {
  auto blocks = fill(10, 64);
  static_cast<Block *>(blocks[3])->tag = &heap->bins[class_of(64)];
  MisuseLog misuse;
  ace_heap_free(heap, blocks[3]);
  EXPECT_TRUE(misuse.take().empty());
  EXPECT_EQ(stats().live_blocks, 9u);
}

TEST_F(Remote, WhatIsCopiedFromUnwrittenMemoryIsNoTag) {
  const auto once = fill(4 * blocks_per_slab(class_of(64)), 64);
  free_elsewhere(once);
  drain_remote_frees(*heap);
  MisuseLog misuse;
  void *block = ace_heap_alloc(heap, 64);
  for (int n = 0; n < 40; ++n) {
    const auto *unwritten = static_cast<std::byte *>(ace_heap_alloc(heap, 4096));
    for (size_t i = 0; i < 4096; i += 64) {
      memcpy(block, unwritten + i, 64);
      ASSERT_EQ(ace_usable_size(block), 64u);
    }
  }
  EXPECT_TRUE(misuse.take().empty());
}

TEST_F(Remote, TheLimitTakesThemOver) {
  ace_heap_set_limit(heap, 1 << 20);
  std::vector<void *> blocks;
  while (void *p = ace_heap_alloc(heap, 20'000)) blocks.push_back(p);
  free_elsewhere(blocks);
  EXPECT_NE(ace_heap_alloc(heap, 20'000), nullptr);
}

TEST_F(Remote, SecondFreesAreSeenInEveryPool) {
  MisuseLog misuse;
  for (size_t size : {size_t{64}, size_t{20'000}, size_t{2'000'000}}) {
    void *p = fill(1, size)[0];
    void *other = fill(1, size)[0];
    free_elsewhere({p, p});
    EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE}) << size << ", both elsewhere";
    if (size > kTinyMax) {  // in slabs the hot path asks no remote bit: see FreedHereBeforeTheDrain
      ace_heap_free(heap, p);
      EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE}) << size << ", the second here";
    }
    EXPECT_EQ(ace_usable_size(p), 0u);
    EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE}) << size << ", asked for its size";
    EXPECT_EQ(test::audit(heap), "");
    ace_trim(heap, SIZE_MAX);
    EXPECT_EQ(test::audit(heap), "");
    EXPECT_EQ(stats().live_blocks, 1u);
    ace_heap_free(heap, other);
  }
}

TEST_F(Remote, FreedHereBeforeTheDrain) {
  MisuseLog misuse;
  auto blocks = fill(3 * blocks_per_slab(class_of(64)), 64);
  for (void *block : {blocks[3], blocks.back()}) {  // in the bitmap, and in the current slab
    free_elsewhere(block);
    ace_heap_free(heap, block);
  }
  EXPECT_EQ(test::audit(heap), "");
  drain_remote_frees(*heap);
  EXPECT_EQ(test::audit(heap), "");
  EXPECT_EQ(stats().live_blocks, blocks.size() - 2) << "each counts once";
}

TEST_F(Remote, FreedHereAfterTheDrain) {
  MisuseLog misuse;
  auto blocks = fill(10, 64);
  free_elsewhere(blocks[3]);
  drain_remote_frees(*heap);
  ace_heap_free(heap, blocks[3]);
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE});
  EXPECT_EQ(test::audit(heap), "");
  EXPECT_EQ(stats().live_blocks, 9u);
}

TEST_F(Remote, FreedElsewhereAfterItWasFreedHere) {
  MisuseLog misuse;
  auto blocks = fill(10, 64);
  ace_heap_free(heap, blocks[3]);  // onto the allocation list
  free_elsewhere(blocks[3]);
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE});
  ace_trim(heap, SIZE_MAX);
  EXPECT_EQ(test::audit(heap), "");
  EXPECT_EQ(stats().live_blocks, 9u);
  auto again = fill(20, 64);
  for (size_t i = 0; i < again.size(); ++i) {
    for (size_t j = 0; j < i; ++j) ASSERT_NE(again[i], again[j]) << "one block was handed out twice";
  }
}

// The moment in which a drain meets a free half done, made by hand: its bit is set, the word not yet announced.
TEST_F(Remote, ABitThatIsNotYetAnnouncedIsLeftAlone) {
  auto blocks = fill(3, 64);
  void *p = blocks[1];
  SlabRow &row = superslab_of(p)->row(slab_index_of(p));
  const unsigned granule = offset_in_slab(p) / kGranule;
  superslab_of(p)->remote_bits[slab_index_of(p)][granule / 64] |= uint64_t{1} << granule % 64;
  free_elsewhere(blocks[0]);  // in the same word, which another thread is about to announce
  EXPECT_FALSE(has_remote_frees(*heap));
  drain_remote_frees(*heap);
  for (void *block : {blocks[0], blocks[2]}) EXPECT_TRUE(is_ours(block));
  row.remote.words = uint64_t{1} << granule / 64;
  row.remote.next = nullptr;
  heap->remote.first = &row.remote;
  drain_remote_frees(*heap);
  EXPECT_FALSE(has_remote_frees(*heap));
  EXPECT_EQ(stats().live_blocks, 1u);
  EXPECT_EQ(test::audit(heap), "");
}

// The same where the slab is empty by now: its superslab must not go while that thread is at it.
TEST_F(Remote, WhatIsNotYetInTheQueueHoldsItsSuperslab) {
  auto blocks = fill(40 * blocks_per_slab(class_of(64)), 64);
  Superslab *superslab = superslab_of(blocks.back());
  ASSERT_NE(superslab, heap->home);
  SlabRow &row = superslab->row(slab_index_of(blocks.back()));
  free_all(blocks);
  row.remote.words = 1;
  ace_trim(heap, SIZE_MAX);
  EXPECT_TRUE(is_ours(superslab));
  row.remote.words = 0;
  ace_trim(heap, SIZE_MAX);
  EXPECT_FALSE(is_ours(superslab));
}

TEST_F(Remote, AThreadThatHoldsAnotherHeapIsCounted) {
  auto blocks = fill(3, 64);
  ace_heap *other = ace_heap_create(nullptr);
  for (void *block : blocks) ace_heap_free(other, block);
  EXPECT_EQ(test::stats_of(other).misrouted_pointers, 3u);
  EXPECT_EQ(test::audit(other), "");
  ace_heap_destroy(other);
  drain_remote_frees(*heap);
  EXPECT_EQ(stats().remote_frees, 3u);
  EXPECT_EQ(stats().live_blocks, 0u);
}

}  // namespace
}  // namespace ace
