#include "run.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "pattern.h"

namespace micro {
namespace {

std::string quoted(const std::string &text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    char escape[8];
    if (c == '"' || c == '\\') out += '\\';
    if (byte < 0x20) {
      snprintf(escape, sizeof escape, "\\u%04x", byte);
      out += escape;
    } else {
      out += c;
    }
  }
  return out + '"';
}

// Numbers stand as numbers, words as strings.
std::string listed(const std::vector<std::string> &values) {
  std::string out = "[";
  for (const std::string &value : values) {
    if (out.size() > 1) out += ", ";
    out += value.find_first_not_of("0123456789") == std::string::npos ? value : quoted(value);
  }
  return out + "]";
}

std::string decimal(double value) {
  char text[40];
  snprintf(text, sizeof text, "%.9g", value);
  return text;
}

std::string ratio(double value, double by) { return by > 0 ? decimal(value / by) : "null"; }

}  // namespace

void out_of_memory() {
  static constexpr char kText[] = "ace-micro: the allocator returned NULL\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kText, sizeof kText - 1);
  _exit(1);
}

namespace {

double seconds_of(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

}  // namespace

double now() { return seconds_of(CLOCK_MONOTONIC); }

Run::Run(const Allocator &allocator, std::vector<std::string> arguments, std::string series, bool one_thread)
    : allocator_(allocator),
      arguments_(std::move(arguments)),
      series_(std::move(series)),
      one_thread_(one_thread) {}

void Run::start() {
  if (one_thread_) refills_before_ = allocator_.refills();
  paths_before_ = allocator_.paths();
  faults_ = faults_now();
  cpu_started_ = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
  started_ = now();
}

void Run::stop(const Totals &totals) {
  seconds_ = now() - started_;
  cpu_seconds_ = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu_started_;
  faults_ = faults_now() - faults_;
  paths_after_ = allocator_.paths();
  if (one_thread_) refills_after_ = allocator_.refills();
  end_ = memory_now();
  own_ = own_bytes;
  totals_ = totals;
}

uint64_t Run::resident() const {
  const uint64_t heap = memory_now().heap;
  return heap > own_bytes ? heap - own_bytes : 0;
}

void Run::verify(uint64_t damage) {
  if (damage != 0) throw Failure("a block does not hold what was written into it");
}

std::optional<Shares> Run::shares() const {
  if (!paths_after_ || totals_.ops == 0) return counted_shares();
  const auto ops = static_cast<double>(totals_.ops);
  const double warm = static_cast<double>(paths_after_->warm - paths_before_->warm) / ops;
  const double cold = static_cast<double>(paths_after_->cold - paths_before_->cold) / ops;
  return Shares{1 - warm - cold, warm, cold};
}

std::string Run::json(const std::string &workload, const std::string &allocator, const std::string &api) const {
  const auto ops = static_cast<double>(totals_.ops), bytes = static_cast<double>(totals_.bytes);
  const double resident = end_.heap > own_ ? static_cast<double>(end_.heap - own_) : 0;
  std::string out = "{";
  const auto field = [&](const char *name, const std::string &value) {
    if (out.size() > 1) out += ", ";
    out += quoted(name) + ": " + value;
  };
  field("workload", quoted(workload));
  field("args", listed(arguments_));
  field("allocator", quoted(allocator));
  field("api", quoted(api));
  field("ops", std::to_string(totals_.ops));
  field("seconds", decimal(seconds_));
  field("cpu_seconds", decimal(cpu_seconds_));
  field("ops_per_second", ratio(ops, seconds_));
  field("bytes", std::to_string(totals_.bytes));
  field("bytes_per_second", ratio(bytes, seconds_));
  field("peak_rss_bytes", std::to_string(end_.peak_rss));
  field("rss_end_bytes", std::to_string(end_.rss));
  field("vmsize_bytes", std::to_string(end_.vmsize));
  field("faults", std::to_string(faults_));
  field("live_bytes", std::to_string(totals_.live));
  field("own_bytes", std::to_string(own_));
  field("fragmentation", ratio(resident, static_cast<double>(totals_.live)));
  field("refills", refills_after_ ? std::to_string(*refills_after_ - *refills_before_) : "null");
  const std::optional<Shares> counted = shares();
  field("hot_share", counted ? decimal(counted->hot) : "null");
  field("warm_share", counted ? decimal(counted->warm) : "null");
  field("cold_share", counted ? decimal(counted->cold) : "null");
  return out + "}";
}

}  // namespace micro
