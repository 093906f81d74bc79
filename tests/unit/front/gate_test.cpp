// Every bad pointer: the handler hears the right code, nothing changes, every invariant holds.
#include "front/gate.h"

#include <array>
#include <cstdlib>

#include "heap/slab.h"
#include "unit/heap_test.h"

namespace ace {
namespace {

using test::HeapTest;
using test::MisuseLog;
using test::OptionGuard;

int g_global;

class Gate : public HeapTest {
 protected:
  static void *at(void *p, ptrdiff_t offset) { return static_cast<std::byte *>(p) + offset; }

  // Each function that takes a pointer reports `code` of `p`, and changes nothing.
  void expect_refused(void *p, int code) {
    const ace_stats before = stats();
    const std::vector<int> once{code};
    ace_heap_free(heap, p);
    EXPECT_EQ(misuse.take(), once) << "ace_heap_free";
    EXPECT_EQ(misuse.last().pointer, p);
    EXPECT_STREQ(misuse.last().function, "free");
    EXPECT_GT(strlen(misuse.last().message), 10u);
    ace_heap_free_sized(heap, p, 1);
    EXPECT_EQ(misuse.take(), once) << "ace_heap_free_sized";
    ace_free(p);
    EXPECT_EQ(misuse.take(), once) << "ace_free";
    ace_free_sized(p, 1);
    EXPECT_EQ(misuse.take(), once) << "ace_free_sized";
    EXPECT_EQ(ace_heap_realloc(heap, p, 100, 0), nullptr);
    EXPECT_EQ(misuse.take(), once) << "ace_heap_realloc";
    EXPECT_STREQ(misuse.last().function, "realloc");
    EXPECT_EQ(ace_usable_size(p), 0u);
    EXPECT_EQ(misuse.take(), once) << "ace_usable_size";
    const ace_stats after = stats();
    EXPECT_EQ(after.live_bytes, before.live_bytes);
    EXPECT_EQ(after.live_blocks, before.live_blocks);
    EXPECT_EQ(after.resident_bytes, before.resident_bytes);
    EXPECT_EQ(test::audit(heap), "");
  }

  MisuseLog misuse;
};

TEST_F(Gate, RoutesLivePointers) {
  void *tiny = fill(1, 100)[0], *mid = fill(1, 20'000)[0], *large = fill(1, 2'000'000)[0];
  const struct {
    void *p;
    Pool pool;
    size_t size;
  } expected[] = {
      {tiny, Pool::kTiny, 112}, {mid, Pool::kMid, 20'480}, {large, Pool::kLarge, round_up(2'000'000, kPage)}};
  for (const auto &[p, pool, size] : expected) {
    Route way = route(p);
    EXPECT_EQ(way.fault, 0);
    EXPECT_EQ(way.pool, pool);
    EXPECT_EQ(way.size, size);
    EXPECT_EQ(way.owner, heap);
    EXPECT_FALSE(is_free(way, p));
  }
}

TEST_F(Gate, DoubleFreeOnTheAllocationList) {
  auto blocks = fill(10, 64);
  ace_heap_free(heap, blocks[4]);
  ASSERT_TRUE(is_on_list(heap->bins[class_of(64)], blocks[4]));
  for (auto free : {+[](ace_heap *h, void *p) { ace_heap_free(h, p); },
                    +[](ace_heap *h, void *p) { ace_heap_free_sized(h, p, 64); }}) {
    free(heap, blocks[4]);
    EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE});
    EXPECT_EQ(misuse.last().owner, heap);
    EXPECT_EQ(misuse.last().block_size, 64u);
    EXPECT_EQ(stats().live_blocks, 9u);
    EXPECT_EQ(test::audit(heap), "");
  }
}

TEST_F(Gate, UsingAFreeBlockOfTheAllocationList) {
  auto blocks = fill(10, 64);
  ace_heap_free(heap, blocks[4]);
  EXPECT_EQ(ace_heap_realloc(heap, blocks[4], 1000, 0), nullptr);
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE}) << "realloc";
  EXPECT_EQ(ace_usable_size(blocks[4]), 0u);
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE}) << "usable_size";
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(Gate, DoubleFreeInTheBitmap) {
  auto blocks = fill(3 * blocks_per_slab(class_of(64)), 64);
  ace_heap_free(heap, blocks[4]);
  expect_refused(blocks[4], ACE_ERROR_DOUBLE_FREE);
}

TEST_F(Gate, DoubleFreeAfterItsSlabWasRetired) {
  auto blocks = fill(10, 64);
  ace_heap_free(heap, blocks[4]);
  retire_all(*heap);
  expect_refused(blocks[4], ACE_ERROR_DOUBLE_FREE);
}

TEST_F(Gate, DoubleFreeInAnEmptiedSlab) {
  auto blocks = fill(10, 64);
  for (void *block : blocks) ace_heap_free(heap, block);
  retire_all(*heap);
  expect_refused(blocks[4], ACE_ERROR_DOUBLE_FREE);
  ace_trim(heap, SIZE_MAX);
  expect_refused(blocks[4], ACE_ERROR_DOUBLE_FREE);
}

TEST_F(Gate, DoubleFreeOfABlockThatLooksFreed) {
  // A live block whose owner wrote the free blocks' tag into it is freed like any other.
  auto blocks = fill(10, 64);
  static_cast<Block *>(blocks[4])->tag = &heap->bins[class_of(64)];
  ace_heap_free(heap, blocks[4]);
  EXPECT_TRUE(misuse.take().empty());
  ace_heap_free(heap, blocks[4]);
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE});
  EXPECT_EQ(stats().live_blocks, 9u);
}

TEST_F(Gate, DoubleFreeInTheMidPool) {
  auto runs = fill(3, 20'000);  // side by side
  ace_heap_free(heap, runs[1]);
  expect_refused(runs[1], ACE_ERROR_DOUBLE_FREE);
  expect_refused(at(runs[1], 16), ACE_ERROR_INTERIOR);
}

TEST_F(Gate, DoubleFreeOfALargeBlock) {
  void *p = fill(1, 2'000'000)[0];
  ace_heap_free(heap, p);
  expect_refused(p, ACE_ERROR_DOUBLE_FREE);
}

TEST_F(Gate, InteriorPointers) {
  auto blocks = fill(3 * blocks_per_slab(class_of(64)), 64);
  for (ptrdiff_t offset : {1, 8, 16, 32, 63}) {
    expect_refused(at(blocks[4], offset), ACE_ERROR_INTERIOR);
    expect_refused(at(blocks.back(), offset), ACE_ERROR_INTERIOR);  // in the current slab
  }
  void *mid = fill(1, 20'000)[0];
  for (ptrdiff_t offset : {ptrdiff_t{1}, ptrdiff_t{16}, ptrdiff_t{kPage}, ptrdiff_t{2 * kPage + 8}}) {
    expect_refused(at(mid, offset), ACE_ERROR_INTERIOR);
  }
  void *large = fill(1, 1'500'000)[0];
  for (ptrdiff_t offset : {1, 16, 4096, 1'000'000, -16}) expect_refused(at(large, offset), ACE_ERROR_INTERIOR);
  EXPECT_EQ(misuse.last().block, nullptr) << "its head is no part of it";
  // Of which the address map holds the beginning alone.
  large = fill(1, 500'000'000)[0];
  for (ptrdiff_t offset : {16, 4'000'000, 499'999'999}) expect_refused(at(large, offset), ACE_ERROR_INTERIOR);
  EXPECT_EQ(ace_heap_try_free(heap, at(large, 4'000'000)), 0);
  expect_refused(at(large, static_cast<ptrdiff_t>(ace_usable_size(large))), ACE_ERROR_FOREIGN);
}

TEST_F(Gate, AnErrorTellsTheKindGroup) {
  make(3);
  ace_heap_free(heap, at(ace_heap_alloc_kind(heap, 64, 2), 16));
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_INTERIOR});
  EXPECT_EQ(misuse.last().kind_group, 2u);
}

TEST_F(Gate, InteriorPointersOfClassesThatAreNoPowersOfTwo) {
  for (size_t size : {size_t{48}, size_t{80}, size_t{112}, size_t{1792}, size_t{7168}}) {
    void *p = fill(3, size)[1];
    expect_refused(at(p, 16), ACE_ERROR_INTERIOR);
    expect_refused(at(p, static_cast<ptrdiff_t>(size) - 16), ACE_ERROR_INTERIOR);
  }
}

TEST_F(Gate, WhereNoBlockWasEverHandedOut) {
  void *tiny = fill(1, 48)[0];
  Superslab *superslab = superslab_of(tiny);
  const unsigned blocks = blocks_per_slab(class_of(48));
  std::byte *slab = superslab->slab(slab_index_of(tiny));
  ASSERT_LE(blocks * 48 + 16, kSlabSize);
  expect_refused(slab + blocks * 48, ACE_ERROR_NOT_ALLOCATED);                       // the slab's tail
  expect_refused(superslab, ACE_ERROR_NOT_ALLOCATED);                                // the head itself
  expect_refused(superslab->free_bits, ACE_ERROR_NOT_ALLOCATED);                     // the bitmap
  expect_refused(heap, ACE_ERROR_NOT_ALLOCATED);                                     // the heap
  expect_refused(superslab->slab(kSlabsPerSuperslab - 1), ACE_ERROR_NOT_ALLOCATED);  // a slab never assigned
  void *mid = fill(1, 20'000)[0];
  expect_refused(superslab_of(mid), ACE_ERROR_NOT_ALLOCATED);
  expect_refused(&superslab_of(mid)->mid(), ACE_ERROR_NOT_ALLOCATED);
}

TEST_F(Gate, BlocksOfASlabThatAreStillInTheBitmap) {
  void *p = fill(1, 64)[0];
  // Never handed out, and its page not even carved: free all the same.
  expect_refused(at(p, 3 * kPage), ACE_ERROR_DOUBLE_FREE);
}

TEST_F(Gate, ForeignPointers) {
  int local = 0;
  void *from_libc = malloc(100);
  for (void *p : std::array<void *, 5>{&local, &g_global, from_libc, reinterpret_cast<void *>(16),
                                       reinterpret_cast<void *>(UINTPTR_MAX - 63)}) {
    expect_refused(p, ACE_ERROR_FOREIGN);
    EXPECT_EQ(misuse.last().owner, nullptr);
    EXPECT_EQ(misuse.last().block_size, 0u);
    EXPECT_EQ(ace_owner_of(p), nullptr);
  }
  free(from_libc);
}

TEST_F(Gate, AddressesThatNoProcessHas) {
  // Not canonical: reading them would be a fault.
  expect_refused(reinterpret_cast<void *>(uintptr_t{1} << 62), ACE_ERROR_FOREIGN);
  expect_refused(reinterpret_cast<void *>((uintptr_t{1} << 47) + 64), ACE_ERROR_FOREIGN);
}

TEST_F(Gate, BlocksOfADestroyedHeap) {
  ace_heap *other = ace_heap_create(nullptr);
  void *tiny = ace_heap_alloc(other, 64), *mid = ace_heap_alloc(other, 20'000),
       *large = ace_heap_alloc(other, 2'000'000);
  ace_heap_destroy(other);
  for (void *p : {tiny, mid, large}) expect_refused(p, ACE_ERROR_FOREIGN);
}

TEST_F(Gate, NullIsIgnored) {
  ace_heap_free(heap, nullptr);
  ace_heap_free_sized(heap, nullptr, 10);
  ace_free(nullptr);
  ace_free_sized(nullptr, 10);
  EXPECT_EQ(ace_usable_size(nullptr), 0u);
  EXPECT_EQ(ace_owner_of(nullptr), nullptr);
  EXPECT_EQ(ace_heap_try_free(heap, nullptr), 1);
  EXPECT_TRUE(misuse.take().empty());
}

TEST_F(Gate, SizesThatCannotBelongToTheBlock) {
  const struct {
    size_t size, wrong;
  } cases[] = {{64, 65},     {64, 8192},       {64, 100'000},       {64, SIZE_MAX},
               {8192, 8193}, {20'000, 20'481}, {20'000, 2'000'000}, {2'000'000, 2'003'000}};
  for (const auto &[size, wrong] : cases) {
    for (bool is_current : {true, false}) {
      void *p = fill(1, size)[0];
      if (!is_current) retire_all(*heap);
      ace_heap_free_sized(heap, p, wrong);
      EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_SIZE_MISMATCH}) << wrong << " for " << size;
      EXPECT_EQ(misuse.last().block_size, ace_usable_size(p));
      EXPECT_EQ(test::audit(heap), "");
      ace_heap_free_sized(heap, p, size);
      EXPECT_TRUE(misuse.take().empty());
    }
  }
  EXPECT_EQ(stats().live_blocks, 0u);
}

TEST_F(Gate, SizesOfAShrunkBlockAreRight) {
  void *p = fill(1, 64)[0];
  ASSERT_EQ(ace_heap_realloc(heap, p, 48, 0), p);
  ace_heap_free_sized(heap, p, 48);
  void *q = fill(1, 20'000)[0];
  ace_heap_free_sized(heap, q, 10'000);
  EXPECT_TRUE(misuse.take().empty());
  EXPECT_EQ(stats().live_blocks, 0u);
}

// The system may give others what a large block's mapping leaves of its last 2 MiB.
TEST_F(Gate, WhatLiesBehindALargeBlockIsForeign) {
  auto *block = static_cast<std::byte *>(ace_heap_alloc(heap, 600 << 10));
  auto *start = reinterpret_cast<std::byte *>(superslab_of(block));
  std::byte *behind = start + superslab_of(block)->head.mapped;
  ASSERT_LT(behind, start + kSuperslabSize);
  void *result = nullptr;
  for (std::byte *p : {behind, behind + 16, start + kSuperslabSize - 16}) {
    EXPECT_EQ(ace_heap_try_free(heap, p), 0);
    EXPECT_EQ(ace_heap_try_realloc(heap, p, 10, 0, &result), 0);
    EXPECT_EQ(ace_owner_of(p), nullptr);
  }
  EXPECT_TRUE(misuse.take().empty());
  EXPECT_EQ(ace_owner_of(block), heap);
  ace_heap_free(heap, behind);
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_FOREIGN});
  EXPECT_EQ(ace_heap_try_free(heap, block), 1);
  EXPECT_EQ(ace_heap_try_free(heap, behind), 0);  // kept for the next
}

TEST_F(Gate, TryFunctionsLeaveForeignPointersAlone) {
  int local = 0;
  void *result = &local;
  EXPECT_EQ(ace_heap_try_free(heap, &local), 0);
  EXPECT_EQ(ace_heap_try_realloc(heap, &local, 10, 0, &result), 0);
  EXPECT_EQ(result, &local);
  EXPECT_TRUE(misuse.take().empty());
  EXPECT_EQ(stats().foreign_pointers, 2u);
  void *p = fill(1, 64)[0];
  EXPECT_EQ(ace_heap_try_realloc(heap, p, 1000, 0, &result), 1);
  EXPECT_GE(ace_usable_size(result), 1000u);
  EXPECT_EQ(ace_heap_try_free(heap, result), 1);
  EXPECT_EQ(ace_heap_try_realloc(heap, nullptr, 1000, 0, &result), 1);
  EXPECT_NE(result, nullptr);
  EXPECT_EQ(stats().foreign_pointers, 2u);
  EXPECT_EQ(ace_heap_try_free(heap, at(result, 16)), 1);
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_INTERIOR});
}

using GateDeathTest = Gate;

TEST_F(GateDeathTest, TheDefaultPrintsAndAborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  int local = 0;
  ace_set_error_handler(nullptr, nullptr);
  void *p = ace_heap_alloc(heap, 64);
  EXPECT_DEATH(ace_heap_free(heap, at(p, 8)),
               "ace: free\\(0x[0-9a-f]+\\): .*start of a block; block size 64, live, 8 bytes from its start, "
               "heap \"test\"");
  EXPECT_DEATH(ace_free(&local), "ace: free\\(0x[0-9a-f]+\\): .*not from this allocator");
  EXPECT_DEATH(ace_heap_free_sized(heap, p, 100), "cannot belong to the block");
  EXPECT_DEATH((ace_heap_free(heap, p), ace_heap_free(heap, p)), "is free already");
}

TEST_F(GateDeathTest, ReportPrintsAndGoesOn) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  ace_set_error_handler(nullptr, nullptr);
  OptionGuard report("bad_pointer", "report");
  EXPECT_EXIT(
      {
        ace_heap_free(heap, heap);
        exit(test::audit(heap).empty() ? 0 : 1);
      },
      testing::ExitedWithCode(0), "no block was ever handed out");
}

}  // namespace
}  // namespace ace
