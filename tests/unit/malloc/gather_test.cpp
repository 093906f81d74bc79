// Remote frees that libace-malloc.so's threads gather and send by the word: see heap/remote.h.
#include <condition_variable>
#include <mutex>
#include <thread>

#include "api/thread_heap.h"
#include "front/hot.h"
#include "heap/purge.h"
#include "heap/remote.h"
#include "heap/slab.h"
#include "unit/heap_test.h"

namespace ace {
namespace {

using test::MisuseLog;

// As `free` of libace-malloc.so.
void free_by_thread(void *p) {
  Heap &heap = *thread_heap();
  if (!push_by_address(heap, p)) free_outside_window_or(heap, p, nullptr);
}

// A thread that does what it is told, and lives as long as this.
class Other {
 public:
  Other() : thread_([this] { serve(); }) {
    run([this] { heap_ = thread_heap(); });
  }
  ~Other() { end(); }
  void run(std::function<void()> work) {
    std::unique_lock locked(lock_);
    work_ = std::move(work);
    changed_.notify_all();
    changed_.wait(locked, [&] { return work_ == nullptr; });
  }
  void end() {
    if (!thread_.joinable()) return;
    run([this] { ended_ = true; });
    thread_.join();
  }
  Heap &heap() { return *heap_; }

 private:
  void serve() {
    std::unique_lock locked(lock_);
    while (!ended_) {
      changed_.wait(locked, [&] { return work_ != nullptr; });
      work_();
      work_ = nullptr;
      changed_.notify_all();
    }
  }
  std::mutex lock_;
  std::condition_variable changed_;
  std::function<void()> work_;
  bool ended_ = false;
  Heap *heap_ = nullptr;
  std::thread thread_;  // last: it uses the others
};

class Gather : public testing::Test {
 protected:
  Gather() : mine(*thread_heap()) { trim_heap(mine, SIZE_MAX); }
  ~Gather() override {
    other.end();
    drain_remote_frees(mine);
    EXPECT_EQ(test::audit(static_cast<ace_heap *>(&mine)), "");
  }
  std::vector<void *> fill(unsigned count, size_t size) {
    std::vector<void *> blocks;
    for (unsigned i = 0; i < count; ++i) blocks.push_back(memset(allocate(mine, size, 0), 0xa5, size));
    return blocks;
  }
  void free_elsewhere(void *p) {
    other.run([p] { free_by_thread(p); });
  }
  static bool has_remote_bit(void *p) { return (remote_word(superslab_of(p), p) & free_bit(p)) != 0; }
  uint64_t live() { return test::stats_of(static_cast<ace_heap *>(&mine)).live_blocks; }

  Heap &mine;
  Other other;
};

TEST_F(Gather, FreesOfAWordAreSentWithTheNextOnesFirst) {
  auto blocks = fill(64, 64);
  // Blocks of one word: 16 of 64 bytes.
  unsigned first = 0;
  while (address_of(blocks[first]) % (64 * kGranule) != 0) ++first;
  for (unsigned i = 0; i < 16; ++i) {
    free_elsewhere(blocks[first + i]);
    EXPECT_TRUE(is_being_sent(blocks[first + i]));
    EXPECT_FALSE(has_remote_bit(blocks[first + i]));
  }
  EXPECT_FALSE(has_remote_frees(mine));
  free_elsewhere(blocks[first + 16]);
  for (unsigned i = 0; i < 16; ++i) {
    EXPECT_FALSE(is_being_sent(blocks[first + i]));
    EXPECT_TRUE(has_remote_bit(blocks[first + i]));
  }
  EXPECT_TRUE(is_being_sent(blocks[first + 16]));
  EXPECT_TRUE(has_remote_frees(mine));
  const uint64_t before = live();
  drain_remote_frees(mine);
  EXPECT_EQ(live(), before - 16);
}

TEST_F(Gather, WhatIsNoBlockIsSeenBesideOthersOfItsWord) {
  auto blocks = fill(2, 64);
  free_elsewhere(blocks[0]);
  MisuseLog misuse;
  free_elsewhere(static_cast<char *>(blocks[0]) + kGranule);
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_INTERIOR});
  ace_free(blocks[1]);
  free_elsewhere(blocks[1]);
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE}) << "it is on the list";
}

TEST_F(Gather, WhatTheWordWasOfIsForgottenAsItIsSent) {
  // The middle one lies in a slab that these blocks have for themselves.
  auto blocks = fill(3 * blocks_per_slab(class_of(64)), 64);
  void *const p = blocks[blocks.size() / 2];
  const BitmapWord *const word = &remote_word(superslab_of(p), p);
  free_elsewhere(p);
  other.run([] { trim_heap(*thread_heap(), SIZE_MAX); });
  for (void *block : blocks) {
    if (block != p) free_by_thread(block);
  }
  trim_heap(mine, SIZE_MAX);
  // The word is another class's now, whose blocks are told at once.
  void *large = nullptr;
  for (unsigned i = 0; i < kSlabsPerSuperslab * kSlabSize / 512 && large == nullptr; ++i) {
    void *const q = fill(1, 512)[0];
    if (&remote_word(superslab_of(q), q) == word) large = q;
  }
  ASSERT_NE(large, nullptr);
  free_elsewhere(large);
  EXPECT_TRUE(has_remote_bit(large));
  EXPECT_FALSE(is_being_sent(large));
}

TEST_F(Gather, TheyAreSentWhereTheirThreadNeedsMemoryTrimsOrEnds) {
  auto blocks = fill(3, 64);
  free_elsewhere(blocks[0]);
  EXPECT_TRUE(is_being_sent(blocks[0]));
  other.run([] { ace_free(ace_alloc(5000)); });
  EXPECT_TRUE(has_remote_bit(blocks[0])) << "by a refill";
  free_elsewhere(blocks[1]);
  EXPECT_FALSE(has_remote_bit(blocks[1]));
  other.run([] { trim_heap(*thread_heap(), SIZE_MAX); });
  EXPECT_TRUE(has_remote_bit(blocks[1]));
  free_elsewhere(blocks[2]);
  EXPECT_FALSE(has_remote_bit(blocks[2]));
  other.end();
  EXPECT_TRUE(has_remote_bit(blocks[2]));
}

TEST_F(Gather, LargeBlocksAreToldAtOnce) {
  auto blocks = fill(1, 512);
  free_elsewhere(blocks[0]);
  EXPECT_TRUE(has_remote_bit(blocks[0]));
}

TEST_F(Gather, BlocksOfAnExplicitHeapAreToldAtOnce) {
  ace_heap *heap = ace_heap_create(nullptr);
  void *p = ace_heap_alloc(heap, 64);
  free_elsewhere(p);
  EXPECT_TRUE(has_remote_bit(p)) << "the heap may be destroyed any time";
  ace_heap_destroy(heap);
}

TEST_F(Gather, ItsHoldersFreeIsASecondOne) {
  auto blocks = fill(blocks_per_slab(class_of(64)), 64);
  fill(1, 64);
  MisuseLog misuse;
  const uint64_t before = live();
  for (void *p : {blocks[5], allocate(mine, 64, 0)}) {  // outside the window, and in it
    free_elsewhere(p);
    ASSERT_TRUE(is_being_sent(p));
    free_by_thread(p);
    EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE});
    ace_free(p);
    EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE});
    EXPECT_EQ(ace_realloc(p, 200), nullptr);
    EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE});
    EXPECT_EQ(test::audit(static_cast<ace_heap *>(&mine)), "");
  }
  other.end();
  drain_remote_frees(mine);
  EXPECT_EQ(misuse.take(), std::vector<int>{});
  EXPECT_EQ(live(), before - 1);
}

TEST_F(Gather, SoIsAThirdThreads) {
  auto blocks = fill(3, 64);
  free_elsewhere(blocks[1]);
  MisuseLog misuse;
  free_elsewhere(blocks[1]);
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE});
  Other third;
  third.run([&] { free_by_thread(blocks[1]); });
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE});
}

TEST_F(Gather, SoIsASecondOneWhereTheTagWasOverwritten) {
  auto blocks = fill(32, 64);
  MisuseLog misuse;
  free_elsewhere(blocks[1]);
  memset(blocks[1], 0, 64);
  free_elsewhere(blocks[1]);
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE}) << "by the same thread";
  Other third;
  third.run([&] { free_by_thread(blocks[1]); });
  EXPECT_EQ(misuse.take(), std::vector<int>{}) << "nothing tells yet";
  third.end();
  other.end();
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE}) << "as it is sent";
}

TEST_F(Gather, WhatWasSentAndIssuedAgainMayBeMovedBeforeItsSenderGoesOn) {
  void *p = fill(2, 64)[0];
  free_elsewhere(p);
  RemoteBatch &batch = other.heap().batch;
  const uint64_t bits = batch.bits;
  other.run([] { send_remote_frees(*thread_heap()); });
  drain_remote_frees(mine);
  ASSERT_EQ(allocate(mine, 64, 0), p);
  batch.bits = bits;  // as of a sender that is interrupted, or was when its process forked
  Other third;
  MisuseLog misuse;
  void *moved = nullptr;
  third.run([&] { moved = ace_realloc(p, 1000); });
  EXPECT_EQ(misuse.take(), std::vector<int>{});
  batch.bits = 0;
  third.run([&] { ace_free(moved); });
}

TEST_F(Gather, ALiveBlockWithTheTagOfOneIsFreed) {
  auto blocks = fill(blocks_per_slab(class_of(64)), 64);
  auto current = fill(2, 64);
  free_elsewhere(blocks[5]);
  MisuseLog misuse;
  const uint64_t before = live();
  for (void *p : {blocks[6], current[0]}) {
    memcpy(p, blocks[5], 64);
    free_by_thread(p);
    EXPECT_EQ(misuse.take(), std::vector<int>{});
  }
  EXPECT_EQ(live(), before - 2);
}

}  // namespace
}  // namespace ace
