// Threads while the system's calls fail at random: blocks that travel, purgers, heaps that come, go and are
// taken up, a worker that cannot be started. What is refused is NULL; what was given is whole, counted, and
// goes back.
#include <mutex>

#include <gtest/gtest.h>

#include "api/thread_heap.h"
#include "faults/faults.h"
#include "stress/threads.h"
#include "unit/fake_os.h"
#include "unit/superslab_pool.h"

namespace ace::test {
namespace {

// A sanitizer that looks at threads makes all of this much slower, the audits above all.
uint64_t wanted(uint64_t by_default) { return faults_wanted(by_default / (kSlowness * kSlowness)); }

// Heaps that ended threads have left stay for the next ones. As many threads as there ever were take all of
// them up at once, each leaves a block in its own, and with the last free from elsewhere a heap can go.
void end_left_heaps() {
  constexpr unsigned kMost = 20;
  void *blocks[kMost];
  std::atomic<unsigned> holders{0};
  run_together(kMost, [&](unsigned who) {
    blocks[who] = ace_alloc(16);
    ++holders;
    while (holders < kMost) std::this_thread::yield();
  });
  for (void *block : blocks) ace_free(block);
  trim_abandoned_heaps();
}

// What one round of a suite does; it tells how many blocks were found broken.
using Round = unsigned (*)(uint64_t seed);

// Rounds, each under other faults, until so many were injected: nothing is mapped afterwards that was not
// before.
void inject(const char *suite, uint64_t least, Round round) {
  constexpr unsigned kPermille[] = {20, 200, 500};
  uint64_t faults = 0, rounds = 0;
  for (uint64_t seed = 1; faults < least; ++seed, ++rounds) {
    FakeOs os;
    os.live();
    end_left_heaps();
    empty_superslab_pool(os);
    const int64_t mapped = os.mapped();
    const uint64_t injected = os.injected();
    os.fail_at_random(kPermille[seed % 3], seed);
    const unsigned broken = round(seed);
    faults += os.injected() - injected;
    os.fail_no_more();
    end_left_heaps();
    ASSERT_EQ(broken, 0u) << suite << ", seed " << seed;
    ASSERT_EQ(audit_all(), "") << suite << ", seed " << seed;
    empty_superslab_pool(os);
    ASSERT_EQ(os.mapped() - mapped, 0) << suite << ", seed " << seed;
  }
  tell_faults(suite, faults, rounds);
}

ace_heap *make_heap() {
  for (;;) {
    if (ace_heap *heap = ace_heap_create(nullptr)) return heap;
  }
}

// Of a heap whose blocks are all freed.
unsigned end_heap(ace_heap *heap) {
  ace_trim(heap, SIZE_MAX);
  const unsigned broken = (stats_of(heap).live_blocks != 0) + !audit(heap).empty();
  ace_heap_destroy(heap);
  return broken;
}

// Blocks that any thread puts down and any other picks up.
class Shelf {
 public:
  void *exchange(uint64_t where, void *p) {
    return places_[where % kPlaces].exchange(p, std::memory_order_acq_rel);
  }
  unsigned clear() {
    unsigned broken = 0;
    for (auto &place : places_) {
      void *p = place.exchange(nullptr);
      if (p == nullptr) continue;
      broken += !is_whole(p);
      ace_free(p);
    }
    return broken;
  }

 private:
  static constexpr unsigned kPlaces = 128;
  std::atomic<void *> places_[kPlaces] = {};
};

void *write_if_given(void *p, size_t size) { return p == nullptr ? nullptr : write_block(p, size); }

TEST(ThreadFaults, BlocksTravelToTheirHeap) {
  inject("remote frees", wanted(1000), [](uint64_t seed) {
    Shelf shelf;
    ace_heap *heap = make_heap();
    std::atomic<unsigned> broken{0};
    std::atomic<bool> over{false};
    run_together(3, [&](unsigned who) {
      Sizes sizes(seed * 10 + who);
      if (who == 0) {
        for (unsigned i = 0; i < 6000 / kSlowness; ++i) {
          const size_t size = sizes.next() * (i % 64 == 0 ? 40 : 1);
          void *p = shelf.exchange(sizes.random(), write_if_given(ace_heap_alloc(heap, size), size));
          if (p != nullptr) {
            broken += !is_whole(p);
            ace_heap_free(heap, p);
          }
          if (i % 200 == 0) ace_trim(heap, SIZE_MAX);
          if (i % 333 == 0) broken += !audit(heap).empty();
        }
        over = true;
        return;
      }
      while (!over) {
        void *p = shelf.exchange(sizes.random(), nullptr);
        if (p == nullptr) continue;
        broken += !is_whole(p);
        ace_free(p);
      }
    });
    broken += shelf.clear();
    return broken + end_heap(heap);
  });
}

TEST(ThreadFaults, PurgersAgainstAHolder) {
  inject("trims", wanted(600), [](uint64_t seed) {
    OptionGuard delay("idle_delay", "1ms");
    ace_heap *heap = make_heap();
    std::atomic<bool> over{false};
    unsigned broken = 0;
    run_together(3, [&](unsigned who) {
      if (who != 0) {
        while (!over) ace_trim_shared(heap, who == 1 ? SIZE_MAX : 64 << 10);
        return;
      }
      Sizes sizes(seed);
      std::vector<void *> blocks;
      for (unsigned day = 0; day < 12 / kSlowness; ++day) {
        ace_hint(heap, ACE_HINT_COLLECT_BEGIN, day % 3);
        for (unsigned i = 0; i < 1500; ++i) {
          const size_t size = sizes.next();
          void *p = write_if_given(ace_heap_alloc(heap, size), size);
          if (p != nullptr) blocks.push_back(p);
        }
        size_t keep = 0;
        for (void *p : blocks) {
          broken += !is_whole(p);
          if (day % 4 != 3 && sizes.random() % 8 == 0) {
            blocks[keep++] = p;
          } else {
            ace_heap_free(heap, p);
          }
        }
        blocks.resize(keep);
        ace_hint(heap, ACE_HINT_COLLECT_END, 0);
        broken += !audit(heap).empty();
      }
      for (void *p : blocks) ace_heap_free(heap, p);
      over = true;
    });
    return broken + end_heap(heap);
  });
}

TEST(ThreadFaults, ThreadsEndAndHeapsAreTakenUp) {
  inject("threads", wanted(1000), [](uint64_t seed) {
    Shelf shelf;
    std::atomic<unsigned> broken{0};
    for (unsigned wave = 0; wave < 4; ++wave) {
      run_together(4, [&](unsigned who) {
        Sizes sizes(seed * 100 + wave * 10 + who);
        for (unsigned i = 0; i < 1500 / kSlowness; ++i) {
          const size_t size = sizes.next();
          void *p = shelf.exchange(sizes.random(), write_if_given(ace_alloc(size), size));
          if (p == nullptr) continue;
          broken += !is_whole(p);
          const size_t other = sizes.next();
          void *moved = i % 16 == 0 ? ace_realloc(p, other) : nullptr;
          ace_free(moved != nullptr ? moved : p);
          if (i % 100 == 0) ace_heap_destroy(ace_heap_create(nullptr));
        }
      });
    }
    broken += shelf.clear();
    return broken.load();
  });
}

}  // namespace
}  // namespace ace::test
