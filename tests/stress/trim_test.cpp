// Memory that is given back by others than the holder, and heaps that end meanwhile.
#include <fcntl.h>
#include <unistd.h>

#include <mutex>

#include "stress/threads.h"

namespace ace::test {
namespace {

// A holder's day: it fills, frees most, checks what it keeps, again and again.
class Holder {
 public:
  Holder(ace_heap *heap, uint64_t seed) : heap_(heap), sizes_(seed) {}

  unsigned day(unsigned blocks) {
    for (unsigned i = 0; i < blocks; ++i) {
      const size_t size = sizes_.next();
      kept_.push_back(write_block(ace_heap_alloc(heap_, size), size));
    }
    unsigned broken = 0;
    size_t keep = 0;
    for (void *p : kept_) {
      broken += !is_whole(p);
      if (sizes_.random() % 20 == 0) {
        kept_[keep++] = p;
      } else {
        ace_heap_free(heap_, p);
      }
    }
    kept_.resize(keep);
    return broken;
  }
  void end() {
    for (void *p : kept_) ace_heap_free(heap_, p);
    kept_.clear();
  }

 private:
  ace_heap *heap_;
  Sizes sizes_;
  std::vector<void *> kept_;
};

TEST(TrimStress, SharedTrimsAgainstRefills) {
  ace_heap *heap = ace_heap_create(nullptr);
  std::atomic<bool> over{false};
  std::atomic<unsigned> broken{0};
  std::atomic<uint64_t> given{0};
  run_together(3, [&](unsigned who) {
    if (who == 0) {
      Holder holder(heap, 3);
      for (unsigned day = 0; day < 60 / kSlowness; ++day) {
        broken += holder.day(3000);
        if (day % 5 == 0) ace_trim(heap, SIZE_MAX);
      }
      over = true;
      holder.end();
      return;
    }
    while (!over) given += ace_trim_shared(heap, who == 1 ? SIZE_MAX : 64 << 10);
  });
  EXPECT_EQ(broken, 0u);
  EXPECT_GT(given, 0u);
  EXPECT_EQ(audit(heap), "");
  EXPECT_EQ(stats_of(heap).live_blocks, 0u);
  ace_trim(heap, SIZE_MAX);
  EXPECT_EQ(stats_of(heap).resident_bytes, 0u);
  ace_heap_destroy(heap);
}

TEST(TrimStress, FreshSuperslabsAreNotLostToPurgers) {
  // Much mapping and releasing, and purgers that look at each new superslab at once: no allocation fails.
  for (size_t size : {kMidMax, kTinyMax}) {
    ace_heap *heap = ace_heap_create(nullptr);
    std::atomic<bool> over{false};
    unsigned refused = 0;
    run_together(3, [&](unsigned who) {
      if (who != 0) {
        while (!over) ace_trim_shared(heap, SIZE_MAX);
        return;
      }
      std::vector<void *> blocks;
      for (unsigned round = 0; round < 400 / kSlowness; ++round) {
        for (size_t bytes = 0; bytes < 10 * kSuperslabSize; bytes += size) {
          blocks.push_back(ace_heap_alloc(heap, size));
          refused += blocks.back() == nullptr;
        }
        for (void *p : blocks) ace_heap_free(heap, p);
        blocks.clear();
        ace_trim(heap, SIZE_MAX);
      }
      over = true;
    });
    EXPECT_EQ(refused, 0u) << "in blocks of " << size;
    EXPECT_EQ(audit(heap), "");
    ace_heap_destroy(heap);
  }
}

TEST(TrimStress, TheWorkerAgainstAHolderThatIsNeverQuiet) {
  OptionGuard delay("idle_delay", "1ms");
  ace_heap *heap = ace_heap_create(nullptr);
  Holder holder(heap, 4);
  unsigned broken = 0;
  for (unsigned day = 0; day < 80 / kSlowness; ++day) {
    ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 1 + day % 2);
    broken += holder.day(2000);
    ace_hint(heap, ACE_HINT_COLLECT_END, 0);
    if (day % 8 == 0) usleep(3000);
  }
  EXPECT_EQ(broken, 0u);
  holder.end();
  ace_heap_destroy(heap);
}

TEST(TrimStress, ReportsAndTicksWhileHeapsComeAndGo) {
  const int null = open("/dev/null", O_WRONLY);
  std::atomic<unsigned> makers{2}, broken{0};
  run_together(4, [&](unsigned who) {
    if (who < 2) {
      for (unsigned i = 0; i < 60 / kSlowness; ++i) {
        ace_heap *heap = ace_heap_create(nullptr);
        Holder holder(heap, i);
        broken += holder.day(500);
        ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 1);
        ace_hint(heap, ACE_HINT_COLLECT_END, 0);
        ace_heap_destroy(heap);
      }
      --makers;
      return;
    }
    while (makers != 0) {
      if (who == 2) {
        broken += ace_report(null, "json") != 0;
      } else {
        ace_tick(UINT64_MAX);
      }
    }
  });
  EXPECT_EQ(broken, 0u);
  close(null);
}

TEST(TrimStress, AHeapThatIsHeldInTurns) {
  // One lock, as a VM has: whoever holds it holds the heap.
  ace_heap *heap = ace_heap_create(nullptr);
  std::mutex lock;
  Holder holder(heap, 5);
  unsigned broken = 0;
  std::atomic<unsigned> left{3};
  run_together(4, [&](unsigned who) {
    if (who == 3) {
      while (left != 0) ace_trim_shared(heap, SIZE_MAX);
      return;
    }
    for (unsigned i = 0; i < 24 / kSlowness; ++i) {
      std::lock_guard locked(lock);
      broken += holder.day(1000);
      if (i % 4 == who) ace_hint(heap, ACE_HINT_IDLE_BEGIN, 0);
    }
    --left;
  });
  EXPECT_EQ(broken, 0u);
  holder.end();
  EXPECT_EQ(audit(heap), "");
  ace_heap_destroy(heap);
}

TEST(TrimStress, OptionsAreSetWhileHeapsReadThem) {
  OptionGuard delay("idle_delay", "1ms");
  std::atomic<unsigned> left{2};
  run_together(3, [&](unsigned who) {
    if (who == 2) {
      for (unsigned i = 0; left != 0; ++i) ace_option_set("idle_delay", i % 2 != 0 ? "1ms" : "2ms");
      return;
    }
    ace_heap *heap = ace_heap_create(nullptr);
    for (unsigned i = 0; i < 2000 / kSlowness; ++i) {
      ace_free(ace_heap_alloc(heap, 100));
      ace_hint(heap, ACE_HINT_COLLECT_BEGIN, i % 2);
      ace_hint(heap, ACE_HINT_COLLECT_END, 0);
      ace_tick(UINT64_MAX);
    }
    ace_heap_destroy(heap);
    --left;
  });
}

TEST(TrimStress, DestroyedByAnotherThread) {
  for (unsigned i = 0; i < 40 / kSlowness; ++i) {
    ace_heap *heap = nullptr;
    std::thread([&] {
      heap = ace_heap_create(nullptr);
      Holder(heap, i).day(2000);
      ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 1);
      ace_hint(heap, ACE_HINT_COLLECT_END, 0);
    }).join();
    std::thread([&] { ace_heap_destroy(heap); }).join();
  }
  EXPECT_EQ(audit_all(), "");
}

}  // namespace
}  // namespace ace::test
