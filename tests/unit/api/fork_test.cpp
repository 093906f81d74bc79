// A child that is born while another thread is in the middle of something: the fork waits until that is over.
// Each case is held there by the fake system; tests/stress forks at any moment.
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <thread>

#include "api/thread_heap.h"
#include "heap/heap.h"
#include "unit/fake_os.h"
#include "unit/heap_test.h"
#include "wire/options.h"

namespace ace {
namespace {

using test::FakeOs;
using test::HeapTest;
using test::OsCall;

// A host's own handlers, registered before there is any heap.
bool g_host_allocates = false;
void allocate_as_host() {
  if (g_host_allocates) ace_heap_destroy(ace_heap_create(nullptr));
}
[[gnu::constructor]] void watch_forks_as_host() {
  pthread_atfork(allocate_as_host, allocate_as_host, allocate_as_host);
}

class Fork : public HeapTest {
 protected:
  Fork() { make(); }

  // Forks, and lets `live` run in the child; 0, or how the child ended.
  static int child_of(const std::function<bool()> &live) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(10);  // a lock that nobody can give back
      _exit(live() ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return status;
  }

  // The same while another thread, in `work`, is held in a call to the system.
  int child_during(OsCall call, const std::function<void()> &work, const std::function<bool()> &live) {
    fake.hold(call);
    std::thread worker(work);
    while (!fake.is_held(call)) usleep(100);
    std::thread later([&] {
      usleep(100'000);
      fake.let_go(call);
    });
    const int status = child_of([&] { return !fake.is_held(call) && live(); });
    worker.join();
    later.join();
    return status;
  }

  FakeOs fake;
};

TEST_F(Fork, WhileAnotherThreadMapsASuperslab) {
  // All that is kept or left over goes first, so that the next superslab must be mapped.
  std::vector<ace_heap *> heaps;
  const uint64_t calls = fake.calls(OsCall::kMap);
  while (fake.calls(OsCall::kMap) < calls + 2) heaps.push_back(ace_heap_create(nullptr));
  auto drain = [&] {
    const uint64_t before = fake.calls(OsCall::kMap);
    while (fake.calls(OsCall::kMap) == before) heaps.push_back(ace_heap_create(nullptr));
  };
  EXPECT_EQ(child_during(OsCall::kMap, drain,
                         [&] {
                           ace_heap *fresh = ace_heap_create(nullptr);
                           return fresh != nullptr && ace_heap_alloc(fresh, 100) != nullptr;
                         }),
            0);
  for (ace_heap *h : heaps) ace_heap_destroy(h);
}

TEST_F(Fork, WhileAnotherThreadGivesPagesBack) {
  auto blocks = fill(100'000, 64);
  for (size_t i = 1; i < blocks.size(); ++i) ace_heap_free(heap, blocks[i]);
  EXPECT_EQ(child_during(
                OsCall::kPurge, [&] { ace_trim_shared(heap, SIZE_MAX); },
                [&] {
                  // No claim and no pin is left behind.
                  return test::audit(heap).empty() && ace_heap_alloc(heap, 64) != nullptr &&
                         ace_trim(heap, SIZE_MAX) != 1;
                }),
            0);
}

TEST_F(Fork, WhileAnotherThreadReadsAHeapsList) {
  std::atomic<bool> inside{false}, over{false};
  std::thread reader([&] {
    heap->roster_lock.lock();
    inside = true;
    usleep(100'000);
    over = true;
    heap->roster_lock.unlock();
  });
  while (!inside) usleep(100);
  EXPECT_EQ(child_of([&] {
              return over && ace_heap_alloc(heap, 20'000) != nullptr && ace_trim_shared(heap, 0) == 0;
            }),
            0);
  reader.join();
}

TEST_F(Fork, WhileAnotherThreadSetsAnOption) {
  std::atomic<bool> inside{false};
  std::thread setter([&] {
    lock_options();
    inside = true;
    usleep(100'000);
    unlock_options();
  });
  while (!inside) usleep(100);
  EXPECT_EQ(child_of([] { return ace_option_set("verbose", "off") == 0; }), 0);
  setter.join();
}

TEST_F(Fork, AHostsHandlersMayAllocate) {
  EXPECT_EQ(child_of([] {
              g_host_allocates = true;
              return child_of([] { return true; }) == 0;
            }),
            0);
}

TEST_F(Fork, TheChildsFreesAreItsOwn) {
  void *p = fill(1, 64)[0];
  EXPECT_EQ(child_of([&] {
              ace_heap_free(heap, p);
              return stats().live_blocks == 0 && test::audit(heap).empty();
            }),
            0);
  EXPECT_EQ(stats().live_blocks, 1u);
  EXPECT_EQ(*static_cast<unsigned char *>(p), 0xa5);
}

// The first thread's heap is found by its thread pointer, which the child may give to a thread of its own.
TEST_F(Fork, FromAnotherThreadThanTheFirst) {
  ace_free(ace_alloc(64));
  ASSERT_NE(g_first_thread.pointer.load(), nullptr);
  int status = -1;
  std::thread([&] {
    ace_heap *own = ace_thread_heap();
    status = child_of([&] {
      return g_first_thread.pointer.load() == nullptr && ace_thread_heap() == own && ace_alloc(64) != nullptr &&
             g_threads_barred;  // it would keep the process when that thread ends
    });
  }).join();
  EXPECT_EQ(status, 0);
  EXPECT_NE(g_first_thread.pointer.load(), nullptr) << "the parent's is as it was";
  EXPECT_EQ(child_of([] { return g_first_thread.pointer.load() != nullptr && ace_alloc(64) != nullptr; }), 0);
}

}  // namespace
}  // namespace ace
