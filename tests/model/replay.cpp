// Replays a list of operations against a heap and its shadow.
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <thread>

#include "base/config.h"
#include "heap/red_zone.h"
#include "model/model.h"
#include "unit/fake_os.h"
#include "unit/heap_test.h"
#include "unit/superslab_pool.h"

namespace ace::test {
namespace {

// Live memory above this is not asked for.
constexpr size_t kMostLive = size_t{96} << 20;

struct Shadow {
  unsigned char *p = nullptr;
  size_t size = 0;
  unsigned char seed = 0;
};

// What a block holds: every byte of its first pages is looked at, of the rest two in each page and the end. The
// `i`th is seed + 13 * i + (i's page), modulo 256, so that a page is a piece of one table, to be compared at
// once: a fuzzer that counts comparisons would do little else than compare bytes.
class Contents {
 public:
  static void put(const Shadow &s) {
    each_page(s, [&](size_t at, const unsigned char *bytes, size_t n) { memcpy(s.p + at, bytes, n); });
    each_byte_behind(s, true, [&](size_t i) { s.p[i] = byte(s, i); });
  }
  // `whole_block`: `s.size` is the size that they were put for, not a smaller one.
  static bool are_whole(const Shadow &s, bool whole_block) {
    bool same = true;
    each_page(
        s, [&](size_t at, const unsigned char *bytes, size_t n) { same &= memcmp(s.p + at, bytes, n) == 0; });
    each_byte_behind(s, whole_block, [&](size_t i) { same &= s.p[i] == byte(s, i); });
    return same;
  }
  static bool are_zero(const unsigned char *p, size_t size) {
    static const unsigned char zeroes[kWhole] = {};
    bool zero = memcmp(p, zeroes, std::min(size, kWhole)) == 0;
    each_byte_behind({const_cast<unsigned char *>(p), size, 0}, true, [&](size_t i) { zero &= p[i] == 0; });
    return zero;
  }

 private:
  static constexpr size_t kWhole = 4 * kPage;
  static_assert(kPage == 4096);

  static unsigned char byte(const Shadow &s, size_t i) {
    return static_cast<unsigned char>(s.seed + i * 13 + i / kPage);
  }
  static const unsigned char *table() {
    static const auto bytes = [] {
      std::array<unsigned char, 256 + kPage> table{};
      for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<unsigned char>(i * 13);
      return table;
    }();
    return bytes.data();
  }
  template <typename F>
  static void each_page(const Shadow &s, F f) {
    for (size_t at = 0; at < std::min(s.size, kWhole); at += kPage) {
      const unsigned first = byte(s, at) * 197u % 256;  // 13 * 197 = 1, modulo 256
      f(at, table() + first, std::min(s.size - at, kPage));
    }
  }
  template <typename F>
  static void each_byte_behind(const Shadow &s, bool whole_block, F f) {
    for (size_t i = kWhole; i < s.size; i += kPage / 2) f(i);
    for (size_t i = s.size > kWhole + 64 ? s.size - 64 : kWhole; whole_block && i < s.size; ++i) f(i);
  }
};

class Replay {
 public:
  explicit Replay(const Setup &setup) : setup_(setup), may_fail_(can_fail(setup)) {
    empty_superslab_pool(os_);
    mapped_before_ = os_.mapped();
    calls_before_ = os_.all_calls();
    failed_before_ = os_.injected();
    if (setup.failing_call != 0) os_.fail_one(setup.failing_call);
    os_.fail_at_random(setup.failing_permille, setup.failing_seed);
    make_heap();
  }

  std::string run(const Ops &ops) {
    for (size_t i = 0; i < ops.size() && problem_.empty(); ++i) {
      const uint64_t resident = stats_of(heap_).resident_bytes;
      apply(ops[i]);
      check_step(resident);
      if (i % 16 == 15 || i + 1 == ops.size()) check_walk();
      if (!problem_.empty()) return ace_heap_destroy(heap_), "step " + std::to_string(i) + ": " + problem_;
    }
    for (uint32_t slot = 0; slot < kSlots; ++slot) check_contents(slots_[slot]);
    for (uint32_t slot = 0; slot < kSlots; ++slot) free(slot, false);
    trim(SIZE_MAX);
    check_step(UINT64_MAX);
    if (stats_of(heap_).resident_bytes != 0 && !can_fail(setup_))
      fail("an empty heap keeps resident pages after a trim");
    ace_heap_destroy(heap_);
    check_mapped();
    return problem_.empty() ? "" : "at the end: " + problem_;
  }

  Asked asked() const { return asked_; }

 private:
  void fail(const std::string &what) {
    if (problem_.empty()) problem_ = what;
  }

  static bool can_fail(const Setup &setup) {
    return setup.fails || setup.failing_call != 0 || setup.failing_permille != 0;
  }

  void make_heap() {
    ace_heap_config config{};
    config.struct_size = sizeof config;
    config.flags = ACE_HEAP_NO_WORKER;
    if (setup_.hardened) config.flags |= ACE_HEAP_HARDENED;
    config.kind_groups = setup_.kind_groups;
    heap_ = ace_heap_create(&config);
    if (heap_ != nullptr) return;
    os_.fail_no_more();
    heap_ = ace_heap_create(&config);
    os_.fail_at_random(setup_.failing_permille, setup_.failing_seed + os_.all_calls());
  }

  void apply(const Op &op) {
    const uint32_t slot = op.slot % kSlots;
    const auto kind = static_cast<ace_kind>(op.b);
    switch (op.kind) {
      case Op::kAlloc:
        return take(
            slot, op.a, [&] { return ace_heap_alloc_kind(heap_, op.a, kind); }, kGranule, false);
      case Op::kCalloc:
        return take(
            slot, op.a, [&] { return ace_heap_calloc(heap_, 1, op.a, kind); }, kGranule, true);
      case Op::kAligned: {
        const size_t alignment = size_t{1} << op.b;
        return take(
            slot, op.a, [&] { return ace_heap_aligned_alloc(heap_, alignment, op.a, 0); },
            std::max(alignment, kGranule), false);
      }
      case Op::kRealloc:
        return realloc(slot, op.a, kind);
      case Op::kFree:
        return free(slot, false);
      case Op::kFreeSized:
        return free(slot, true);
      case Op::kFreeElsewhere:
        return free_elsewhere(slot, op.a);
      case Op::kFill:
        for (uint64_t i = 0; i < op.a; ++i) {
          take((slot + i) % kSlots, op.b, [&] { return ace_heap_alloc(heap_, op.b); }, kGranule, false);
        }
        return;
      case Op::kFreeMost:
        for (uint64_t i = 0; i < op.a; ++i) {
          if (i % op.b != 0 || op.b == 1) free((slot + i) % kSlots, i % 2 != 0);
        }
        return;
      case Op::kFreeTwice:
        return free_twice(op.a);
      case Op::kHint:
        if (ace_hint(heap_, static_cast<ace_hint_code>(op.slot), op.a) != 0) fail("a hint was refused");
        return check_all_contents();
      case Op::kTrim:
        return trim(op.a);
      case Op::kTrimShared:
        ace_trim_shared(heap_, op.a);
        return check_all_contents();
      case Op::kLimit:
        ace_heap_set_limit(heap_, op.a);
        limit_ = op.a;
        return;
      case Op::kAdvance:
        os_.advance(op.a * kMillisecond);
        ace_tick(UINT64_MAX);
        return;
      case Op::kFailOs:
        may_fail_ = true;
        return os_.fail(static_cast<OsCall>(op.slot % kOsCalls), op.a, op.b);
      case Op::kDestroy:
        ace_heap_destroy(heap_);
        slots_.assign(kSlots, {});
        live_ = limit_ = 0;
        return make_heap();
      case Op::kOverwrite:
        if (slots_[slot].size != 0) slots_[slot].p[0] ^= 1;
        return;
    }
  }

  // May an allocation of this size fail?
  bool may_be_null(size_t size) const { return may_fail_ || limit_ != 0 || size > kRequestMax / 8; }

  template <typename Allocate>
  void take(uint32_t slot, size_t size, Allocate allocate, size_t alignment, bool zeroed) {
    Shadow &s = slots_[slot];
    if (s.p != nullptr) free(slot, false);
    if (size < kRequestMax && live_ + size > kMostLive) return;
    auto *p = static_cast<unsigned char *>(allocate());
    if (p == nullptr) {
      if (!may_be_null(size)) fail("no block of " + std::to_string(size) + " bytes");
      return;
    }
    if (reinterpret_cast<uintptr_t>(p) % alignment != 0) fail("a block is not aligned");
    if (zeroed && !Contents::are_zero(p, size)) fail("calloc gave a byte that is not zero");
    hold(s, p, size);
  }

  void hold(Shadow &s, unsigned char *p, size_t size) {
    s = {p, size, static_cast<unsigned char>(next_seed_ += 37)};
    live_ += size;
    if (ace_usable_size(p) < size) return fail("a block is smaller than asked for");
    Contents::put(s);
  }

  void realloc(uint32_t slot, size_t size, ace_kind kind) {
    Shadow s = slots_[slot];
    if (size < kRequestMax && live_ + size > kMostLive) return;
    auto *p = static_cast<unsigned char *>(ace_heap_realloc(heap_, s.p, size, kind));
    if (p == nullptr) {
      if (s.p != nullptr && size <= s.size) fail("shrinking failed");
      if (!may_be_null(size)) fail("no block of " + std::to_string(size) + " bytes by realloc");
      return check_contents(s);
    }
    live_ -= s.size;
    Shadow kept = s;
    kept.p = p;
    kept.size = std::min(s.size, size);
    if (s.p != nullptr) check_contents(kept, kept.size == s.size);
    hold(slots_[slot], p, size);
  }

  void forget(Shadow &s) {
    live_ -= s.size;
    s = {};
  }

  void free(uint32_t slot, bool sized) {
    Shadow &s = slots_[slot];
    if (s.p == nullptr) return;
    check_contents(s);
    memset(s.p, 0xdd, std::min<size_t>(s.size, 4096));
    sized ? ace_heap_free_sized(heap_, s.p, s.size) : ace_heap_free(heap_, s.p);
    forget(s);
  }

  void free_elsewhere(uint32_t slot, uint64_t count) {
    std::vector<void *> blocks;
    for (uint64_t i = 0; i < count; ++i) {
      Shadow &s = slots_[(slot + i) % kSlots];
      if (s.p == nullptr) continue;
      check_contents(s);
      blocks.push_back(s.p);
      forget(s);
    }
    std::thread([&] {
      for (void *block : blocks) ace_free(block);
    }).join();
  }

  void free_twice(size_t size) {
    if (size > kMidMax - kSeal) return;  // of a large block nothing is known after its free
    void *p = ace_heap_alloc(heap_, size);
    if (p == nullptr) return;
    ace_heap_free(heap_, p);
    ace_heap_free(heap_, p);
    if (misuse_.take() != std::vector<int>{ACE_ERROR_DOUBLE_FREE}) fail("a second free was not reported");
  }

  void trim(size_t budget) {
    const ace_stats before = stats_of(heap_);
    const size_t given = ace_trim(heap_, budget);
    const ace_stats after = stats_of(heap_);
    const uint64_t counted =
        after.returned_bytes + after.released_bytes - before.returned_bytes - before.released_bytes;
    // Large blocks that other threads freed are released on the way.
    if (given > counted) fail("a trim says that it gave back more than was counted");
    if (given > budget) fail("a trim gave back more than its budget");
    check_all_contents();
    uint64_t held = 0;
    for (const Shadow &s : slots_) held += s.p != nullptr;
    if (after.live_blocks != held) {
      fail("after a trim " + std::to_string(after.live_blocks) + " blocks live, but " + std::to_string(held) +
           " are held");
    }
  }

  // ---- checks

  void check_contents(const Shadow &s, bool whole_block = true) {
    if (s.p == nullptr) return;
    if (!Contents::are_whole(s, whole_block))
      fail("the contents of a block of " + std::to_string(s.size) + " bytes have changed");
  }
  void check_all_contents() {
    for (const Shadow &s : slots_) check_contents(s);
  }

  void check_step(uint64_t resident_before) {
    if (std::string broken = audit(heap_); !broken.empty()) fail("audit: " + broken);
    const ace_stats s = stats_of(heap_);
    if (s.live_bytes != s.tiny_live_bytes + s.mid_live_bytes + s.large_live_bytes)
      fail("live bytes do not add up");
    if (s.resident_bytes != s.faulted_bytes - s.returned_bytes - s.released_bytes)
      fail("resident bytes do not add up");
    if (limit_ != 0 && resident_before <= limit_ && s.resident_bytes > limit_) fail("the limit was exceeded");
    if (!misuse_.take().empty()) fail(std::string("a misuse was reported: ") + misuse_.last().message);
  }

  // The heap's live blocks are the model's.
  void check_walk() {
    std::map<void *, size_t> held;
    for (const Shadow &s : slots_) {
      if (s.p != nullptr) held[s.p] = s.size;
    }
    for (const Seen &seen : walk(heap_)) {
      auto found = held.find(seen.block);
      if (found == held.end()) return fail("the walk finds a block that nobody holds");
      if (seen.usable < found->second) return fail("the walk finds a block that is too small");
      held.erase(found);
    }
    if (!held.empty()) fail("the walk does not find " + std::to_string(held.size()) + " blocks");
  }

  // The heap is gone: what the system refused to take back, it has been asked for again.
  void check_mapped() {
    asked_ = {os_.all_calls() - calls_before_, os_.injected() - failed_before_};
    os_.fail_no_more();
    const auto pooled = static_cast<int64_t>(empty_superslab_pool(os_));
    const int64_t left = os_.mapped() - mapped_before_;
    if (left != 0) {
      fail(std::to_string(left) + " bytes are still mapped, beside " + std::to_string(pooled) +
           " superslabs of the pool");
    }
  }

  Setup setup_;
  bool may_fail_;
  FakeOs os_;
  int64_t mapped_before_;
  uint64_t calls_before_, failed_before_;
  Asked asked_;
  MisuseLog misuse_;
  ace_heap *heap_;
  std::vector<Shadow> slots_{kSlots};
  size_t live_ = 0, limit_ = 0;
  unsigned next_seed_ = 0;
  std::string problem_;
};

}  // namespace

std::string replay(const Setup &setup, const Ops &ops, Asked *asked) {
  Replay one(setup);
  const std::string problem = one.run(ops);
  if (asked != nullptr) *asked = one.asked();
  return problem;
}

std::string replay_in_child(const Setup &setup, const Ops &ops) {
  int ends[2];
  if (pipe(ends) != 0) return "no pipe";
  const pid_t child = fork();
  if (child < 0) return "no child process";
  if (child == 0) {
    rlimit none{0, 0};
    setrlimit(RLIMIT_CORE, &none);
    alarm(120);  // a hang ends with a signal
    const std::string problem = replay(setup, ops);
    (void)!write(ends[1], problem.data(), std::min<size_t>(problem.size(), 4000));
    _exit(0);
  }
  close(ends[1]);
  std::string problem;
  char part[512];
  for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;) problem.append(part, static_cast<size_t>(n));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) return std::string("the process died: ") + strsignal(WTERMSIG(status));
  if (WEXITSTATUS(status) != 0) return "the process ended with status " + std::to_string(WEXITSTATUS(status));
  return problem;
}

}  // namespace ace::test
