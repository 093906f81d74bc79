// A system table for tests: the real one underneath, a clock that only tests move, calls that fail when asked
// to, no threads, a record of what was purged, and an account of what is mapped.
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

enum class OsCall : unsigned {
  kMap,
  kUnmap,
  kPurge,
  kResize,
  kMove,
  kShare,
  kMakeResident,
  kFillHuge,
  kStartThread,
  kGuard
};
inline constexpr unsigned kOsCalls = 10;

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
  ~FakeOs() {
    if (state().is_live) stop_worker();  // it has the table at hand
    replace_os(&real_os());
  }
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

  // The nth call of all kinds from now on fails.
  void fail_one(uint64_t nth) { state().one_fails = state().all_calls + nth; }
  // Each call fails with this probability; which ones follows from the seed and their order.
  void fail_at_random(unsigned permille, uint64_t seed) {
    state().random_seed = seed;
    state().permille = permille;
  }
  // Mappings are refused that would make what is mapped exceed so many bytes.
  void limit_mapped(int64_t bytes) { state().most_mapped = bytes; }
  // No call fails from now on, whatever was asked for.
  void fail_no_more() {
    fail_never();
    state().one_fails = 0;
    state().permille = 0;
    state().most_mapped = INT64_MAX;
  }
  uint64_t all_calls() const { return state().all_calls; }
  uint64_t injected() const { return state().injected; }
  // Bytes that were mapped since it stands for the system, and are not unmapped; below 0 where there were some
  // before.
  int64_t mapped() const { return state().mapped; }

  // The real clock, and threads, from now on.
  void live() { state().is_live = true; }

  // The next such call waits, wherever it is made, until let_go.
  void hold(OsCall call) { state().holds[static_cast<unsigned>(call)] = Hold::kNext; }
  bool is_held(OsCall call) const { return state().holds[static_cast<unsigned>(call)] == Hold::kHeld; }
  void let_go(OsCall call) { state().holds[static_cast<unsigned>(call)] = Hold::kNone; }

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
  enum class Hold { kNone, kNext, kHeld };
  struct State {
    std::atomic<uint64_t> now{0}, purge_ns{0};
    std::atomic<uint64_t> all_calls{0}, one_fails{0}, random_seed{0}, injected{0};
    std::atomic<unsigned> permille{0};
    std::atomic<int64_t> mapped{0}, most_mapped{INT64_MAX};
    std::atomic<bool> is_live{false};
    Failure failures[kOsCalls];
    std::vector<Range> purged;
    std::atomic<Hold> holds[kOsCalls];
    std::atomic<bool> has_huge_pages{false};
    std::atomic<int> huge_pages{0};
    State &operator=(const State &) {
      for (Failure &failure : failures) failure = Failure();
      purged.clear();
      for (auto &hold : holds) hold = Hold::kNone;
      has_huge_pages = is_live = false;
      huge_pages = 0;
      purge_ns = all_calls = one_fails = random_seed = injected = 0;
      permille = 0;
      mapped = 0;
      most_mapped = INT64_MAX;
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
    std::atomic<Hold> &hold = state().holds[static_cast<unsigned>(call)];
    if (Hold next = Hold::kNext; hold.compare_exchange_strong(next, Hold::kHeld)) {
      while (hold == Hold::kHeld) usleep(1000);
    }
    Failure &failure = state().failures[static_cast<unsigned>(call)];
    const uint64_t n = ++failure.calls, of_all = ++state().all_calls;
    const bool failed = (failure.first != 0 && n >= failure.first && n <= failure.last) ||
                        of_all == state().one_fails || is_unlucky(of_all);
    state().injected += failed;
    return failed;
  }
  static bool is_unlucky(uint64_t n) {
    if (state().permille == 0) return false;
    uint64_t x = state().random_seed + n * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (x ^ x >> 31) % 1000 < state().permille;
  }
  // True where the account has room for it.
  static bool count_mapped(size_t more) {
    const auto bytes = static_cast<int64_t>(more);
    if ((state().mapped += bytes) <= state().most_mapped) return true;
    state().mapped -= bytes;
    ++state().injected;
    return false;
  }
  static void count_unmapped(size_t bytes) { state().mapped -= static_cast<int64_t>(bytes); }

  static void *map(size_t size, size_t alignment) {
    if (fails(OsCall::kMap) || !count_mapped(size)) return nullptr;
    void *start = real_os().map(size, alignment);
    if (start == nullptr) count_unmapped(size);
    return start;
  }
  static bool unmap(void *start, size_t size) {
    if (fails(OsCall::kUnmap) || !real_os().unmap(start, size)) return false;
    count_unmapped(size);
    return true;
  }
  static bool purge(void *start, size_t size) {
    if (fails(OsCall::kPurge) || !real_os().purge(start, size)) return false;
    state().now += state().purge_ns;
    std::lock_guard locked(lock());
    auto from = reinterpret_cast<uintptr_t>(start);
    state().purged.push_back({from, from + size});
    return true;
  }
  static bool resize(void *start, size_t old_size, size_t new_size) {
    const size_t more = new_size > old_size ? new_size - old_size : 0;
    if (fails(OsCall::kResize) || !count_mapped(more)) return false;
    if (!real_os().resize(start, old_size, new_size)) {
      count_unmapped(more);
      return false;
    }
    if (new_size < old_size) count_unmapped(old_size - new_size);
    return true;
  }
  static bool move(void *start, size_t size, void *target, size_t new_size) {
    if (fails(OsCall::kMove) || !real_os().move(start, size, target, new_size)) return false;
    count_unmapped(size);
    return true;
  }
  static uint64_t now() { return state().is_live ? real_os().now() : state().now.load(); }
  // Whether the real system gives huge pages or not, here it does where a test wants it to.
  static bool fill_huge(void *start, size_t size) {
    if (!state().has_huge_pages || fails(OsCall::kFillHuge)) return false;
    ++state().huge_pages;
    for (size_t at = 0; at < size; at += kPage) static_cast<volatile std::byte *>(start)[at] = std::byte{0};
    return true;
  }
  static void end_huge(void *, size_t) { --state().huge_pages; }
  static bool start_thread(Thread thread, void (*run)()) {
    return state().is_live && !fails(OsCall::kStartThread) && real_os().start_thread(thread, run);
  }
  static void await_thread_end(Thread thread) {
    if (state().is_live) real_os().await_thread_end(thread);
  }
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
