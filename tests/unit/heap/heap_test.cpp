// The heap as a whole: its limit, its walk, its end.
#include "heap/heap.h"

#include <algorithm>
#include <set>

#include "heap/address_map.h"
#include "heap/walk.h"
#include "unit/fake_os.h"
#include "unit/heap_test.h"

namespace ace {
namespace {

using test::HeapTest;

constexpr size_t kMiB = size_t{1} << 20;

class Limit : public HeapTest {
 protected:
  std::vector<void *> fill_up(size_t size) {
    std::vector<void *> blocks;
    while (void *block = ace_heap_alloc(heap, size)) {
      blocks.push_back(block);
      if (blocks.size() > 100'000) break;
    }
    return blocks;
  }
};

TEST_F(Limit, HoldsInEveryPool) {
  for (size_t size : {size_t{64}, size_t{8192}, size_t{20'000}, size_t{600'000}}) {
    make(0, 4 * kMiB);
    auto blocks = fill_up(size);
    EXPECT_GT(blocks.size() * size, 5 * kMiB / 2) << size;
    EXPECT_LE(stats().resident_bytes, 4 * kMiB) << size;
    EXPECT_GE(stats().limit_failures, 1u) << size;
    EXPECT_EQ(test::audit(heap), "") << size;
    ace_heap_free(heap, blocks.back());
    EXPECT_NE(ace_heap_alloc(heap, size), nullptr) << size;
  }
}

TEST_F(Limit, LastHolesAreUsedBeforeItRefuses) {
  make(0, kMiB);
  auto blocks = fill_up(64);
  for (size_t i = 0; i < blocks.size(); i += 1000) ace_heap_free(heap, blocks[i]);  // too few to be offered
  for (size_t i = 0; i < blocks.size(); i += 1000) EXPECT_NE(ace_heap_alloc(heap, 64), nullptr) << i;
  EXPECT_EQ(ace_heap_alloc(heap, 64), nullptr);
}

// What is missing to a limit between two pages is a page that must go back.
TEST_F(Limit, NeedNotBeAMultipleOfThePage) {
  std::vector<void *> blocks(100'000);
  for (size_t more : {0, 1, 1000, 2000, 3000, 4000, 4095}) {
    for (size_t size : {20'000, 100'000, 600'000}) {
      make(0, 0);
      for (void *&block : blocks) block = ace_heap_alloc(heap, 64);
      for (void *block : blocks) ace_heap_free(heap, block);
      ace_heap_set_limit(heap, 4 * kMiB + more);
      EXPECT_NE(ace_heap_alloc(heap, size), nullptr) << size << " at " << more;
    }
  }
}

TEST_F(Limit, MayBeChanged) {
  EXPECT_EQ(ace_heap_set_limit(heap, kMiB), 0u);
  fill_up(64);
  EXPECT_EQ(ace_heap_set_limit(heap, 2 * kMiB), kMiB);
  EXPECT_NE(ace_heap_alloc(heap, 64), nullptr);
  EXPECT_EQ(stats().limit_bytes, 2 * kMiB);
  // Below what is in use: nothing is freed, the next growth fails.
  ace_heap_set_limit(heap, kPage);
  EXPECT_EQ(ace_heap_alloc(heap, 20'000), nullptr);
  EXPECT_GT(stats().resident_bytes, kPage);
  ace_heap_set_limit(heap, 0);
  EXPECT_NE(ace_heap_alloc(heap, 20'000), nullptr);
}

TEST_F(Limit, ShrinkingNeverFails) {
  make(0, 4 * kMiB);
  void *block = ace_heap_alloc(heap, 3 * kMiB);
  ASSERT_NE(block, nullptr);
  memset(block, 0x5c, 3 * kMiB);
  ace_heap_set_limit(heap, kPage);
  for (size_t size : {2 * kMiB, kMiB, size_t{100'000}, size_t{5000}, size_t{100}, size_t{1}}) {
    block = ace_heap_realloc(heap, block, size, 0);
    ASSERT_NE(block, nullptr) << size;
    for (size_t i = 0; i < size; i += 97) ASSERT_EQ(static_cast<unsigned char *>(block)[i], 0x5c);
  }
}

// What a callback was told, and what it does.
struct Callback {
  int calls = 0, answer = 0;
  size_t missing = 0;
  std::vector<void *> to_free;
  bool collects = false, allocates = false;
  void *got = nullptr;

  static int call(ace_heap *heap, size_t missing, void *context) {
    auto &self = *static_cast<Callback *>(context);
    ++self.calls;
    self.missing = missing;
    for (void *block : self.to_free) ace_heap_free(heap, block);
    self.to_free.clear();
    if (self.collects) ace_hint(heap, ACE_HINT_PRESSURE, 0);
    if (self.allocates) self.got = ace_heap_alloc(heap, 64);
    return self.answer;
  }
};

TEST_F(Limit, ACallbackThatSaysNo) {
  Callback callback;
  make(0, kMiB, Callback::call, &callback);
  fill_up(64);
  EXPECT_EQ(callback.calls, 1);
  EXPECT_GE(callback.missing, 1u);
  EXPECT_LE(callback.missing, kPage);
  EXPECT_EQ(stats().limit_callbacks, 1u);
}

TEST_F(Limit, ACallbackThatMakesRoomInEachPool) {
  for (size_t size : {size_t{64}, size_t{1024}, size_t{20'000}, size_t{600'000}}) {
    Callback callback;
    make(0, 4 * kMiB, Callback::call, &callback);
    std::vector<void *> blocks = fill_up(size);
    const int calls = callback.calls;
    callback.answer = 1;
    callback.collects = true;
    callback.to_free = blocks;
    EXPECT_NE(ace_heap_alloc(heap, size), nullptr) << size;
    EXPECT_EQ(callback.calls, calls + 1) << size;
    EXPECT_EQ(stats().live_blocks, 1u) << size;
    EXPECT_EQ(test::audit(heap), "") << size;
  }
}

TEST_F(Limit, WhatACallbackFreesOfOtherSizesMakesRoomToo) {
  Callback callback;
  make(0, kMiB, Callback::call, &callback);
  callback.to_free = fill_up(64);
  callback.answer = 1;
  const int calls = callback.calls;
  EXPECT_NE(ace_heap_alloc(heap, 100'000), nullptr);
  EXPECT_EQ(callback.calls, calls + 1);
  EXPECT_LE(stats().resident_bytes, kMiB);
}

TEST_F(Limit, ACallbackThatLiesIsAskedOnce) {
  Callback callback;
  callback.answer = 1;
  make(0, kMiB, Callback::call, &callback);
  auto blocks = fill_up(64);
  const int calls = callback.calls;
  EXPECT_EQ(ace_heap_alloc(heap, 100'000), nullptr);
  EXPECT_EQ(callback.calls, calls + 1);
  EXPECT_EQ(callback.missing > 90'000, true);
}

TEST_F(Limit, ACallbackThatAllocatesIsNotAskedWithinItself) {
  Callback callback;
  make(0, kMiB, Callback::call, &callback);
  auto blocks = fill_up(64);
  callback.allocates = true;
  callback.answer = 1;
  callback.to_free.assign(blocks.begin(), blocks.begin() + 10);
  const int calls = callback.calls;
  EXPECT_NE(ace_heap_alloc(heap, 64), nullptr);
  EXPECT_NE(callback.got, nullptr);
  EXPECT_EQ(callback.calls, calls + 1);
}

// A collector that shrinks what lives on must not be called by that once more.
TEST_F(Limit, AShrinkingBlockAsksNobody) {
  for (uint32_t flags : {0u, uint32_t{ACE_HEAP_HARDENED}}) {
    for (size_t size : {size_t{1000}, size_t{10'000}, size_t{100'000}, size_t{600'000}}) {
      Callback callback;
      make(0, 4 * kMiB, Callback::call, &callback, ACE_HEAP_NO_WORKER | flags);
      const std::vector<void *> blocks = fill_up(size);
      const int calls = callback.calls;
      for (void *block : blocks) EXPECT_NE(ace_heap_realloc(heap, block, size / 3, 0), nullptr);
      EXPECT_EQ(callback.calls, calls) << size;
      EXPECT_EQ(ace_heap_alloc(heap, 4 * kMiB), nullptr);
      EXPECT_EQ(callback.calls, calls + 1) << "others ask as before";
    }
  }
}

// Hosts audit after each collection, and may collect here.
TEST_F(Limit, AHeapIsSoundWhileItsHostIsAsked) {
  for (uint32_t flags : {0u, uint32_t{ACE_HEAP_HARDENED}}) {
    for (size_t size : {size_t{64}, size_t{1024}, size_t{20'000}, size_t{600'000}}) {
      std::string found = "it was not asked";
      const auto look = [](ace_heap *full, size_t, void *context) {
        *static_cast<std::string *>(context) = test::audit(full);
        return 0;
      };
      make(0, 4 * kMiB, look, &found, ACE_HEAP_NO_WORKER | flags);
      fill_up(size);
      EXPECT_EQ(found, "") << size;
    }
  }
}

using HeapTotals = HeapTest;

TEST_F(HeapTotals, AllThatLivesIsCountedWithTheListsOfEachKind) {
  make(3);
  for (size_t size : {size_t{64}, size_t{1000}, size_t{20'000}, size_t{2'000'000}}) {
    for (unsigned kind : {0u, 1u, 2u}) fill(3, size, kind);
  }
  ace_stats shared;
  ASSERT_EQ(ace_heap_stats_shared(heap, &shared, sizeof shared), 0);
  EXPECT_GT(shared.live_bytes, 3 * 3 * 2'021'000u);
  EXPECT_EQ(live_bytes_bound(*heap), shared.live_bytes);
}

using HeapWalk = HeapTest;

TEST_F(HeapWalk, SeesEveryLiveBlockOnce) {
  make(2);
  std::set<std::pair<void *, size_t>> expected;
  for (size_t size :
       {size_t{16}, size_t{100}, size_t{8192}, size_t{9000}, size_t{300'000}, size_t{3'000'000}}) {
    for (unsigned kind : {0u, 1u}) {
      auto blocks = fill(10, size, kind);
      for (size_t i = 0; i < blocks.size(); ++i) {
        if (i % 3 == 0) {
          ace_heap_free(heap, blocks[i]);
        } else {
          expected.insert({blocks[i], ace_usable_size(blocks[i])});
        }
      }
    }
  }
  std::set<std::pair<void *, size_t>> seen;
  for (const test::Seen &s : test::walk(heap)) EXPECT_TRUE(seen.insert({s.block, s.usable}).second);
  EXPECT_EQ(seen, expected);
}

TEST_F(HeapWalk, StopsWithTheVisitorsAnswer) {
  fill(10, 64);
  int visits = 0;
  auto visit = [](void *, size_t, ace_kind, void *context) {
    return ++*static_cast<int *>(context) == 3 ? 42 : 0;
  };
  EXPECT_EQ(ace_heap_walk(heap, visit, &visits), 42);
  EXPECT_EQ(visits, 3);
}

TEST_F(HeapWalk, InPiecesItSeesTheSameInOrder) {
  fill(100'000, 64);
  fill(300, 20'000);
  auto large = fill(3, 3'000'000);
  std::vector<void *> pieces;
  auto visit = [](void *block, size_t, ace_kind, void *context) {
    static_cast<std::vector<void *> *>(context)->push_back(block);
    return 0;
  };
  uintptr_t position = 0;
  unsigned calls = 0;
  while (ace_heap_walk_next(heap, &position, visit, &pieces) != 0) ++calls;
  EXPECT_GE(calls, 4u + 3 + 3);
  EXPECT_TRUE(std::is_sorted(pieces.begin(), pieces.end()));
  std::set<void *> all;
  for (const test::Seen &s : test::walk(heap)) all.insert(s.block);
  EXPECT_EQ(std::set<void *>(pieces.begin(), pieces.end()), all);
  EXPECT_EQ(pieces.size(), all.size());

  // Areas that come and go meanwhile are no trouble.
  position = 0;
  pieces.clear();
  while (ace_heap_walk_next(heap, &position, visit, &pieces) != 0) {
    if (!large.empty()) ace_heap_free(heap, large.back());
    if (!large.empty()) large.pop_back();
  }
  EXPECT_GE(pieces.size(), 100'300u);
}

TEST(HeapEnd, TakesAllBlocksAlong) {
  ace_heap *heap = ace_heap_create(nullptr);
  void *tiny = ace_heap_alloc(heap, 10), *mid = ace_heap_alloc(heap, 10'000),
       *large = ace_heap_alloc(heap, kMiB);
  for (void *p : {tiny, mid, large}) EXPECT_EQ(ace_owner_of(p), heap);
  ace_heap_destroy(heap);
  for (void *p : {tiny, mid, large}) EXPECT_EQ(ace_owner_of(p), nullptr);
}

TEST(HeapStart, WithoutMemoryThereIsNone) {
  test::FakeOs fake;
  fake.fail_always(test::OsCall::kMap);
  std::vector<ace_heap *> heaps;
  while (ace_heap *heap = ace_heap_create(nullptr)) heaps.push_back(heap);
  for (ace_heap *heap : heaps) ace_heap_destroy(heap);
  fake.fail_never();
}

}  // namespace
}  // namespace ace
