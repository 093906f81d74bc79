// Frees by other threads, threads that end, heaps that are taken up.
#include <condition_variable>
#include <deque>
#include <mutex>

#include "stress/threads.h"

namespace ace::test {
namespace {

class Queue {
 public:
  void push(void *p) {
    std::unique_lock locked(lock_);
    room_.wait(locked, [&] { return blocks_.size() < 500; });
    blocks_.push_back(p);
    filled_.notify_one();
  }
  void *pop() {
    std::unique_lock locked(lock_);
    filled_.wait(locked, [&] { return !blocks_.empty(); });
    void *p = blocks_.front();
    blocks_.pop_front();
    room_.notify_one();
    return p;
  }

 private:
  std::mutex lock_;
  std::condition_variable filled_, room_;
  std::deque<void *> blocks_;
};

TEST(RemoteStress, OneProducesManyConsume) {
  constexpr unsigned kConsumers = 3;
  constexpr unsigned kBlocks = 120'000 / kSlowness;
  ace_heap *heap = ace_heap_create(nullptr);
  Queue queue;
  std::atomic<unsigned> broken{0}, freed{0};
  run_together(1 + kConsumers, [&](unsigned who) {
    if (who == 0) {
      Sizes sizes(1);
      for (unsigned i = 0; i < kBlocks; ++i) {
        const size_t size = sizes.next();
        queue.push(write_block(ace_heap_alloc(heap, size), size));
        if (i % 5000 == 0) ace_trim(heap, 1 << 20);
      }
      for (unsigned i = 0; i < kConsumers; ++i) queue.push(nullptr);
      return;
    }
    while (void *p = queue.pop()) {
      broken += !is_whole(p);
      ace_free(p);
      ++freed;
    }
  });
  EXPECT_EQ(broken, 0u);
  EXPECT_EQ(freed, kBlocks);
  ace_trim(heap, SIZE_MAX);
  const ace_stats s = stats_of(heap);
  EXPECT_EQ(s.live_blocks, 0u);
  EXPECT_EQ(s.remote_frees, kBlocks);
  EXPECT_EQ(s.resident_bytes, 0u);
  EXPECT_EQ(audit(heap), "");
  ace_heap_destroy(heap);
}

TEST(RemoteStress, ManyFreeIntoOneSlabWhileItsHolderDrains) {
  constexpr unsigned kThreads = 3, kBlocks = 1024, kRounds = 160 / kSlowness;
  ace_heap *heap = ace_heap_create(nullptr);
  for (unsigned round = 0; round < kRounds; ++round) {
    std::vector<void *> blocks;
    for (unsigned i = 0; i < kBlocks; ++i) blocks.push_back(write_block(ace_heap_alloc(heap, 64), 64));
    std::atomic<unsigned> done{0}, broken{0};
    run_together(1 + kThreads, [&](unsigned who) {
      if (who == 0) {
        // The holder refills meanwhile: what it is given is never a block that is still held.
        std::vector<void *> mine;
        while (done < kThreads) {
          mine.push_back(write_block(ace_heap_alloc(heap, 64), 64));
          if (mine.size() % 400 == 0) ace_trim(heap, SIZE_MAX);
          if (mine.size() < 3000) continue;
          for (void *p : mine) ace_heap_free(heap, p);
          mine.clear();
        }
        for (void *p : mine) {
          broken += !is_whole(p);
          ace_heap_free(heap, p);
        }
        return;
      }
      for (unsigned i = who - 1; i < kBlocks; i += kThreads) {
        broken += !is_whole(blocks[i]);
        ace_free(blocks[i]);
      }
      ++done;
    });
    ASSERT_EQ(broken, 0u);
    ace_trim(heap, SIZE_MAX);
    ASSERT_EQ(stats_of(heap).live_blocks, 0u) << "round " << round;
    ASSERT_EQ(audit(heap), "") << "round " << round;
  }
  ace_heap_destroy(heap);
}

TEST(RemoteStress, ABlockFreedByTwoThreadsAtOnceIsReportedOnce) {
  constexpr unsigned kRounds = 300 / kSlowness;
  static std::atomic<unsigned> reports;
  reports = 0;
  // A hardened heap's second free may meet a block that the first is wiping, and take that for an overflow.
  ace_set_error_handler(
      [](const ace_error *error, void *) {
        reports += error->code == ACE_ERROR_DOUBLE_FREE || error->code == ACE_ERROR_OVERFLOW;
      },
      nullptr);
  ace_heap *heap = ace_heap_create(nullptr);
  for (size_t size : {size_t{64}, size_t{20'000}}) {
    for (unsigned round = 0; round < kRounds; ++round) {
      void *p = ace_heap_alloc(heap, size);
      run_together(2, [&](unsigned) { ace_free(p); });
    }
  }
  // Their owner drains while they are freed: no block comes twice. A mapping of its own is no part of this:
  // once it is gone nothing is known of it.
  ace_set_error_handler(nullptr, nullptr);
  ace_trim(heap, SIZE_MAX);
  EXPECT_EQ(reports, 2 * kRounds);
  EXPECT_EQ(stats_of(heap).live_blocks, 0u);
  EXPECT_EQ(audit(heap), "");
  ace_heap_destroy(heap);
}

TEST(RemoteStress, ThreadsExchangeBlocksAndEnd) {
  constexpr unsigned kThreads = 4, kRounds = 4, kSteps = 30'000 / kSlowness;
  static std::atomic<void *> shelf[256];
  std::atomic<unsigned> broken{0};
  for (unsigned round = 0; round < kRounds; ++round) {
    // Each round's threads take up the heaps that the last round's left behind, and free their blocks.
    run_together(kThreads, [&](unsigned who) {
      Sizes sizes(round * 10 + who);
      for (unsigned i = 0; i < kSteps; ++i) {
        const size_t size = sizes.next();
        void *p = write_block(ace_alloc(size), size);
        void *other = shelf[sizes.random() % 256].exchange(p, std::memory_order_acq_rel);
        if (other == nullptr) continue;
        broken += !is_whole(other);
        if (i % 16 == 0) {
          other = ace_realloc(other, 2000);
          write_block(other, 2000);
        }
        ace_free(other);
      }
    });
    EXPECT_EQ(audit_all(), "");
  }
  EXPECT_EQ(broken, 0u);
  for (auto &place : shelf) ace_free(place.exchange(nullptr));
  // Later threads drain what is left, heap by heap, and give the heaps back.
  run_together(kThreads, [](unsigned) { ace_free(ace_alloc(16)); });
  EXPECT_EQ(audit_all(), "");
}

TEST(RemoteStress, ManyShortThreads) {
  std::vector<void *> left(8 * 20);
  for (unsigned wave = 0; wave < 20; ++wave) {
    run_together(8, [&](unsigned who) {
      for (int i = 0; i < 200; ++i) ace_free(ace_alloc(16 + static_cast<size_t>(i)));
      left[wave * 8 + who] = write_block(ace_alloc(100), 100);
      if (wave != 0) ace_free(left[(wave - 1) * 8 + (who + 3) % 8]);
    });
  }
  for (unsigned who = 0; who < 8; ++who) {
    EXPECT_TRUE(is_whole(left[19 * 8 + who]));
    ace_free(left[19 * 8 + who]);
  }
  EXPECT_EQ(audit_all(), "");
}

}  // namespace
}  // namespace ace::test
