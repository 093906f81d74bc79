// The list of workloads, and what each says of itself.
#pragma once
#include <stdint.h>

#include <string>
#include <vector>

#include "run.h"

namespace micro {

// A number between `least` and `most`, or one of the `words`.
struct Parameter {
  const char *name;
  const char *fallback;
  uint64_t least = 0, most = UINT64_MAX;
  std::vector<std::string> words = {};
};

struct Workload {
  const char *name;
  const char *meaning;
  std::vector<Parameter> parameters;
  void (*run)(Run &run);
  bool plain_only = false;  // its threads free one another's blocks
  bool has_series = false;  // takes --series
  bool by_clock = false;    // its first argument says for how many seconds it runs
};

extern const Workload kTinyHot, kRandomMixed, kMidMt, kChurn, kReallocGrowth, kAligned, kChurnLong, kRemote;

const std::vector<const Workload *> &all_workloads();

// Throws UsageError where there is none.
const Workload &workload_named(const std::string &name);

// The given arguments, judged, and the defaults of those that are missing.
std::vector<std::string> complete(const Workload &workload, const std::vector<std::string> &given);

}  // namespace micro
