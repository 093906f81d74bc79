// A system table for tests: the real one underneath, a clock that only tests move, calls that fail when asked
// to, no threads, and a record of what was purged.
#pragma once
#include <errno.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "control/worker.h"
#include "os/os.h"

namespace ace::test {

enum class OsCall : unsigned { kMap, kUnmap, kPurge, kResize, kMove, kShare, kMakeResident, kGuard };
inline constexpr unsigned kOsCalls = 8;

struct Range {
  uintptr_t from, to;
  bool operator==(const Range &) const = default;
};

// Stands for the system as long as it lives; one at a time. Heaps that were made before it go on with it.
class FakeOs {
 public:
  explicit FakeOs(size_t page_size = real_os().page_size) {
    // The worker would look at heaps whenever the scheduler lets it; under this clock only ace_tick does.
    stop_worker();
    state() = State();
    state().now = real_os().now();
    static OsTable table;
    table = {map,       unmap,    purge,        resize,           move,  now,           now,
             fill_huge, end_huge, start_thread, await_thread_end, share, make_resident, guard,
             random,    page_size};
    replace_os(&table);
  }
  ~FakeOs() { replace_os(&real_os()); }
  FakeOs(const FakeOs &) = delete;
  FakeOs &operator=(const FakeOs &) = delete;

  // The nth call from now on (1: the next) fails, and `more` after it.
  void fail(OsCall call, uint64_t nth, uint64_t more = 0) {
    Failure &failure = state().failures[static_cast<unsigned>(call)];
    failure.first = failure.calls + nth;
    failure.last = failure.first + more;
  }
  void fail_always(OsCall call) { fail(call, 1, UINT64_MAX / 2); }
  void fail_never() {
    for (Failure &failure : state().failures) failure.first = failure.last = 0;
  }
  uint64_t calls(OsCall call) const { return state().failures[static_cast<unsigned>(call)].calls; }

  // The next such call waits, wherever it is made, until let_go.
  void hold(OsCall call) { state().held_call = static_cast<int>(call); }
  bool is_held() const { return state().is_held; }
  void let_go() { state().is_held = false; }

  // How long each call that gives pages back takes from now on.
  void slow_purges(uint64_t ns) { state().purge_ns = ns; }

  void give_huge_pages() { state().has_huge_pages = true; }
  int huge_pages() const { return state().huge_pages; }

  void advance(uint64_t ns) { state().now += ns; }

  // What was purged successfully since the last take.
  std::vector<Range> take_purged() {
    std::lock_guard locked(lock());
    return std::exchange(state().purged, {});
  }

 private:
  struct Failure {
    std::atomic<uint64_t> calls{0}, first{0}, last{0};
    Failure &operator=(const Failure &) {
      calls = first = last = 0;
      return *this;
    }
  };
  struct State {
    std::atomic<uint64_t> now{0}, purge_ns{0};
    Failure failures[kOsCalls];
    std::vector<Range> purged;
    std::atomic<int> held_call{-1};
    std::atomic<bool> is_held{false};
    std::atomic<bool> has_huge_pages{false};
    std::atomic<int> huge_pages{0};
    State &operator=(const State &) {
      for (Failure &failure : failures) failure = Failure();
      purged.clear();
      held_call = -1;
      is_held = has_huge_pages = false;
      huge_pages = 0;
      purge_ns = 0;
      return *this;
    }
  };
  static State &state() {
    static State state;
    return state;
  }
  static std::mutex &lock() {
    static std::mutex mutex;
    return mutex;
  }

  static bool fails(OsCall call) {
    if (int wanted = static_cast<int>(call); state().held_call.compare_exchange_strong(wanted, -1)) {
      state().is_held = true;
      while (state().is_held) usleep(1000);
    }
    Failure &failure = state().failures[static_cast<unsigned>(call)];
    uint64_t n = ++failure.calls;
    return failure.first != 0 && n >= failure.first && n <= failure.last;
  }
  static void *map(size_t size, size_t alignment) {
    return fails(OsCall::kMap) ? nullptr : real_os().map(size, alignment);
  }
  static bool unmap(void *start, size_t size) { return !fails(OsCall::kUnmap) && real_os().unmap(start, size); }
  static bool purge(void *start, size_t size) {
    if (fails(OsCall::kPurge) || !real_os().purge(start, size)) return false;
    state().now += state().purge_ns;
    std::lock_guard locked(lock());
    auto from = reinterpret_cast<uintptr_t>(start);
    state().purged.push_back({from, from + size});
    return true;
  }
  static bool resize(void *start, size_t old_size, size_t new_size) {
    return !fails(OsCall::kResize) && real_os().resize(start, old_size, new_size);
  }
  static bool move(void *start, size_t size, void *target) {
    return !fails(OsCall::kMove) && real_os().move(start, size, target);
  }
  static uint64_t now() { return state().now; }
  // Whether the real system gives huge pages or not, here it does where a test wants it to.
  static bool fill_huge(void *start, size_t size) {
    if (!state().has_huge_pages) return false;
    ++state().huge_pages;
    for (size_t at = 0; at < size; at += kPage) static_cast<volatile std::byte *>(start)[at] = std::byte{0};
    return true;
  }
  static void end_huge(void *, size_t) { --state().huge_pages; }
  static bool start_thread(Thread, void (*)()) { return false; }
  static void await_thread_end(Thread) {}
  static void *share(const char *path, size_t reserved, size_t size) {
    if (!fails(OsCall::kShare)) return real_os().share(path, reserved, size);
    errno = ENOSPC;
    return nullptr;
  }
  static bool make_resident(void *start, size_t size) {
    return !fails(OsCall::kMakeResident) && real_os().make_resident(start, size);
  }
  static bool guard(void *start, size_t size) { return !fails(OsCall::kGuard) && real_os().guard(start, size); }
  static bool random(void *start, size_t size) { return real_os().random(start, size); }
};

}  // namespace ace::test
