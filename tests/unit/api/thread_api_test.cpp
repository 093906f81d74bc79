// The calling thread's heap: made on first use, left behind and taken up.
#include <barrier>
#include <thread>
#include <vector>

#include "api/thread_heap.h"
#include "heap/all_heaps.h"
#include "heap/remote.h"
#include "unit/heap_test.h"

namespace ace {
namespace {

// Runs f in a thread of its own, to its end.
template <typename F>
void in_thread(F f) {
  std::thread(f).join();
}

TEST(ThreadHeap, IsMadeOnFirstUseAndStays) {
  in_thread([] {
    void *p = ace_alloc(100);
    ace_heap *heap = ace_thread_heap();
    EXPECT_EQ(ace_owner_of(p), heap);
    EXPECT_EQ(ace_thread_heap(), heap);
    EXPECT_STREQ(ace_heap_name(heap), "thread");
    ace_free(p);
    EXPECT_EQ(test::audit(heap), "");
  });
}

TEST(ThreadHeap, AGoodSizeIsWhatABlockHas) {
  in_thread([] {
    const bool is_hardened = ace_option_number("hardened") != 0;
    size_t before = 0;
    for (size_t size = 0; size < 3'000'000; size += 1 + size / 7) {
      const size_t good = ace_good_size(size);
      EXPECT_GE(good, std::max(size, before)) << size;
      EXPECT_EQ(ace_good_size(good), good) << size;
      before = good;
      void *p = ace_alloc(size);
      EXPECT_EQ(ace_usable_size(p), is_hardened ? size : good) << size;
      ace_free(p);
      (void)ace_trim(ace_thread_heap(), SIZE_MAX);  // a kept large block may be larger
    }
    EXPECT_EQ(ace_good_size(SIZE_MAX), SIZE_MAX);
  });
}

TEST(ThreadHeap, TheWholeFamily) {
  in_thread([] {
    auto *p = static_cast<unsigned char *>(ace_calloc(10, 10));
    for (int i = 0; i < 100; ++i) ASSERT_EQ(p[i], 0);
    memset(p, 7, 100);
    p = static_cast<unsigned char *>(ace_realloc(p, 50'000));
    for (int i = 0; i < 100; ++i) ASSERT_EQ(p[i], 7);
    EXPECT_GE(ace_usable_size(p), 50'000u);
    void *aligned = ace_aligned_alloc(256, 100);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(aligned) % 256, 0u);
    ace_free_sized(p, 50'000);
    ace_free(aligned);
    EXPECT_EQ(test::stats_of(ace_thread_heap()).live_blocks, 0u);
  });
}

TEST(ThreadHeap, ALittleOfWhatAThreadHeldStaysForTheNext) {
  void *p = nullptr;
  uint64_t faulted = 0;
  auto use = [&] {
    p = ace_alloc(100);
    ace_free(p);
    faulted = test::stats_of(ace_thread_heap()).faulted_bytes;
  };
  in_thread(use);
  const uint64_t before = faulted;
  in_thread(use);
  EXPECT_EQ(faulted, before);
}

TEST(ThreadHeap, WhatAThreadAskedOfItsHeapEndsWithIt) {
  trim_abandoned_heaps();
  void *kept = nullptr;
  ace_heap *left = nullptr;
  in_thread([&] {
    kept = ace_alloc(100);
    left = ace_thread_heap();
    ace_heap_set_limit(left, 1 << 20);
    for (ace_hint_code hint : {ACE_HINT_FORK_CHILD, ACE_HINT_BURST_BEGIN, ACE_HINT_IDLE_BEGIN})
      ace_hint(left, hint, 0);
    ASSERT_TRUE(left->sealed);
    ace_hint(left, ACE_HINT_COLLECT_END, 0);
    ace_hint(left, ACE_HINT_FORK_CHILD, 0);
    ace_hint(left, ACE_HINT_COLLECT_BEGIN, 1);
    left->retire_asked = true;
  });
  in_thread([&] {
    ace_heap *heap = ace_thread_heap();
    ASSERT_EQ(heap, left);
    EXPECT_EQ(test::stats_of(heap).limit_bytes, 0u);
    EXPECT_EQ(test::stats_of(heap).phase, static_cast<uint64_t>(Phase::kRun));
    EXPECT_FALSE(heap->sealed);
    EXPECT_EQ(heap->on_spare, nullptr) << "it gives no hints";
    EXPECT_FALSE(heap->retire_asked);
    EXPECT_FALSE(heap->phases.collection_is_partial);
    EXPECT_EQ(heap->last_collection_end, 0u);
    ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 0);
    ace_hint(heap, ACE_HINT_COLLECT_END, 0);
    EXPECT_EQ(test::stats_of(heap).phase, static_cast<uint64_t>(Phase::kRun)) << "no burst goes on";
    void *p = ace_alloc(10 << 20);
    EXPECT_NE(p, nullptr);
    ace_free(p);
    ace_free(kept);
  });
}

TEST(ThreadHeap, EndsWithItsThreadWhereNothingIsLeftButMuchWasHeld) {
  trim_abandoned_heaps();
  std::vector<void *> blocks(200);  // of the mid pool, which keeps what is freed
  in_thread([&] {
    for (void *&block : blocks) ASSERT_NE(block = ace_alloc(100'000), nullptr);
    for (void *block : blocks) ace_free(block);
  });
  for (void *block : blocks) ASSERT_EQ(ace_owner_of(block), nullptr);
}

TEST(ThreadHeap, WhatIsOnListsCountsAsHeldForNothing) {
  trim_abandoned_heaps();
  constexpr unsigned kThreads = 40;
  std::barrier all_have(kThreads);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      std::vector<void *> blocks;
      for (unsigned size : kClassSize)
        for (unsigned bytes = 0; bytes < kSlabSize / 2; bytes += size) blocks.push_back(ace_alloc(size));
      all_have.arrive_and_wait();
      for (void *block : blocks) ace_free(block);
      all_have.arrive_and_wait();
    });
  }
  for (auto &thread : threads) thread.join();
  uint64_t resident = 0;
  visit_heaps(
      [](Heap &heap, void *sum) {
        if (heap.is_thread_heap && &heap != known_thread_heap())
          *static_cast<uint64_t *>(sum) += heap.counters.resident_bytes();
      },
      &resident);
  EXPECT_LE(resident, 16u << 20);
}

TEST(ThreadHeap, BlocksOutliveTheirThread) {
  unsigned char *p = nullptr;
  in_thread([&] {
    p = static_cast<unsigned char *>(ace_alloc(100));
    memset(p, 9, 100);
  });
  ASSERT_NE(ace_owner_of(p), nullptr);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(p[i], 9);
  ace_free(p);
  // The next thread takes the heap up, and with it the free that waits in its queue.
  ace_heap *left_behind = ace_owner_of(p);
  in_thread([&] {
    EXPECT_EQ(ace_thread_heap(), left_behind);
    EXPECT_EQ(test::stats_of(left_behind).live_blocks, 0u);
    EXPECT_EQ(test::audit(left_behind), "");
  });
}

TEST(ThreadHeap, WhatWentBackAtAThreadsEndAndWasMissedStaysTheNextTime) {
  trim_abandoned_heaps();
  std::vector<void *> blocks(200);
  auto faulted_by_a_thread = [&] {
    uint64_t faulted = 0;
    in_thread([&] {
      const uint64_t before = test::stats_of(ace_thread_heap()).faulted_bytes;
      for (void *&block : blocks) ASSERT_NE(block = ace_alloc(100'000), nullptr);
      for (void *block : blocks) ace_free(block);
      faulted = test::stats_of(ace_thread_heap()).faulted_bytes - before;
    });
    return faulted;
  };
  EXPECT_GE(faulted_by_a_thread(), 200 * 100'000u);
  EXPECT_GE(faulted_by_a_thread(), 200 * 100'000u);
  EXPECT_EQ(faulted_by_a_thread(), 0u);
  EXPECT_GE(trim_abandoned_heaps(), 200 * 100'000u);
  EXPECT_GE(faulted_by_a_thread(), 200 * 100'000u);
  EXPECT_EQ(ace_owner_of(blocks[0]), nullptr);
}

TEST(ThreadHeap, ALittleThatOthersFreedInALeftHeapStaysWhereAnotherGrows) {
  trim_abandoned_heaps();
  ace_heap *grows = ace_thread_heap();  // now: later it would take up the one that is left
  std::vector<void *> blocks(50);
  Heap *left = nullptr;
  in_thread([&] {
    left = thread_heap();
    for (void *&block : blocks) ASSERT_NE(block = ace_alloc(100'000), nullptr);
  });
  ASSERT_NE(left, grows);
  for (void *block : blocks) ace_free(block);
  const uint64_t peak = test::stats_of(grows).peak_resident_bytes;
  std::vector<void *> more;
  for (uint64_t taken = 0; taken < peak + (4u << 20); taken += 100'000) more.push_back(ace_alloc(100'000));
  EXPECT_FALSE(has_remote_frees(*left));
  EXPECT_GE(left->counters.resident_bytes(), 50 * 100'000u);
  for (void *block : more) ace_free(block);
  ace_trim(grows, SIZE_MAX);
  trim_abandoned_heaps();
  EXPECT_EQ(ace_owner_of(blocks[0]), nullptr);
}

TEST(ThreadHeap, WhatOthersFreedInALeftHeapGoesBackBeforeAnotherGrows) {
  trim_abandoned_heaps();
  ace_heap *grows = ace_thread_heap();  // now, as above
  std::vector<void *> blocks(200);
  in_thread([&] {
    for (void *&block : blocks) ASSERT_NE(block = ace_alloc(100'000), nullptr);
  });
  for (void *block : blocks) ace_free(block);
  ASSERT_NE(ace_owner_of(blocks[0]), nullptr);
  ASSERT_NE(ace_owner_of(blocks[0]), grows);
  const uint64_t peak = test::stats_of(grows).peak_resident_bytes;
  std::vector<void *> more;
  for (uint64_t taken = 0; taken < peak + (4u << 20); taken += 100'000) more.push_back(ace_alloc(100'000));
  for (void *block : blocks) ASSERT_EQ(ace_owner_of(block), ace_owner_of(block) == grows ? grows : nullptr);
  for (void *block : more) ace_free(block);
  ace_trim(grows, SIZE_MAX);
}

TEST(ThreadHeap, AThreadWithoutAHeapMayFree) {
  ace_heap *heap = ace_thread_heap();
  drain_remote_frees(*heap);
  const uint64_t before = test::stats_of(heap).live_blocks;
  void *p = ace_alloc(100), *q = ace_alloc(100);
  in_thread([&] {
    ace_free(p);
    ace_free_sized(q, 100);
  });
  in_thread([] { ace_free(nullptr); });
  drain_remote_frees(*heap);
  EXPECT_EQ(test::stats_of(heap).live_blocks, before);
  EXPECT_EQ(test::audit(heap), "");
}

TEST(ThreadHeap, AThreadWithoutAHeapOwnsNoSlabThatWasNeverAssigned) {
  test::MisuseLog misuse;
  ace_heap *heap = ace_heap_create(nullptr);
  void *never = superslab_of(heap)->slab(kSlabsPerSuperslab - 1);
  in_thread([&] {
    ace_free(never);
    ace_free_sized(never, 16);
  });
  EXPECT_EQ(misuse.take(), std::vector<int>(2, ACE_ERROR_NOT_ALLOCATED));
  ace_heap_destroy(heap);
}

TEST(ThreadHeap, ASecondFreeOfAnothersBlockIsSeen) {
  test::MisuseLog misuse;
  ace_heap *own = ace_thread_heap();
  in_thread([&] {
    ace_heap *others = ace_thread_heap();
    const uint64_t before = test::stats_of(others).live_blocks;
    std::vector<void *> blocks(3 * kSlabSize / 64);
    for (void *&block : blocks) block = ace_alloc(64);
    for (void *block : {blocks[3], blocks.back()}) {  // into the bitmap, and onto the list
      ace_free(block);
      ace_heap_try_free(own, block);
      EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE});
      EXPECT_EQ(test::audit(others), "");
    }
    for (void *block : blocks) {
      if (block != blocks[3] && block != blocks.back()) ace_heap_try_free(own, block);
    }
    drain_remote_frees(*others);
    EXPECT_EQ(test::stats_of(others).live_blocks, before);
  });
  EXPECT_EQ(test::stats_of(own).misrouted_pointers, 0u) << "threads free one another's blocks all the time";
  EXPECT_TRUE(misuse.take().empty());
}

TEST(ThreadHeap, SomeEmptySuperslabsStayThoughNobodyHints) {
  trim_abandoned_heaps();
  in_thread([] {
    std::vector<void *> blocks(10 * 31 * kSlabSize / 64);
    for (void *&block : blocks) block = ace_alloc(64);
    for (void *block : blocks) ace_free(block);
    EXPECT_GE(test::stats_of(ace_thread_heap()).superslabs_free, 6u);
  });
}

TEST(ThreadHeap, ReallocOfAnotherThreadsBlock) {
  auto *p = static_cast<unsigned char *>(ace_alloc(100));
  memset(p, 3, 100);
  in_thread([&] {
    auto *q = static_cast<unsigned char *>(ace_realloc(p, 10'000));
    EXPECT_EQ(ace_owner_of(q), ace_thread_heap());
    for (int i = 0; i < 100; ++i) ASSERT_EQ(q[i], 3);
    ace_free(q);
  });
}

TEST(ThreadHeap, FreeFromTheDestructorsOfAThread) {
  // A thread-local object that frees when the thread ends, maybe after the heap was left behind.
  struct AtEnd {
    void *p = nullptr;
    ~AtEnd() { ace_free(p); }
  };
  in_thread([] {
    static thread_local AtEnd at_end;
    at_end.p = ace_alloc(100);
  });
}

TEST(ThreadHeap, OneThreadAfterAnotherNeedsOneHeap) {
  void *kept = nullptr;
  in_thread([&] { kept = ace_alloc(100); });
  ace_heap *heap = ace_owner_of(kept);
  for (int i = 0; i < 10; ++i) {
    in_thread([&] {
      EXPECT_EQ(ace_thread_heap(), heap);
      for (int j = 0; j < 1000; ++j) ace_free(ace_alloc(64));
    });
  }
  ace_free(kept);
}

}  // namespace
}  // namespace ace
