// ace-micro: runs one workload on one allocator and prints one JSON object.
#include <stdio.h>
#include <string.h>

#include "shares.h"
#include "workload.h"

namespace micro {
namespace {

constexpr char kUsage[] =
    "usage: ace-micro WORKLOAD [ARGUMENT...] [--allocator ace|libc|LIBRARY] [--api "
    "plain|heap|heap-sized|theap]\n"
    "                 [--series FILE]\n"
    "       ace-micro list\n"
    "\n"
    "Runs the workload and prints one JSON object. LIBRARY is a shared library with mi_malloc, ace_alloc or "
    "malloc.\n"
    "  --allocator NAME  default: ace, the library that was built with this program, which takes two runs:\n"
    "                    first the shares of hot, warm and cold operations are counted (ace-counting)\n"
    "  --api NAME        plain (default): malloc and free; heap: an explicit heap (ACE, mimalloc);\n"
    "                    heap-sized: frees say the size (ACE); theap: the heap of the thread (mimalloc)\n"
    "  --series FILE     churn-long: writes resident and live bytes, a line a second\n"
    "Exit status: 0; 1: the allocator failed or damaged a block; 2: wrong use.\n";

struct Command {
  std::string workload, allocator = "ace", api = "plain", series;
  std::vector<std::string> arguments;
};

Command parse(int argc, char **argv) {
  Command command;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    std::string *value = word == "--allocator" ? &command.allocator
                         : word == "--api"     ? &command.api
                         : word == "--series"  ? &command.series
                                               : nullptr;
    if (value != nullptr) {
      if (++i == argc) throw UsageError(word + " needs a value");
      *value = argv[i];
    } else if (word.starts_with("-")) {
      throw UsageError("there is no option " + word);
    } else if (command.workload.empty()) {
      command.workload = word;
    } else {
      command.arguments.push_back(word);
    }
  }
  if (command.workload.empty()) throw UsageError("no workload is given; `ace-micro list` names them");
  return command;
}

void list() {
  for (const Workload *workload : all_workloads()) {
    std::string defaults;
    for (const Parameter &parameter : workload->parameters) {
      defaults += std::string(" ") + parameter.name + "=" + parameter.fallback;
    }
    printf("%-15s%s: %s\n", workload->name, defaults.c_str(), workload->meaning);
  }
}

// The same run on the library that counts; a tenth as long where it is by the clock.
std::vector<std::string> counting_words(const Command &command, const Workload &workload,
                                        std::vector<std::string> arguments) {
  if (workload.by_clock) arguments[0] = std::to_string(1 + std::stoull(arguments[0]) / 10);
  std::vector<std::string> words = {command.workload};
  words.insert(words.end(), arguments.begin(), arguments.end());
  words.insert(words.end(), {"--allocator", "ace-counting", "--api", command.api});
  return words;
}

void run(const Command &command, char **argv) {
  const Workload &workload = workload_named(command.workload);
  const std::vector<std::string> arguments = complete(workload, command.arguments);
  const ApiKind api = api_named(command.api);
  if (workload.plain_only && api != ApiKind::kPlain) {
    throw UsageError(command.workload + " frees across threads: only --api plain");
  }
  if (!command.series.empty() && !workload.has_series) {
    throw UsageError(command.workload + " writes no series");
  }
  const std::string library = library_named(command.allocator);
  if (command.allocator == "ace" && !is_restarted(library))
    count_shares(counting_words(command, workload, arguments));
  restart_with(library, argv);

  const Allocator allocator(library, api);
  Run run(allocator, arguments, command.series, !workload.plain_only);
  workload.run(run);
  puts(run.json(command.workload, command.allocator, command.api).c_str());
}

}  // namespace
}  // namespace micro

int main(int argc, char **argv) try {
  for (int i = 1; i < argc; ++i) {
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
      fputs(micro::kUsage, stdout);
      return 0;
    }
  }
  if (argc == 2 && strcmp(argv[1], "list") == 0) {
    micro::list();
    return 0;
  }
  micro::run(micro::parse(argc, argv), argv);
  return 0;
} catch (const micro::UsageError &error) {
  fprintf(stderr, "ace-micro: %s\n", error.what());
  return 2;
} catch (const std::exception &error) {
  fprintf(stderr, "ace-micro: %s\n", error.what());
  return 1;
}
