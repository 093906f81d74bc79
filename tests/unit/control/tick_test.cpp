// Trims that come later: by ace_tick, and a clock that the test moves.
#include "control/worker.h"

#include <sys/wait.h>
#include <unistd.h>

#include "unit/control/deferred.h"
#include "unit/fake_os.h"
#include "unit/superslab_pool.h"

namespace ace {
namespace {

using test::Deferred;
using test::FakeOs;
using test::kMiB;
using test::kMillisecond;
using test::OptionGuard;

class DeferredByTick : public Deferred {
 protected:
  DeferredByTick() {
    make_with_worker();
    fake.advance(60'000 * kMillisecond);
    ace_tick(UINT64_MAX);  // what other heaps of the process still had to do
  }
  FakeOs fake;
  OptionGuard mode{"mode", "static"}, delay{"idle_delay", "100ms"};
};

TEST_F(DeferredByTick, NothingIsDueWhereNothingWasAsked) { EXPECT_EQ(ace_tick(UINT64_MAX), UINT64_MAX); }

TEST_F(DeferredByTick, MemoryComesBackThoughTheProgramIsSilent) {
  auto blocks = swell();
  shrink(blocks);
  const uint64_t before = resident();
  collect_young();
  EXPECT_EQ(resident(), before);
  EXPECT_EQ(ace_tick(UINT64_MAX), 100 * kMillisecond);
  fake.advance(60 * kMillisecond);
  EXPECT_EQ(ace_tick(UINT64_MAX), 40 * kMillisecond);
  EXPECT_EQ(resident(), before) << "too early";
  fake.advance(40 * kMillisecond);
  EXPECT_EQ(ace_tick(UINT64_MAX), UINT64_MAX);
  EXPECT_LT(resident(), before / 4);
  EXPECT_EQ(ace_tick(UINT64_MAX), UINT64_MAX);
}

TEST_F(DeferredByTick, ABusyProgramIsLeftAlone) {
  auto blocks = swell();
  shrink(blocks);
  collect_young();
  const uint64_t before = resident();
  for (int i = 0; i < 5; ++i) {
    fill(2 * kSlabSize / 64, 64);  // it carves: not quiet
    fake.advance(100 * kMillisecond);
    EXPECT_EQ(ace_tick(UINT64_MAX), 100 * kMillisecond);
    EXPECT_EQ(resident(), before) << i;
  }
  fake.advance(100 * kMillisecond);
  ace_tick(UINT64_MAX);
  EXPECT_LT(resident(), before / 4) << "now it was quiet for a whole delay";
}

TEST_F(DeferredByTick, PatienceEnds) {
  auto blocks = swell();
  shrink(blocks);
  collect_young();
  const uint64_t before = resident(), asked = heap->trim_asked, taken = heap->taken_at_hint;
  for (int i = 0; i < 11; ++i) {
    fill(2 * kSlabSize / 64, 64);
    fake.advance(100 * kMillisecond);
    ace_tick(UINT64_MAX);
  }
  EXPECT_LT(resident(), before);
  EXPECT_GT(heap->trim_asked, asked) << "from here on it counts anew";
  EXPECT_GT(heap->taken_at_hint, taken);
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(DeferredByTick, AFullCollectionAfterLongRestGivesBackAtOnce) {
  auto blocks = swell();
  shrink(blocks);
  const uint64_t before = resident();
  ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 0);
  ace_hint(heap, ACE_HINT_COLLECT_END, 0);
  EXPECT_LT(resident(), before / 4);
  EXPECT_EQ(ace_tick(UINT64_MAX), UINT64_MAX);
}

TEST_F(DeferredByTick, TheEarliestOfSeveralHeapsIsTold) {
  auto blocks = swell();
  shrink(blocks);
  collect_young();
  fake.advance(30 * kMillisecond);
  ace_heap *first = std::exchange(heap, nullptr);
  make_with_worker();
  blocks = swell();
  shrink(blocks);
  collect_young();
  EXPECT_EQ(ace_tick(UINT64_MAX), 70 * kMillisecond);
  ace_heap_destroy(first);
  EXPECT_EQ(ace_tick(UINT64_MAX), 100 * kMillisecond);
}

TEST_F(DeferredByTick, ATrimThatWasDoneByAHintIsNotDoneAgain) {
  auto blocks = swell();
  shrink(blocks);
  collect_young();
  ace_hint(heap, ACE_HINT_IDLE_BEGIN, 0);
  EXPECT_EQ(ace_tick(UINT64_MAX), UINT64_MAX);
}

TEST_F(DeferredByTick, HeapsThatForbidTheWorkerNeverWait) {
  make();
  auto blocks = swell();
  shrink(blocks);
  collect_young();
  EXPECT_EQ(ace_tick(UINT64_MAX), UINT64_MAX);
}

TEST_F(DeferredByTick, OptionWorkerOffNeverWaits) {
  OptionGuard off("worker", "off");
  auto blocks = swell();
  shrink(blocks);
  collect_young();
  EXPECT_EQ(ace_tick(UINT64_MAX), UINT64_MAX);
}

TEST_F(DeferredByTick, InModeOffWhatWasPutOffStays) {
  auto blocks = swell();
  shrink(blocks);
  collect_young();
  const uint64_t before = resident();
  OptionGuard off("mode", "off");
  fake.advance(100 * kMillisecond);
  EXPECT_EQ(ace_tick(UINT64_MAX), UINT64_MAX);
  EXPECT_EQ(resident(), before);
}

TEST_F(DeferredByTick, ATickKeepsToItsBudget) {
  auto blocks = swell();
  shrink(blocks);
  collect_young();
  fake.advance(100 * kMillisecond);
  fake.slow_purges(kMillisecond / 5);
  uint64_t before = resident();
  int ticks = 0;
  for (uint64_t rest = 0; rest != UINT64_MAX; ++ticks) {
    const uint64_t begin = os().now();
    rest = ace_tick(2 * kMillisecond);
    EXPECT_LT(os().now() - begin, 5 * kMillisecond);  // a part has some calls, where survivors lie between
    if (rest == 0) EXPECT_LT(resident(), before);
    before = resident();
    ASSERT_LT(ticks, 200);
  }
  EXPECT_GT(ticks, 3);
  EXPECT_LT(resident(), 2 * kMiB);
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(DeferredByTick, ATickWithoutTimeDoesNothingAndTellsThatMuchIsDue) {
  auto blocks = swell();
  shrink(blocks);
  collect_young();
  EXPECT_EQ(ace_tick(0), 100 * kMillisecond);
  fake.advance(100 * kMillisecond);
  const uint64_t before = resident();
  EXPECT_EQ(ace_tick(0), 0u);
  EXPECT_EQ(resident(), before);
  EXPECT_EQ(ace_tick(UINT64_MAX), UINT64_MAX);
  EXPECT_LT(resident(), 2 * kMiB);
}

TEST_F(DeferredByTick, WhatAHintGivesBackAtOnceGoesByStepsToo) {
  for (ace_hint_code hint : {ACE_HINT_COLLECT_END, ACE_HINT_IDLE_BEGIN}) {
    for (const char *mode : {"static", "learn"}) {
      OptionGuard guard("mode", mode), tick("worker", "tick");
      fake.advance(60'000 * kMillisecond);  // a collection that comes after a while
      auto blocks = swell();
      shrink(blocks);
      const uint64_t before = resident();
      if (hint == ACE_HINT_COLLECT_END) ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 0);
      ace_hint(heap, hint, 0);
      EXPECT_EQ(resident(), before) << mode;
      fake.slow_purges(2 * kMillisecond);
      EXPECT_EQ(ace_tick(kMillisecond), 0u) << mode;
      EXPECT_LT(resident(), before) << mode;
      EXPECT_GT(resident(), 2 * kMiB) << mode;
      EXPECT_EQ(ace_tick(UINT64_MAX), UINT64_MAX) << mode;
      EXPECT_LT(resident(), 2 * kMiB) << mode;
      fake.slow_purges(0);
    }
  }
}

TEST_F(DeferredByTick, WhoForksOrIsShortOfMemoryDoesNotWaitForATick) {
  OptionGuard tick("worker", "tick");
  for (ace_hint_code hint : {ACE_HINT_FORK_BEFORE, ACE_HINT_PRESSURE}) {
    auto blocks = swell();
    shrink(blocks);
    ace_hint(heap, hint, 0);
    EXPECT_LT(resident(), 2 * kMiB) << hint;
  }
}

TEST_F(DeferredByTick, ADestroyedHeapGoesBackALittleLater) {
  ace_heap_config config{};
  config.struct_size = sizeof config;
  ace_heap *other = ace_heap_create(&config);
  for (int i = 0; i < 100'000; ++i) memset(ace_heap_alloc(other, 64), 1, 64);
  memset(ace_heap_alloc(other, 5 * kMiB), 1, 5 * kMiB);
  void *kept = ace_heap_alloc(other, 3 * kMiB);
  ace_heap_free(other, memset(kept, 1, 3 * kMiB));
  void *block = ace_heap_alloc(other, 64);
  OptionGuard tick("worker", "tick");
  fake.take_purged();
  const uint64_t unmapped = fake.calls(test::OsCall::kUnmap);
  ace_heap_destroy(other);
  EXPECT_TRUE(fake.take_purged().empty());
  EXPECT_EQ(fake.calls(test::OsCall::kUnmap), unmapped);
  EXPECT_EQ(ace_owner_of(block), nullptr);
  EXPECT_EQ(ace_tick(UINT64_MAX), kMillisecond);
  EXPECT_TRUE(fake.take_purged().empty());
  fake.advance(kMillisecond);
  EXPECT_EQ(ace_tick(0), 0u);
  EXPECT_EQ(ace_tick(UINT64_MAX), UINT64_MAX);
  EXPECT_GE(fake.take_purged().size(), 4u);
  EXPECT_EQ(fake.calls(test::OsCall::kUnmap), unmapped + 3 + 2) << "the large blocks, 2 MiB at a time";
}

TEST_F(DeferredByTick, OfADestroyedHardenedHeapNotAPageMoreGoesBack) {
  test::empty_superslab_pool(fake);
  const int64_t before = fake.mapped();
  ace_heap_config config{};
  config.struct_size = sizeof config;
  config.flags = ACE_HEAP_HARDENED;
  ace_heap *other = ace_heap_create(&config);
  memset(ace_heap_alloc(other, 7 * kMiB), 1, 7 * kMiB);
  OptionGuard tick("worker", "tick");
  ace_heap_destroy(other);
  fake.advance(kMillisecond);
  EXPECT_EQ(ace_tick(UINT64_MAX), UINT64_MAX);
  test::empty_superslab_pool(fake);
  EXPECT_EQ(fake.mapped(), before);
}

TEST_F(DeferredByTick, NoMoreThan256MiBOfDestroyedHeapsWait) {
  OptionGuard tick("worker", "tick");
  const auto goes_at_once = [this](int blocks) {
    ace_heap_config config{};
    config.struct_size = sizeof config;
    ace_heap *other = ace_heap_create(&config);
    for (; blocks != 0; --blocks) EXPECT_NE(ace_heap_alloc(other, 100 * kMiB), nullptr);
    const int64_t before = fake.mapped();
    ace_heap_destroy(other);
    const int64_t at_once = before - fake.mapped();
    fake.advance(kMillisecond);
    EXPECT_EQ(ace_tick(UINT64_MAX), UINT64_MAX);
    return at_once;
  };
  EXPECT_GE(goes_at_once(4), static_cast<int64_t>(200 * kMiB));
  EXPECT_LT(goes_at_once(4), static_cast<int64_t>(300 * kMiB));
  EXPECT_EQ(goes_at_once(2), 0) << "what waited has gone";
}

TEST_F(DeferredByTick, WhatWaitsGoesBackBeforeAFork) {
  OptionGuard tick("worker", "tick");
  ace_heap_config config{};
  config.struct_size = sizeof config;
  ace_heap *other = ace_heap_create(&config);
  for (int i = 0; i < 100'000; ++i) memset(ace_heap_alloc(other, 64), 1, 64);
  fake.take_purged();
  ace_heap_destroy(other);
  EXPECT_TRUE(fake.take_purged().empty());
  const pid_t child = fork();
  if (child == 0) _exit(0);
  EXPECT_FALSE(fake.take_purged().empty());
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
}

TEST_F(DeferredByTick, WhileAForkIsUnderWayNoThreadIsStartedAndAllWaits) {
  ace_heap_config config{};
  config.struct_size = sizeof config;
  ace_heap *other = ace_heap_create(&config);
  for (int i = 0; i < 100'000; ++i) memset(ace_heap_alloc(other, 64), 1, 64);
  auto blocks = swell();
  shrink(blocks);
  pause_worker();  // as before a fork by another thread
  fake.take_purged();
  fake.fail_always(test::OsCall::kStartThread);
  fake.live();  // else none is asked for
  const uint64_t starts = fake.calls(test::OsCall::kStartThread);
  collect_young();
  ace_heap_destroy(other);
  EXPECT_EQ(fake.calls(test::OsCall::kStartThread), starts);
  EXPECT_TRUE(fake.take_purged().empty());
  lock_worker();
  resume_worker();
  unlock_worker();
  collect_young();
  EXPECT_GT(fake.calls(test::OsCall::kStartThread), starts);
}

TEST_F(DeferredByTick, BeforeAHeapIsGivenBackLaterItsCurrentSlabsAreRetired) {
  ace_hint(heap, ACE_HINT_COLLECT_END, 0);
  fake.advance(kMillisecond);
  auto blocks = swell();
  blocks.resize(blocks.size() / 2);  // as much lives as is free: not a collapse
  free_all(blocks);
  ace_heap_free(heap, ace_heap_alloc(heap, 4096));
  ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 0);
  ace_hint(heap, ACE_HINT_COLLECT_END, 0);
  EXPECT_EQ(ace_tick(UINT64_MAX), 100 * kMillisecond);
  EXPECT_EQ(heap->slabs[class_of(4096)].current, nullptr) << "the worker cannot do that";
}

TEST_F(DeferredByTick, YoungCollectionsComeTooOftenToRetireCurrentSlabs) {
  auto blocks = swell();
  shrink(blocks);
  ace_heap_free(heap, ace_heap_alloc(heap, 4096));
  collect_young();
  EXPECT_EQ(ace_tick(UINT64_MAX), 100 * kMillisecond);
  EXPECT_NE(heap->slabs[class_of(4096)].current, nullptr);
}

TEST_F(DeferredByTick, WhatBecomesEmptyHasCurrentSlabsRetiredOnceADelay) {
  ace_hint(heap, ACE_HINT_BURST_END, 0);  // a host that gives hints
  ASSERT_NE(heap->on_spare, nullptr);
  for (bool asks : {true, false, true}) {
    heap->retire_asked = false;
    EXPECT_TRUE(heap->on_spare(*heap));
    EXPECT_EQ(heap->retire_asked, asks);
    fake.advance(60 * kMillisecond);
  }
}

TEST_F(DeferredByTick, WhatADestroyedHeapLeftServesTheNext) {
  OptionGuard tick("worker", "tick");
  const auto live_and_end = [] {
    ace_heap_config config{};
    config.struct_size = sizeof config;
    ace_heap *other = ace_heap_create(&config);
    for (int i = 0; i < 100'000; ++i) {
      auto *block = static_cast<unsigned char *>(ace_heap_calloc(other, 1, 64, 0));
      EXPECT_EQ(block[0] | block[63], 0);
      memset(block, 1, 64);
    }
    ace_stats stats;
    ace_heap_stats(other, &stats, sizeof stats);
    ace_heap_destroy(other);
    return stats.mapped_bytes;
  };
  live_and_end();
  const uint64_t maps = fake.calls(test::OsCall::kMap);
  for (int i = 0; i < 20; ++i) live_and_end();
  EXPECT_EQ(fake.calls(test::OsCall::kMap), maps);
  fake.advance(kMillisecond);
  EXPECT_EQ(ace_tick(UINT64_MAX), UINT64_MAX);
}

TEST_F(DeferredByTick, WhereNobodyComesLaterADestroyedHeapGoesBackAtOnce) {
  for (const char *name : {"worker", "mode"}) {
    OptionGuard off(name, "off");
    ace_heap_config config{};
    config.struct_size = sizeof config;
    ace_heap *other = ace_heap_create(&config);
    for (int i = 0; i < 100'000; ++i) memset(ace_heap_alloc(other, 64), 1, 64);
    fake.take_purged();
    ace_heap_destroy(other);
    EXPECT_GE(fake.take_purged().size(), 4u) << name;
    EXPECT_EQ(ace_tick(UINT64_MAX), UINT64_MAX) << name;
  }
}

TEST_F(DeferredByTick, ALimitlessClockMoveIsHarmless) {
  auto blocks = swell();
  shrink(blocks);
  collect_young();
  fake.advance(uint64_t{1} << 50);
  EXPECT_EQ(ace_tick(UINT64_MAX), UINT64_MAX);
  EXPECT_LT(resident(), 2 * kMiB);
}

}  // namespace
}  // namespace ace
