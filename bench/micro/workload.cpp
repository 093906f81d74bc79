#include "workload.h"

#include <algorithm>

namespace micro {
namespace {

void judge(const Workload &workload, const Parameter &parameter, const std::string &value) {
  const std::string where = std::string(workload.name) + ": " + parameter.name;
  if (!parameter.words.empty()) {
    if (std::ranges::find(parameter.words, value) != parameter.words.end()) return;
    std::string words;
    for (const std::string &word : parameter.words) words += (words.empty() ? "" : ", ") + word;
    throw UsageError(where + " is one of " + words + ", not '" + value + "'");
  }
  const bool digits =
      !value.empty() && value.size() < 19 && value.find_first_not_of("0123456789") == value.npos;
  if (!digits) throw UsageError(where + " is a number, not '" + value + "'");
  const uint64_t number = std::stoull(value);
  if (number < parameter.least || number > parameter.most) {
    throw UsageError(where + " lies between " + std::to_string(parameter.least) + " and " +
                     std::to_string(parameter.most));
  }
}

}  // namespace

const std::vector<const Workload *> &all_workloads() {
  static const std::vector<const Workload *> all = {&kTinyHot,       &kRandomMixed, &kMidMt,     &kChurn,
                                                    &kReallocGrowth, &kAligned,     &kChurnLong, &kRemote};
  return all;
}

const Workload &workload_named(const std::string &name) {
  for (const Workload *workload : all_workloads()) {
    if (name == workload->name) return *workload;
  }
  throw UsageError("there is no workload '" + name + "'; `ace-micro list` names them");
}

std::vector<std::string> complete(const Workload &workload, const std::vector<std::string> &given) {
  const std::vector<Parameter> &parameters = workload.parameters;
  if (given.size() > parameters.size()) {
    throw UsageError(std::string(workload.name) + " takes at most " + std::to_string(parameters.size()) +
                     " arguments");
  }
  std::vector<std::string> values = given;
  while (values.size() < parameters.size()) values.emplace_back(parameters[values.size()].fallback);
  for (size_t i = 0; i < values.size(); ++i) {
    judge(workload, parameters[i], values[i]);
    // One spelling each, and valid JSON.
    if (parameters[i].words.empty()) values[i] = std::to_string(std::stoull(values[i]));
  }
  return values;
}

}  // namespace micro
