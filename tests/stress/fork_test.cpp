// Children that are born while other threads allocate, free, trim and end: every lock is free in them, every
// list whole.
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/experiment.h"
#include "stress/threads.h"

namespace ace::test {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

// The thread sanitizer and qemu-user (tests/cross) end a child that starts a thread.
bool child_may_have_threads() {
#if defined(__SANITIZE_THREAD__)
  return false;
#else
  return getenv("QEMU_PROGRAM") == nullptr;
#endif
}

// What a child does; its exit status. `mine` is a heap that the forking thread held.
int live_as_child(ace_heap *mine, void *kept) {
  alarm(30);  // a lock that nobody can give back ends with a signal
  if (!child_may_have_threads()) ace_option_set("worker", "off");
  if (!is_whole(kept)) return 2;
  for (int i = 0; i < 2000; ++i) {
    const size_t size = 16 + static_cast<size_t>(i) * 7 % 9000;
    void *p = write_block(ace_alloc(size), size);
    void *q = write_block(ace_heap_alloc(mine, size), size);
    if (!is_whole(p) || !is_whole(q)) return 3;
    ace_free(p);
    ace_heap_free(mine, q);
  }
  ace_hint(mine, ACE_HINT_FORK_CHILD, 0);
  ace_trim(mine, SIZE_MAX);
  if (!audit(mine).empty() || !audit(ace_thread_heap()).empty()) return 4;
  ace_heap *fresh = ace_heap_create(nullptr);
  ace_free(ace_heap_alloc(fresh, 100));
  ace_heap_destroy(fresh);
  const int null = open("/dev/null", O_WRONLY);
  if (ace_report(null, "json") != 0) return 5;
  ace_tick(UINT64_MAX);
  ace_option_set("verbose", "off");
  if (!is_whole(kept)) return 6;
  ace_heap_free(mine, kept);
  ace_heap_destroy(mine);
  return 0;
}

std::string fork_and_live(ace_heap *mine, void *kept) {
  const pid_t child = fork();
  if (child == 0) _exit(live_as_child(mine, kept));
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) return strsignal(WTERMSIG(status));
  return WEXITSTATUS(status) == 0 ? "" : "status " + std::to_string(WEXITSTATUS(status));
}

TEST(ForkStress, UnderAllocation) {
  OptionGuard delay("idle_delay", "1ms");
  ace_heap *mine = ace_heap_create(nullptr);
  void *kept = write_block(ace_heap_alloc(mine, 5000), 5000);
  ace_free(ace_alloc(16));
  std::atomic<bool> over{false};
  std::atomic<unsigned> started{0};
  std::vector<std::thread> threads;
  for (unsigned who = 0; who < 3; ++who) {
    threads.emplace_back([&, who] {
      Sizes sizes(who);
      ++started;
      for (unsigned i = 0; !over; ++i) {
        const size_t size = sizes.next();
        ace_free(write_block(ace_alloc(size), size));
        if (i % 64 == 0 && who == 0) ace_trim_shared(mine, SIZE_MAX);
        if (i % 64 == 0 && who == 1) ace_heap_destroy(ace_heap_create(nullptr));
        if (i % 64 == 0 && who == 2) std::thread([] { ace_free(ace_alloc(100)); }).join();
      }
    });
  }
  while (started < 3) std::this_thread::yield();
  for (unsigned i = 0; i < 40 / kSlowness; ++i) {
    ace_hint(mine, ACE_HINT_FORK_BEFORE, 0);
    ASSERT_EQ(fork_and_live(mine, kept), "") << "child " << i;
  }
  over = true;
  for (std::thread &thread : threads) thread.join();
  EXPECT_TRUE(is_whole(kept));
  EXPECT_EQ(audit(mine), "");
  ace_heap_destroy(mine);
}

#ifndef __SANITIZE_THREAD__  // which allows no new thread in the child of a process with threads

TEST(ForkStress, TheChildHasAWorkerOfItsOwn) {
  if (!kHints) GTEST_SKIP() << "this build hears no hints";
  OptionGuard delay("idle_delay", "5ms");
  auto swell_and_collect = [](ace_heap *heap) {
    std::vector<void *> blocks;
    for (size_t i = 0; i < 4 * kMiB / 64; ++i) blocks.push_back(ace_heap_alloc(heap, 64));
    for (void *p : blocks) ace_heap_free(heap, p);
    ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 1);
    ace_hint(heap, ACE_HINT_COLLECT_END, 0);
  };
  auto comes_back = [](ace_heap *heap) {
    ace_stats s;
    for (int i = 0; i < 2000; ++i) {
      ace_heap_stats_shared(heap, &s, sizeof s);
      if (s.resident_bytes < kMiB) return true;
      usleep(10'000);
    }
    return false;
  };
  ace_heap *heap = ace_heap_create(nullptr);
  swell_and_collect(heap);
  EXPECT_TRUE(comes_back(heap));  // the parent has a worker
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    swell_and_collect(heap);
    if (!comes_back(heap)) _exit(1);
    bool ended = false;
    std::thread([&] {
      ace_free(ace_alloc(100));
      ended = true;
    }).join();
    _exit(ended ? 0 : 2);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  ace_heap_destroy(heap);
}

// Both wait for the end of the thread that publishes statistics, and one is done before the other wakes.
TEST(ForkStress, TwoThreadsForkAtOnce) {
  if (!child_may_have_threads()) GTEST_SKIP();
  OptionGuard page("stats_page", "on");
  run_together(2, [](unsigned id) {
    ace_heap *heap = ace_heap_create(nullptr);
    Sizes chance(id + 1);
    for (int round = 0; round < 200; ++round) {
      ace_hint(heap, ACE_HINT_BURST_END, 0);  // which starts that thread
      usleep(static_cast<useconds_t>(chance.random() % 300));
      const pid_t child = fork();
      if (child == 0) _exit(0);
      ace_hint(heap, ACE_HINT_BURST_END, 0);
      int status = -1;
      waitpid(child, &status, 0);
      EXPECT_EQ(status, 0);
    }
    ace_heap_destroy(heap);
  });
}

TEST(ForkStress, ATrimThatWasPendingIsDoneInTheChild) {
  if (!kHints) GTEST_SKIP() << "this build hears no hints";
  OptionGuard delay("idle_delay", "200ms");
  ace_heap *heap = ace_heap_create(nullptr);
  std::vector<void *> blocks;
  for (size_t i = 0; i < 4 * kMiB / 64; ++i) blocks.push_back(write_block(ace_heap_alloc(heap, 64), 64));
  for (void *p : blocks) ace_heap_free(heap, p);
  ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 1);
  ace_hint(heap, ACE_HINT_COLLECT_END, 0);
  const pid_t child = fork();
  if (child == 0) {
    usleep(300'000);
    ace_tick(UINT64_MAX);  // the child's host, which started no worker
    ace_stats s;
    ace_heap_stats(heap, &s, sizeof s);
    _exit(s.resident_bytes < kMiB ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  ace_heap_destroy(heap);
}

#endif

}  // namespace
}  // namespace ace::test
