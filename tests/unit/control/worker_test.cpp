// Trims that come later: by the real thread.
#include "control/worker.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "unit/control/deferred.h"
#include "unit/fake_os.h"
#include "unit/own_thread.h"

namespace ace {
namespace {

using test::Deferred;
using test::FakeOs;
using test::is_asleep;
using test::kMiB;
using test::kMillisecond;
using test::OptionGuard;
using test::voluntary_switches;
using test::wait_until;

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
