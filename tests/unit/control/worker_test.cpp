// Trims that come later: by ace_tick and a clock that the test moves, and by the real thread.
#include "control/worker.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <thread>

#include "unit/fake_os.h"
#include "unit/heap_test.h"
#include "unit/own_thread.h"
#include "unit/superslab_pool.h"

namespace ace {
namespace {

using test::FakeOs;
using test::HeapTest;
using test::is_asleep;
using test::kMillisecond;
using test::OptionGuard;
using test::voluntary_switches;
using test::wait_until;

constexpr size_t kMiB = size_t{1} << 20;

class Deferred : public HeapTest {
 protected:
  Deferred() { make_with_worker(); }
  void make_with_worker() { make(0, 0, nullptr, nullptr, 0); }

  std::vector<void *> swell() { return fill(8 * kMiB / 64, 64); }
  void shrink(std::vector<void *> &blocks) {
    for (size_t i = 0; i < blocks.size(); ++i) {
      if (i % 6400 != 0) ace_heap_free(heap, blocks[i]);
    }
  }
  // A young collection: its memory is given back later.
  void collect_young() {
    ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 1);
    ace_hint(heap, ACE_HINT_COLLECT_END, 0);
  }
  uint64_t resident() {
    ace_stats shared;
    ace_heap_stats_shared(heap, &shared, sizeof shared);
    return shared.resident_bytes;
  }
};

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

// ---- the real thread

int worker_thread() { return test::thread_named("ace-worker"); }

// A thread that was just started has its name a little later.
int started_worker() {
  int thread = 0;
  wait_until([&] { return (thread = worker_thread()) != 0; });
  return thread;
}

class DeferredByThread : public Deferred {
 protected:
  // The audit is for a heap at rest: the worker may still be at the last pages.
  ~DeferredByThread() override {
    EXPECT_TRUE(heap == nullptr || wait_until([&] { return test::audit(heap).empty(); })) << test::audit(heap);
  }
};

TEST_F(DeferredByThread, MemoryComesBackWhileTheProgramIsSilentAndThenNothingWakes) {
  OptionGuard delay("idle_delay", "20ms");
  auto blocks = swell();
  const uint64_t before = resident();
  shrink(blocks);
  collect_young();
  EXPECT_TRUE(wait_until([&] { return resident() < before / 4; })) << "still resident: " << resident();

  // Drained and idle: the worker sleeps without a time limit.
  const int thread = worker_thread();
  ASSERT_NE(thread, 0);
  long switches = -1;
  EXPECT_TRUE(wait_until([&] {
    long now = voluntary_switches(thread);
    return now == std::exchange(switches, now);
  }));
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  EXPECT_EQ(voluntary_switches(thread), switches);
}

TEST_F(DeferredByThread, WithOptionTickNoThreadIsStarted) {
  stop_worker();
  OptionGuard delay("idle_delay", "20ms"), tick("worker", "tick");
  auto blocks = swell();
  const uint64_t before = resident();
  shrink(blocks);
  collect_young();
  EXPECT_NE(ace_tick(UINT64_MAX), UINT64_MAX) << "it waits";
  EXPECT_EQ(worker_thread(), 0);
  EXPECT_TRUE(wait_until([&] { return ace_tick(kMillisecond) == UINT64_MAX; }));
  EXPECT_LT(resident(), before / 4);
  EXPECT_EQ(worker_thread(), 0);
}

TEST_F(DeferredByThread, OptionTickEndsTheThreadAndLeavesAllToTheHost) {
  OptionGuard delay("idle_delay", "1ms");
  auto blocks = swell();
  shrink(blocks);
  collect_young();
  ASSERT_TRUE(wait_until([&] { return resident() < 2 * kMiB; }));
  ASSERT_NE(started_worker(), 0);
  OptionGuard tick("worker", "tick");
  blocks = swell();
  shrink(blocks);
  const uint64_t before = resident();
  collect_young();
  EXPECT_TRUE(wait_until([] { return worker_thread() == 0; }));
  EXPECT_EQ(resident(), before);
  EXPECT_TRUE(wait_until([] { return ace_tick(UINT64_MAX) == UINT64_MAX; }));
  EXPECT_LT(resident(), 2 * kMiB);
}

// It takes what is due next for its own while it looks, and the worker goes to sleep meanwhile.
TEST_F(DeferredByThread, ATickBesideTheWorkerDoesNotHaveItSleepForEver) {
  FakeOs fake;
  fake.live();
  OptionGuard mode("mode", "static"), delay("idle_delay", "1ms");
  auto blocks = swell();
  shrink(blocks);
  fake.hold(test::OsCall::kPurge);
  collect_young();
  ASSERT_TRUE(wait_until([&] { return fake.is_held(test::OsCall::kPurge); }));
  ace_heap_config config{};
  config.struct_size = sizeof config;
  ace_heap *ended = ace_heap_create(&config), *first = heap;
  memset(ace_heap_alloc(ended, 3 * kMiB), 1, 3 * kMiB);
  heap = ace_heap_create(&config);
  blocks = swell();
  shrink(blocks);
  ace_option_set("idle_delay", "300ms");
  collect_young();
  ace_heap_destroy(ended);
  fake.hold(test::OsCall::kUnmap);
  std::atomic<bool> over{false};
  std::thread ticks([&] {
    while (!over) ace_tick(UINT64_MAX);
  });
  EXPECT_TRUE(wait_until([&] { return fake.is_held(test::OsCall::kUnmap); }));
  fake.let_go(test::OsCall::kPurge);
  long switches = -1;
  EXPECT_TRUE(wait_until([&] {
    const long now = voluntary_switches(worker_thread());
    return now == std::exchange(switches, now);
  }));
  over = true;
  fake.let_go(test::OsCall::kUnmap);
  ticks.join();
  EXPECT_TRUE(wait_until([&] { return resident() < 2 * kMiB; }));
  ace_heap_destroy(std::exchange(heap, first));
}

TEST_F(DeferredByThread, ASecondTrimIsServedByTheSameThread) {
  OptionGuard delay("idle_delay", "20ms");
  int thread = 0;
  for (int round = 0; round < 3; ++round) {
    auto blocks = swell();
    const uint64_t before = resident();
    shrink(blocks);
    collect_young();
    EXPECT_TRUE(wait_until([&] { return resident() < before / 4; })) << round;
    if (round != 0) EXPECT_EQ(worker_thread(), thread);
    thread = worker_thread();
  }
}

std::atomic<unsigned> g_clock_reads;

TEST_F(DeferredByThread, ManyHeapsThatAreDueOneAfterTheOtherAreLookedAtTogether) {
  constexpr unsigned kHeaps = 2000;
  static OsTable table = real_os();
  table.now = [] {
    ++g_clock_reads;
    return real_os().now();
  };
  g_clock_reads = 0;
  stop_worker();
  std::vector<ace_heap *> heaps(kHeaps);
  for (ace_heap *&one : heaps) one = ace_heap_create(nullptr);
  replace_os(&table);
  const uint64_t begin = real_os().now();
  for (unsigned i = 0; i < kHeaps; ++i) schedule_trim(*heaps[i], begin, begin + i * kMillisecond / 10, 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(kHeaps / 10 + 50));
  stop_worker();
  const uint64_t rounds = (real_os().now() - begin) / (kHeaps * kRestPerHeapNs) + 1;
  replace_os(&real_os());
  for (ace_heap *one : heaps) ace_heap_destroy(one);
  EXPECT_LE(g_clock_reads, 8 * rounds);
}

TEST_F(DeferredByThread, DestroyWithATrimPending) {
  OptionGuard delay("idle_delay", "1ms");
  for (int round = 0; round < 20; ++round) {
    make_with_worker();
    auto blocks = fill(2 * kMiB / 64, 64);
    for (void *block : blocks) ace_heap_free(heap, block);
    collect_young();
    if (round % 2 != 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ace_heap_destroy(std::exchange(heap, nullptr));
}

TEST_F(DeferredByThread, AForkFindsNoWorkerAndWhatItWasToGiveBackGoesBackThen) {
  OptionGuard delay("idle_delay", "1s");
  auto blocks = swell();
  const uint64_t before = resident();
  shrink(blocks);
  collect_young();
  ASSERT_NE(started_worker(), 0);
  const pid_t child = fork();
  if (child == 0) _exit(worker_thread() != 0 ? 1 : resident() >= before / 4 ? 2 : 0);
  EXPECT_EQ(worker_thread(), 0);
  EXPECT_LT(resident(), before / 4);
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_F(DeferredByThread, AForkInModeOffLeavesWhatWasPutOff) {
  OptionGuard delay("idle_delay", "1000s"), mode("mode", "static");
  auto blocks = swell();
  shrink(blocks);
  collect_young();
  ASSERT_NE(started_worker(), 0);
  OptionGuard off("mode", "off");
  const uint64_t before = resident();
  const pid_t child = fork();
  if (child == 0) _exit(0);
  EXPECT_EQ(resident(), before);
  EXPECT_EQ(waitpid(child, nullptr, 0), child);
}

TEST_F(DeferredByThread, AWorkerIsThereAgainAfterAFork) {
  OptionGuard delay("idle_delay", "20ms");
  const auto gives_back = [&] {
    auto blocks = swell();
    const uint64_t before = resident();
    shrink(blocks);
    collect_young();
    return wait_until([&] { return resident() < before / 4; });
  };
  EXPECT_TRUE(gives_back());
  const pid_t child = fork();
  if (child == 0) _exit(gives_back() ? 0 : 1);
  EXPECT_TRUE(gives_back());
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// The child of a raw clone, which runs no fork handlers, has no worker to wait for.
TEST_F(DeferredByThread, AForkInAChildThatKnowsOfNoForkDoesNotWait) {
  OptionGuard delay("idle_delay", "1s");
  auto blocks = swell();
  shrink(blocks);
  collect_young();
  const int worker = started_worker();
  ASSERT_NE(worker, 0);
  ASSERT_TRUE(wait_until([&] { return is_asleep(worker); })) << "its locks would stay taken in the child";
  const auto child = static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr));
  if (child == 0) {
    alarm(20);
    const pid_t grandchild = fork();
    if (grandchild == 0) _exit(0);
    int status = -1;
    _exit(waitpid(grandchild, &status, 0) == grandchild && status == 0 ? 0 : 1);
  }
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// In a process of its own, where no worker runs yet.
using WorkerDeathTest = Deferred;

TEST_F(WorkerDeathTest, NoThreadIsStartedForHeapsThatForbidIt) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        make();
        auto blocks = swell();
        shrink(blocks);
        for (ace_hint_code code : {ACE_HINT_COLLECT_BEGIN, ACE_HINT_COLLECT_END, ACE_HINT_IDLE_BEGIN})
          ace_hint(heap, code, 0);
        collect_young();
        exit(worker_thread() == 0 ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace ace
