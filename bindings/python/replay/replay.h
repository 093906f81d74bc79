// Replays a plan on an allocator, and measures.
#pragma once
#include <cstdint>
#include <string>

#include "plan.h"

namespace ace::replay {

struct Settings {
  std::string target;      // malloc, hinted (malloc that is told of collections), ace, luajit, pymalloc, none
  std::string library;     // of LuaJIT
  bool sweeps = false;     // frees in a row are a sweep's
  bool fast = false;       // does not wait where the program waited
  bool latency = false;    // takes the time of each call, and so is slower
  bool placement = false;  // a number for where all blocks were put; takes time, too
  bool pages = false;      // how full the pages are before and after what freed most
  bool has_progress = false;  // "progress PERCENT" lines on standard output
};

// Writes what was measured to `result` as JSON. Throws std::runtime_error where it cannot be done.
void replay(const Plan &plan, const Settings &settings, const std::string &result);

}  // namespace ace::replay
