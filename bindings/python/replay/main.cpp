// The replayer that `acealloc.replay` starts, a process for each run:
//
//   ace-replay plan TRACE PLAN
//   ace-replay run PLAN RESULT TARGET [library=PATH] [sweeps] [fast] [latency] [pages]
//                  [placement] [progress]
//
// As a library, whose one function is called inside of a CPython, to replay on its allocator.
#include <stdio.h>

#include <exception>
#include <new>
#include <string_view>

#include "replay.h"

using namespace ace::replay;

namespace {

int usage() {
  fputs(
      "usage: ace-replay plan TRACE PLAN | ace-replay run PLAN RESULT TARGET [library=PATH] [sweeps] [fast] "
      "[latency] [pages] [placement] [progress]\n",
      stderr);
  return 2;
}

bool set(Settings &settings, std::string_view word) {
  constexpr std::string_view kLibrary = "library=";
  if (word.substr(0, kLibrary.size()) == kLibrary) {
    settings.library = word.substr(kLibrary.size());
    return true;
  }
  bool *const flag = word == "sweeps"      ? &settings.sweeps
                     : word == "fast"      ? &settings.fast
                     : word == "latency"   ? &settings.latency
                     : word == "pages"     ? &settings.pages
                     : word == "placement" ? &settings.placement
                     : word == "progress"  ? &settings.has_progress
                                           : nullptr;
  if (flag == nullptr) return false;
  return *flag = true;
}

}  // namespace

extern "C" [[gnu::visibility("default")]] int ace_replay_main(int argc, char **argv) {
  const std::string_view verb = argc > 1 ? argv[1] : "";
  try {
    if (verb == "plan" && argc == 4) {
      write_plan(argv[2], argv[3]);
      return 0;
    }
    if (verb != "run" || argc < 5) return usage();
    Settings settings;
    settings.target = argv[4];
    for (int i = 5; i < argc; ++i) {
      if (!set(settings, argv[i])) return usage();
    }
    replay(Plan(argv[2]), settings, argv[3]);
    return 0;
  } catch (const std::bad_alloc &) {
    fputs("there is no memory for what the replay itself needs\n", stderr);
    return 1;
  } catch (const std::exception &failure) {
    fprintf(stderr, "%s\n", failure.what());
    return 1;
  }
}

#ifndef ACE_REPLAY_LIBRARY
int main(int argc, char **argv) { return ace_replay_main(argc, argv); }
#endif
