// What a heap may take beyond its limit once something was refused. CPython needs memory until somebody has
// handled the MemoryError: for frames, tracebacks, numbers. Where it gets none it reports a SystemError
// instead, or tries for ever to note at which instruction it was (exception_unwind, 3.11 and later).
//
// From outside the way to a handler looks like what the program does then. So a reserve ends with what such a
// way takes at most, and where the program has used it, and is refused once more, there is another, for some
// times.
#pragma once
#include <algorithm>

#include "ace/ace.h"

namespace ace::python {

class Reserve {
 public:
  // From where on it counts, of a limit that is set now: what the heap holds already is not taken from it.
  static size_t begin_of(ace_heap *heap, size_t limit) {
    return std::max(limit, static_cast<size_t>(stats_of(heap).resident_bytes));
  }

  // All zero where there is no heap yet.
  static ace_stats stats_of(ace_heap *heap) {
    ace_stats stats{};
    if (heap != nullptr) ace_heap_stats_shared(heap, &stats, sizeof stats);
    return stats;
  }

  // All zero: of a heap that was made with the limit.
  void begin(size_t limit) { limit_ = begin_ = limit; }

  // Another limit counts, whose reserve begins at `begin`. Whoever leaves the former may be on the way from a
  // refusal.
  void change(ace_heap *heap, size_t limit, size_t begin) {
    limit_ = limit;
    begin_ = begin;
    end_ = end_of(stats_of(heap));
  }

  // What was refused before is over.
  void close(ace_heap *heap) {
    refusals_ = refusals_at_gift_ = stats_of(heap).limit_failures;
    is_open_ = false;
  }

  // An allocation would pass the heap's limit by `missing`. True where the limit was raised by that.
  bool give(ace_heap *heap, size_t missing) {
    const ace_stats stats = stats_of(heap);
    if (stats.limit_failures != refusals_) {
      refusals_ = stats.limit_failures;
      refills_ = stats.refills;
      end_ = end_of(stats);
      is_open_ = true;
    } else if (is_open_ && stats.refills - refills_ > kWay) {
      is_open_ = false;
      ace_heap_set_limit(heap, limit_);
    }
    const size_t needed = stats.limit_bytes + missing;
    if (!is_open_ || needed - stats.resident_bytes > kSmall) return false;
    if (needed > end_ && stats.limit_failures - refusals_at_gift_ < kStuck) return false;
    refusals_at_gift_ = stats.limit_failures;
    ace_heap_set_limit(heap, needed);
    return true;
  }

 private:
  static constexpr size_t kAtOnce = size_t{1} << 20, kInAll = 4 * kAtOnce;
  // What a slab grows by at once is less, a list that doubles soon is not.
  static constexpr size_t kSmall = size_t{16} << 10;
  // In refills: a recursion of some thousand frames ends in less.
  static constexpr uint64_t kWay = 512;
  // Where all is used up, after so many refusals somebody may do nothing but try: there is a page more.
  static constexpr uint64_t kStuck = 1024;

  size_t end_of(const ace_stats &stats) const {
    return std::min(std::max(limit_, size_t{stats.resident_bytes}) + kAtOnce, begin_ + kInAll);
  }

  size_t limit_, begin_, end_;
  uint64_t refusals_, refusals_at_gift_;  // of the heap, as far as they are known; when it last gave
  uint64_t refills_;                      // of the heap, at the last of them
  bool is_open_;
};

}  // namespace ace::python
