// Hardened heaps. What they report is in tests/corruption; here is what they must do besides.
#include <sys/mman.h>

#include <algorithm>
#include <set>
#include <thread>

#include "front/gate.h"
#include "heap/remote.h"
#include "heap/scatter.h"
#include "unit/fake_os.h"
#include "unit/heap_test.h"
#include "unit/superslab_pool.h"

namespace ace {
namespace {

using namespace test;

class HardenedTest : public HeapTest {
 protected:
  HardenedTest() {
    make(0, 0, nullptr, nullptr, ACE_HEAP_NO_WORKER | ACE_HEAP_HARDENED);
    // By AddressSanitizer, which would see what is done to free memory here.
    if (std::exchange(heap->is_watched, false)) open_memory(heap->home->slab(1), kSuperslabSize - kSlabSize);
  }
  MisuseLog misuse;
};

constexpr size_t kSizes[] = {0,   1,    7,     8,     9,     24,     40,     100,    248,
                             249, 1000, 16376, 16377, 20000, 500000, 524280, 524281, 3000000};

TEST_F(HardenedTest, BlocksAreAsLongAsTheyWereAskedFor) {
  for (size_t size : kSizes) {
    void *p = ace_heap_alloc(heap, size);
    ASSERT_NE(p, nullptr);
    EXPECT_EQ(ace_usable_size(p), size);
    memset(p, 0xff, size);
    EXPECT_EQ(audit(heap), "");
    const std::vector<Seen> seen = walk(heap);
    ASSERT_EQ(seen.size(), 1u);
    EXPECT_EQ(seen[0].usable, size);
    ace_heap_free_sized(heap, p, size);
  }
  EXPECT_EQ(stats().live_blocks, 0u);
  EXPECT_TRUE(misuse.take().empty());
}

TEST_F(HardenedTest, AlignedAndZeroedBlocks) {
  for (size_t alignment = 16; alignment <= ACE_ALIGNMENT_MAX; alignment *= 4) {
    for (size_t size : kSizes) {
      void *p = ace_heap_aligned_alloc(heap, alignment, size, 0);
      ASSERT_NE(p, nullptr);
      EXPECT_EQ(address_of(p) % alignment, 0u);
      EXPECT_EQ(ace_usable_size(p), size);
      memset(p, 0xff, size);
      ace_heap_free(heap, p);
      auto *zeroed = static_cast<unsigned char *>(ace_heap_calloc(heap, 1, size, 0));
      ASSERT_NE(zeroed, nullptr);
      EXPECT_EQ(std::count(zeroed, zeroed + size, 0), static_cast<ptrdiff_t>(size));
      ace_heap_free(heap, zeroed);
    }
  }
  EXPECT_TRUE(misuse.take().empty());
}

TEST_F(HardenedTest, WhatNoSystemHasIsRefused) {
  auto *p = static_cast<unsigned char *>(ace_heap_alloc(heap, (1 << 20) - kSeal));
  memset(p, 0x5a, 100);
  // A number of pages that does not fit into 32 bits, and whose lower bits are the block's own.
  EXPECT_EQ(ace_heap_realloc(heap, p, (size_t{1} << 44) + (1 << 20) - kSeal, 0), nullptr);
  EXPECT_EQ(std::count(p, p + 100, 0x5a), 100);
  ace_heap_free(heap, p);
  EXPECT_TRUE(misuse.take().empty());
}

TEST_F(HardenedTest, ResizedBlocksKeepTheirContents) {
  for (size_t from : kSizes) {
    for (size_t to : kSizes) {
      auto *p = static_cast<unsigned char *>(ace_heap_alloc(heap, from));
      memset(p, 0x5a, from);
      p = static_cast<unsigned char *>(ace_heap_realloc(heap, p, to, 0));
      ASSERT_NE(p, nullptr);
      EXPECT_EQ(ace_usable_size(p), to);
      const size_t kept = std::min(from, to);
      EXPECT_EQ(std::count(p, p + kept, 0x5a), static_cast<ptrdiff_t>(kept)) << from << " to " << to;
      memset(p, 0x66, to);
      ace_heap_free_sized(heap, p, to);
      EXPECT_EQ(audit(heap), "") << from << " to " << to;
    }
  }
  EXPECT_TRUE(misuse.take().empty());
}

TEST_F(HardenedTest, FreedBlocksAreZero) {
  auto *p = static_cast<unsigned char *>(ace_heap_alloc(heap, 200));
  memset(p, 0xff, 200);
  ace_heap_free(heap, p);
  EXPECT_EQ(std::count(p, p + 200, 0), 200);
}

TEST_F(HardenedTest, AFreeTakesNoMemory) {
  if (os().page_size != kPage) GTEST_SKIP() << "pages here are larger than those that are wiped";
  auto *p = static_cast<char *>(ace_heap_alloc(heap, 300000));
  ASSERT_NE(p, nullptr);
  p[0] = p[250000] = 1;
  ace_heap_free(heap, p);
  std::vector<unsigned char> resident(300000 / kPage + 1);
  ASSERT_EQ(mincore(p, 300000, resident.data()), 0);
  EXPECT_EQ(std::count(resident.begin(), resident.end(), 0), static_cast<ptrdiff_t>(resident.size()));
  EXPECT_EQ(audit(heap), "");
  auto *again = static_cast<char *>(ace_heap_calloc(heap, 1, 300000, 0));
  EXPECT_EQ(std::count(again, again + 300000, 0), 300000);
  EXPECT_TRUE(misuse.take().empty());
}

TEST_F(HardenedTest, AFreedBlockRestsUntilTheRestOfItsSlabWasIssued) {
  void *p = ace_heap_alloc(heap, 100);
  void *other = ace_heap_alloc(heap, 100);
  ace_heap_free(heap, p);
  const unsigned capacity = blocks_per_slab(class_of(100 + kSeal));
  std::vector<void *> blocks = fill(capacity - 2, 100);
  EXPECT_EQ(std::count(blocks.begin(), blocks.end(), p), 0);
  free_all(blocks);
  ace_heap_free(heap, other);
}

TEST_F(HardenedTest, WhereABlockComesToLieIsNotForeseen) {
  std::set<size_t> places;
  for (int i = 0; i < 64; ++i) {
    make(0, 0, nullptr, nullptr, ACE_HEAP_NO_WORKER | ACE_HEAP_HARDENED);
    places.insert(address_of(ace_heap_alloc(heap, 24)) % kSlabSize);
  }
  EXPECT_GT(places.size(), 16u);  // of 64
  std::vector<void *> blocks = fill(1000, 24);
  EXPECT_EQ(std::set<void *>(blocks.begin(), blocks.end()).size(), blocks.size());
}

TEST_F(HardenedTest, BlocksThatWaitToBeIssuedAreFree) {
  constexpr size_t kSize = 100;
  std::vector<void *> blocks = fill(blocks_per_slab(class_of(kSize + kSeal)), kSize);
  for (void *block : blocks) ace_heap_free(heap, block);
  void *live = ace_heap_alloc(heap, kSize);
  const Bin &bin = heap->bins[class_of(kSize + kSeal)];
  const auto waiting =
      std::find_if(blocks.begin(), blocks.end(), [&](void *p) { return is_scattered(bin, p); });
  ASSERT_NE(waiting, blocks.end());
  EXPECT_EQ(stats().live_blocks, 1u);
  EXPECT_EQ(walk(heap).size(), 1u);
  ace_heap_free(heap, *waiting);
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE});
  ace_heap_free_sized(heap, *waiting, kSize);
  std::thread([&] { ace_free(*waiting); }).join();
  EXPECT_EQ(ace_heap_realloc(heap, *waiting, 200, 0), nullptr);
  EXPECT_EQ(ace_usable_size(*waiting), 0u);
  EXPECT_EQ(misuse.take(), std::vector<int>(4, ACE_ERROR_DOUBLE_FREE));
  // Of two threads that free it in one moment the other has looked before.
  const Route way = route(*waiting);
  ASSERT_TRUE(free_remote_tiny(*way.row, way.index));
  drain_remote_frees(*heap);
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE});
  EXPECT_EQ(audit(heap), "");
  ace_trim(heap, SIZE_MAX);  // they go back to the bitmap
  EXPECT_EQ(list_length(*heap, bin), 0u);
  EXPECT_EQ(stats().live_blocks, 1u);
  EXPECT_EQ(audit(heap), "");
  ace_heap_free(heap, live);
}

TEST_F(HardenedTest, ZeroesBehindABlockAreNoSecondFree) {
  for (size_t size : {size_t{40}, size_t{41}, size_t{20000}}) {
    auto *p = static_cast<unsigned char *>(ace_heap_alloc(heap, size));
    memset(p, 0, size);
    const std::vector<unsigned char> behind(p + size, p + route(p).size);
    std::fill_n(p + size, behind.size(), 0);
    ace_heap_free(heap, p);
    EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_OVERFLOW});
    std::copy(behind.begin(), behind.end(), p + size);
    ace_heap_free(heap, p);
    EXPECT_TRUE(misuse.take().empty());
  }
}

TEST_F(HardenedTest, ABlockThatGrowsShowsNothingOfItsKey) {
  const size_t from_to[][2] = {{48, 56},       {1, 8},         {1000, 1016},
                               {20000, 20472}, {20472, 40000}, {600000, 700000}};
  for (auto [from, to] : from_to) {
    auto *p = static_cast<unsigned char *>(ace_heap_alloc(heap, from));
    memset(p, 0xff, from);
    p = static_cast<unsigned char *>(ace_heap_realloc(heap, p, to, 0));
    EXPECT_EQ(std::count(p + from, p + to, 0), static_cast<ptrdiff_t>(to - from)) << from;
    ace_heap_free_sized(heap, p, to);
  }
  EXPECT_TRUE(misuse.take().empty());
}

TEST_F(HardenedTest, PagesThatWentBackAreAsGoodAsFreeOnes) {
  for (size_t size : {size_t{40}, size_t{3000}, size_t{60000}}) {
    std::vector<void *> blocks = fill(200, size);
    void *survivor = blocks.back();
    blocks.pop_back();
    free_all(blocks);
    EXPECT_GT(ace_trim(heap, SIZE_MAX), 0u);
    EXPECT_EQ(audit(heap), "");
    blocks = fill(200, size);
    free_all(blocks);
    ace_heap_free(heap, survivor);
  }
  EXPECT_TRUE(misuse.take().empty());
}

TEST_F(HardenedTest, WhatWasWrittenToFreeMemoryIsInNoNewBlock) {
  for (size_t size : {size_t{40}, size_t{60000}}) {
    auto *p = static_cast<unsigned char *>(ace_heap_alloc(heap, size));
    ace_heap_free(heap, p);
    p[20] = 0xff;
    // Its slab, of which all was free meanwhile, has its turn again in one of the rounds.
    const size_t count = size < 1000 ? 2000 : 20;
    std::vector<int> errors;
    for (int round = 0; round < 8 && errors.empty(); ++round) {
      std::vector<void *> blocks;
      for (size_t i = 0; i < count; ++i) blocks.push_back(ace_heap_alloc(heap, size));
      for (int error : misuse.take()) errors.push_back(error);
      free_all(blocks);
    }
    EXPECT_EQ(errors, std::vector<int>{ACE_ERROR_WRITE_AFTER_FREE});
    EXPECT_EQ(misuse.last().owner, heap);
    EXPECT_EQ(misuse.last().pointer, p);
    EXPECT_EQ(misuse.last().state, ACE_BLOCK_FREE);
    EXPECT_EQ(p[20], 0);
  }
}

TEST_F(HardenedTest, ARefusedRunLeavesNoBlameToTheNextBlock) {
  auto *p = static_cast<unsigned char *>(ace_heap_alloc(heap, 60000));
  ace_heap_free(heap, p);
  p[20] = 0xff;
  ace_heap_set_limit(heap, stats().resident_bytes);
  EXPECT_EQ(ace_heap_alloc(heap, 400000), nullptr);  // p's pages and more
  ace_heap_set_limit(heap, 0);
  void *innocent = ace_heap_alloc(heap, 3000000);
  EXPECT_TRUE(misuse.take().empty());
  ace_heap_free(heap, innocent);
}

TEST_F(HardenedTest, AnErrorTellsWhatIsKnown) {
  auto *p = static_cast<unsigned char *>(ace_heap_alloc(heap, 41));
  p[41] ^= 1;
  ace_heap_free(heap, p);
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_OVERFLOW});
  EXPECT_NE(audit(heap), "");
  p[41] ^= 1;
  ace_heap_free(heap, p + 8);
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_INTERIOR});
  const ace_error &error = misuse.last();
  EXPECT_EQ(error.block, p);
  EXPECT_EQ(error.offset, 8u);
  EXPECT_EQ(error.asked_size, 41u);
  EXPECT_EQ(error.block_size, 64u);
  EXPECT_EQ(error.state, ACE_BLOCK_LIVE);
  ace_heap_free_sized(heap, p, 40);
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_SIZE_MISMATCH});
  ace_heap_free_sized(heap, p, 41);
  EXPECT_TRUE(misuse.take().empty());
}

TEST_F(HardenedTest, PlainAndHardenedHeapsFreeAndResizeEachOthersBlocks) {
  ace_heap *plain = ace_heap_create(nullptr);
  ASSERT_NE(plain, nullptr);
  for (size_t size : {size_t{40}, size_t{60000}, size_t{3000000}}) {
    void *p = ace_heap_realloc(plain, ace_heap_alloc(heap, size), size / 2, 0);
    EXPECT_EQ(ace_owner_of(p), plain);
    ace_heap_free(heap, p);
    p = ace_heap_realloc(heap, ace_heap_alloc(plain, size), size / 2, 0);
    EXPECT_EQ(ace_usable_size(p), size / 2);
    ace_heap_free(plain, p);
  }
  ace_trim(heap, SIZE_MAX);
  ace_trim(plain, SIZE_MAX);
  EXPECT_EQ(stats().live_blocks, 0u);
  EXPECT_EQ(audit(plain), "");
  ace_heap_destroy(plain);
  EXPECT_TRUE(misuse.take().empty());
}

TEST_F(HardenedTest, WithoutGuardPagesItGoesOn) {
  FakeOs fake;
  fake.fail_always(OsCall::kGuard);
  make(0, 0, nullptr, nullptr, ACE_HEAP_NO_WORKER | ACE_HEAP_HARDENED);
  std::vector<void *> blocks = fill(3, 3000000);
  blocks.push_back(ace_heap_realloc(heap, nullptr, 50000, 0));
  free_all(blocks);
  EXPECT_EQ(audit(heap), "");
  ace_heap_destroy(heap);
  heap = nullptr;
}

TEST_F(HardenedTest, LimitsHold) {
  ace_heap_set_limit(heap, 2 << 20);
  std::vector<void *> blocks;
  while (void *p = ace_heap_alloc(heap, 1000)) blocks.push_back(p);
  EXPECT_LE(stats().resident_bytes, 2u << 20);
  EXPECT_GT(blocks.size(), 1000u);
  EXPECT_NE(ace_heap_realloc(heap, blocks.back(), 10, 0), nullptr);  // shrinking never fails
  blocks.pop_back();
  free_all(blocks);
}

TEST_F(HardenedTest, WhereThereIsNoMemoryAShrunkBlockStaysAndHasItsNewSize) {
  void *p = ace_heap_alloc(heap, 60000);
  ace_heap_set_limit(heap, 1);
  EXPECT_EQ(ace_heap_realloc(heap, p, 100, 0), p);
  EXPECT_EQ(ace_usable_size(p), 100u);
  ace_heap_free_sized(heap, p, 100);
  EXPECT_TRUE(misuse.take().empty());
}

TEST_F(HardenedTest, AResizedBlockKeepsItsKindGroup) {
  make(4, 0, nullptr, nullptr, ACE_HEAP_NO_WORKER | ACE_HEAP_HARDENED);
  EXPECT_NE(ace_heap_realloc(heap, ace_heap_alloc_kind(heap, 64, 2), 1000, 0), nullptr);
  EXPECT_EQ(stats().kind_live_blocks[2], 1u);
  EXPECT_EQ(stats().kind_live_blocks[0], 0u);
}

TEST_F(HardenedTest, WhatIsTakenIsCounted) {
  fill(1000, 24);
  EXPECT_GE(stats().taken_bytes, 1000 * 32u);
  EXPECT_GE(stats().carves, 1000 * 32 / kBytesPerWord);
}

TEST(Hardened, OfABlockThatMovesNoPageStaysMapped) {
  FakeOs fake;
  empty_superslab_pool(fake);
  const int64_t before = fake.mapped();
  OptionGuard guard("hardened", "on");
  ace_heap_config config{};
  config.struct_size = sizeof config;
  config.flags = ACE_HEAP_NO_WORKER;
  ace_heap *heap = ace_heap_create(&config);
  void *p = ace_heap_realloc(heap, ace_heap_alloc(heap, 1 << 20), 3 << 20, 0);
  fake.fail(OsCall::kMove, 1);
  EXPECT_NE(ace_heap_realloc(heap, p, 6 << 20, 0), nullptr);  // it is copied
  ace_heap_destroy(heap);
  empty_superslab_pool(fake);
  EXPECT_EQ(fake.mapped(), before);
}

TEST(Hardened, AHeapBeginsInWhatAnotherLeft) {
  FakeOs fake;
  OptionGuard guard("hardened", "on");
  ace_heap_destroy(ace_heap_create(nullptr));
  const uint64_t maps = fake.calls(OsCall::kMap);
  ace_heap_destroy(ace_heap_create(nullptr));
  EXPECT_EQ(fake.calls(OsCall::kMap), maps);
}

TEST(Hardened, TheOptionMakesHeapsSo) {
  OptionGuard guard("hardened", "on");
  MisuseLog misuse;
  ace_heap *heap = ace_heap_create(nullptr);
  ASSERT_NE(heap, nullptr);
  EXPECT_EQ(heap->nature, Nature::kHardened);
  EXPECT_EQ(ace_usable_size(ace_heap_alloc(heap, 5)), 5u);
  ace_heap_destroy(heap);
}

TEST(Hardened, AnEndedHeapGivesNothing) {
  MisuseLog misuse;
  for (uint32_t flags : {0u, uint32_t{ACE_HEAP_HARDENED}}) {
    ace_heap_config config{};
    config.struct_size = sizeof config;
    config.flags = flags | ACE_HEAP_NO_WORKER;
    ace_heap *heap = ace_heap_create(&config);
    void *p = ace_heap_alloc(heap, 100);
    ace_heap *other = ace_heap_create(&config);
    void *of_other = ace_heap_alloc(other, 50'000);
    ace_heap_destroy(heap);
    EXPECT_EQ(ace_heap_alloc(heap, 100), nullptr);
    EXPECT_EQ(ace_heap_alloc(heap, 100000), nullptr);
    for (size_t size : {size_t{100}, size_t{100'000}, size_t{1'000'000}})
      EXPECT_EQ(ace_heap_aligned_alloc(heap, 4096, size, 0), nullptr);
    EXPECT_EQ(misuse.take(), std::vector<int>(5, ACE_ERROR_ENDED_HEAP));
    ace_heap_free(heap, p);
    EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_FOREIGN});
    EXPECT_EQ(ace_heap_realloc(heap, of_other, 100'000, 0), nullptr);
    EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_ENDED_HEAP});
    ace_heap_destroy(other);
    ace_heap_destroy(heap);
    EXPECT_EQ(misuse.take(), (std::vector<int>{ACE_ERROR_ENDED_HEAP}));
  }
}

}  // namespace
}  // namespace ace
