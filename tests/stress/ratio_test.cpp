// Producers and consumers of blocks in several ratios, and hints from several threads.
#include <mutex>

#include "stress/threads.h"

namespace ace::test {
namespace {

struct Ratio {
  unsigned producers, consumers;
  bool by_heap;  // each producer has a heap of its own, else that of its thread
};

class RemoteRatio : public testing::TestWithParam<Ratio> {};
INSTANTIATE_TEST_SUITE_P(Stress, RemoteRatio,
                         testing::Values(Ratio{1, 1, true}, Ratio{1, 1, false}, Ratio{1, 7, true},
                                         Ratio{1, 7, false}, Ratio{7, 1, true}, Ratio{7, 1, false},
                                         Ratio{4, 4, true}, Ratio{4, 4, false}),
                         [](const auto &info) {
                           const Ratio &r = info.param;
                           return std::to_string(r.producers) + "to" + std::to_string(r.consumers) +
                                  (r.by_heap ? "ByHeap" : "ByThread");
                         });

// A ring that producers fill and consumers empty, each place by itself.
class Ring {
 public:
  // False where the ring is full there.
  bool put(uint64_t where, void *p) {
    void *nothing = nullptr;
    return places_[where % kPlaces].compare_exchange_strong(nothing, p, std::memory_order_acq_rel);
  }
  void *take(uint64_t where) { return places_[where % kPlaces].exchange(nullptr, std::memory_order_acq_rel); }
  static constexpr unsigned kPlaces = 512;

 private:
  std::atomic<void *> places_[kPlaces] = {};
};

TEST_P(RemoteRatio, EachBlockComesBackOnce) {
  constexpr unsigned kBlocks = 40'000 / kSlowness;
  const Ratio ratio = GetParam();
  Ring ring;
  std::vector<ace_heap *> heaps;
  for (unsigned i = 0; ratio.by_heap && i < ratio.producers; ++i) heaps.push_back(ace_heap_create(nullptr));
  std::atomic<unsigned> broken{0}, producing{ratio.producers};
  std::atomic<uint64_t> made{0}, freed{0};
  run_together(ratio.producers + ratio.consumers, [&](unsigned who) {
    Sizes sizes(who);
    if (who < ratio.producers) {
      for (unsigned i = 0; i < kBlocks / ratio.producers; ++i) {
        const size_t size = sizes.next();
        void *p = ratio.by_heap ? ace_heap_alloc(heaps[who], size) : ace_alloc(size);
        write_block(p, size);
        ++made;
        while (!ring.put(sizes.random(), p)) std::this_thread::yield();
      }
      --producing;
      return;
    }
    for (uint64_t where = who; producing != 0 || freed < made; ++where) {
      void *p = ring.take(where);
      if (p == nullptr) {
        if (where % Ring::kPlaces == 0) std::this_thread::yield();
        continue;
      }
      broken += !is_whole(p);
      ace_free(p);
      ++freed;
    }
  });
  EXPECT_EQ(broken, 0u);
  EXPECT_EQ(freed, made);
  uint64_t remote_frees = 0;
  for (ace_heap *heap : heaps) {
    ace_trim(heap, SIZE_MAX);
    const ace_stats s = stats_of(heap);
    EXPECT_EQ(s.live_blocks, 0u);
    EXPECT_EQ(s.resident_bytes, 0u);
    remote_frees += s.remote_frees;
    EXPECT_EQ(audit(heap), "");
    ace_heap_destroy(heap);
  }
  EXPECT_EQ(remote_frees, ratio.by_heap ? made.load() : 0);
  // Those that the producers' threads left behind are taken up, found empty and given back.
  run_together(ratio.producers, [](unsigned) { ace_free(ace_alloc(16)); });
  EXPECT_EQ(audit_all(), "");
}

TEST(RemoteStress, AllToAll) {
  constexpr unsigned kThreads = 8, kSteps = 20'000 / kSlowness;
  static std::atomic<void *> shelf[1024];
  std::atomic<unsigned> broken{0};
  run_together(kThreads, [&](unsigned who) {
    Sizes sizes(who);
    for (unsigned i = 0; i < kSteps; ++i) {
      const size_t size = sizes.next();
      void *p = write_block(ace_alloc(size), size);
      p = shelf[sizes.random() % 1024].exchange(p, std::memory_order_acq_rel);
      if (p == nullptr) continue;
      broken += !is_whole(p);
      ace_free(p);
    }
  });
  for (auto &place : shelf) {
    void *p = place.exchange(nullptr);
    if (p == nullptr) continue;
    broken += !is_whole(p);
    ace_free(p);
  }
  EXPECT_EQ(broken, 0u);
  run_together(kThreads, [](unsigned) { ace_free(ace_alloc(16)); });
  EXPECT_EQ(audit_all(), "");
}

// Each thread tells of its own heap, and, in turns under one lock, of one that all of them hold.
TEST(HintStress, FromSeveralThreads) {
  OptionGuard delay("idle_delay", "1ms");
  constexpr unsigned kThreads = 4, kRounds = 200 / kSlowness;
  ace_heap *shared = ace_heap_create(nullptr);
  std::mutex lock;
  std::atomic<unsigned> broken{0}, left{kThreads};
  run_together(kThreads + 1, [&](unsigned who) {
    if (who == kThreads) {
      while (left != 0) ace_tick(200'000);
      return;
    }
    ace_heap *own = ace_heap_create(nullptr);
    Sizes sizes(who);
    for (unsigned i = 0; i < kRounds; ++i) {
      const auto hint = static_cast<ace_hint_code>(1 + sizes.random() % ACE_HINT_PRESSURE);
      std::vector<std::pair<ace_heap *, void *>> blocks;
      {
        std::lock_guard held(lock);
        broken += ace_hint(shared, hint, i % 3) != 0;
        for (unsigned n = 0; n < 50; ++n) {
          const size_t size = sizes.next();
          blocks.emplace_back(shared, write_block(ace_heap_alloc(shared, size), size));
        }
      }
      broken += ace_hint(own, hint, i % 3) != 0;
      for (unsigned n = 0; n < 50; ++n) {
        const size_t size = sizes.next();
        blocks.emplace_back(own, write_block(ace_heap_alloc(own, size), size));
      }
      broken += ace_hint(own, ACE_HINT_COLLECT_END, 0) != 0;
      std::lock_guard held(lock);
      broken += ace_hint(shared, ACE_HINT_COLLECT_END, 0) != 0;
      for (auto &[heap, p] : blocks) {
        broken += !is_whole(p);
        ace_heap_free(heap, p);
      }
    }
    broken += !audit(own).empty();
    ace_heap_destroy(own);
    --left;
  });
  EXPECT_EQ(broken, 0u);
  ace_trim(shared, SIZE_MAX);
  EXPECT_EQ(stats_of(shared).live_blocks, 0u);
  EXPECT_EQ(audit(shared), "");
  ace_heap_destroy(shared);
}

}  // namespace
}  // namespace ace::test
