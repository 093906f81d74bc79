// One run of one workload: its arguments, what is measured around its timed part, and the result.
#pragma once
#include <stdint.h>

#include <optional>
#include <string>
#include <vector>

#include "allocator.h"
#include "memory.h"
#include "shares.h"

namespace micro {

// What a workload did in its timed part, and what is live at its end; sizes as asked for.
struct Totals {
  uint64_t ops = 0, bytes = 0, live = 0;
};

class Run {
 public:
  // `series` is a file for samples over time, or "". Counts of a heap are read for workloads of `one_thread`.
  Run(const Allocator &allocator, std::vector<std::string> arguments, std::string series, bool one_thread);

  const Allocator &allocator() const { return allocator_; }
  const std::vector<std::string> &arguments() const { return arguments_; }
  const std::string &word(size_t i) const { return arguments_[i]; }
  uint64_t number(size_t i) const { return std::stoull(arguments_[i]); }
  const std::string &series() const { return series_; }

  // Around the timed part; `stop` while the blocks that count as live still are.
  void start();
  void stop(const Totals &totals);

  // Resident bytes that are due to the allocator: what is no file's, without the benchmark's own arrays. What a
  // library takes before main counts. Some 0.3 MB of the loader and the C++ library are in it, for all alike.
  uint64_t resident() const;

  // Says that blocks were damaged where `damage` is not 0.
  static void verify(uint64_t damage);

  // Of the operations of the timed part; of another run where this one's library does not count.
  std::optional<Shares> shares() const;

  // The result as one JSON object.
  std::string json(const std::string &workload, const std::string &allocator, const std::string &api) const;

 private:
  const Allocator &allocator_;
  std::vector<std::string> arguments_;
  std::string series_;
  bool one_thread_;
  Totals totals_;
  Memory end_;
  double started_ = 0, seconds_ = 0, cpu_started_ = 0, cpu_seconds_ = 0;
  std::optional<uint64_t> refills_before_, refills_after_;
  std::optional<Allocator::Paths> paths_before_, paths_after_;
  uint64_t faults_ = 0, own_ = 0;
};

// Seconds of a clock that never jumps.
double now();

}  // namespace micro
