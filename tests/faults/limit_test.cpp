// Limits: of the system's, as where it commits no more memory than it has, and a heap's own with a host that
// makes room. What is refused is NULL, and the rest goes on.
#include <gtest/gtest.h>

#include "faults/faults.h"
#include "stress/threads.h"
#include "unit/fake_os.h"
#include "unit/superslab_pool.h"

namespace ace::test {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

struct Filled {
  std::vector<void *> blocks;
  unsigned refused = 0;
};

// Until `give_up` allocations in a row are refused.
Filled fill_up(ace_heap *heap, uint64_t seed, unsigned give_up) {
  Filled filled;
  Sizes sizes(seed);
  for (unsigned in_a_row = 0; in_a_row < give_up;) {
    const size_t size = sizes.next();
    void *p = ace_heap_alloc(heap, size);
    if (p == nullptr) {
      ++filled.refused;
      ++in_a_row;
      continue;
    }
    in_a_row = 0;
    filled.blocks.push_back(write_block(p, size));
  }
  return filled;
}

unsigned free_all(ace_heap *heap, std::vector<void *> &blocks) {
  unsigned broken = 0;
  for (void *p : blocks) {
    broken += !is_whole(p);
    ace_heap_free(heap, p);
  }
  blocks.clear();
  return broken;
}

// As with vm.overcommit_memory=2, where each mapping counts whole.
TEST(SystemLimit, AHeapThatRunsIntoItGoesOnWithWhatItHas) {
  uint64_t faults = 0, rounds = 0;
  for (int64_t most : {10, 20, 50, 100}) {
    FakeOs os;
    empty_superslab_pool(os);
    const int64_t before = os.mapped();
    ace_heap *heap = ace_heap_create(nullptr);
    os.limit_mapped(os.mapped() + most * kMiB);
    for (uint64_t day = 0; day < 4; ++day, ++rounds) {
      Filled filled = fill_up(heap, day, 40);
      EXPECT_GE(filled.refused, 40u);
      EXPECT_EQ(audit(heap), "");
      EXPECT_GT(stats_of(heap).live_bytes, static_cast<uint64_t>(most * kMiB / 2));
      // The next of a size that is there is given at once.
      void *p = filled.blocks.back();
      size_t size;
      memcpy(&size, p, sizeof size);
      ace_heap_free(heap, p);
      filled.blocks.back() = ace_heap_alloc(heap, size);
      ASSERT_NE(filled.blocks.back(), nullptr);
      write_block(filled.blocks.back(), size);
      EXPECT_EQ(free_all(heap, filled.blocks), 0u);
      ace_trim(heap, SIZE_MAX);
      EXPECT_EQ(stats_of(heap).resident_bytes, 0u);
    }
    faults += os.injected();
    ace_heap_destroy(heap);
    os.fail_no_more();
    empty_superslab_pool(os);
    EXPECT_EQ(os.mapped(), before);
  }
  tell_faults("mapped bytes limited", faults, rounds);
}

// A host as VMs are: at the soft limit it collects; what is still missing comes out of a reserve, by a limit
// that is raised once, so that it has room to say that memory is short.
struct Host {
  ace_heap *heap = nullptr;
  std::vector<void *> garbage;
  size_t reserve = 0;
  unsigned asked = 0;

  static int make_room(ace_heap *heap, size_t missing, void *context) {
    auto *host = static_cast<Host *>(context);
    ++host->asked;
    if (!host->garbage.empty()) {
      for (void *p : host->garbage) ace_heap_free(heap, p);
      host->garbage.clear();
      return 1;
    }
    if (host->reserve < missing) return 0;
    ace_heap_set_limit(heap, ace_heap_set_limit(heap, 0) + host->reserve);
    host->reserve = 0;
    return 1;
  }
};

TEST(HeapLimit, CollectsThenTakesTheReserveThenSaysNo) {
  for (unsigned permille : {0u, 100u, 400u}) {
    FakeOs os;
    Host host;
    ace_heap_config config{};
    config.struct_size = sizeof config;
    config.flags = ACE_HEAP_NO_WORKER;
    config.limit = static_cast<size_t>(8 * kMiB);
    config.on_limit = Host::make_room;
    config.on_limit_context = &host;
    ace_heap *heap = ace_heap_create(&config);
    ASSERT_NE(heap, nullptr);
    os.fail_at_random(permille, permille);
    host.reserve = static_cast<size_t>(kMiB);
    Sizes sizes(permille);
    std::vector<void *> kept;
    for (int i = 0; i < 30'000; ++i) {
      const size_t size = 16 + sizes.random() % 2000;
      void *p = ace_heap_alloc(heap, size);
      if (p == nullptr) continue;
      (i % 3 == 0 ? kept : host.garbage).push_back(write_block(p, size));
      if (i % 1000 == 0) EXPECT_EQ(audit(heap), "");
    }
    const ace_stats s = stats_of(heap);
    EXPECT_GT(host.asked, 1u);
    EXPECT_EQ(host.reserve, 0u);
    EXPECT_GT(s.limit_failures + s.system_failures, 0u);
    EXPECT_LE(s.resident_bytes, static_cast<uint64_t>(9 * kMiB));
    EXPECT_EQ(free_all(heap, kept), 0u);
    EXPECT_EQ(free_all(heap, host.garbage), 0u);
    EXPECT_EQ(stats_of(heap).live_blocks, 0u);
    EXPECT_EQ(audit(heap), "");
    ace_heap_destroy(heap);
  }
}

}  // namespace
}  // namespace ace::test
