// The options, as parsed from the table in options.def.
#pragma once
#include <cstddef>
#include <cstdint>

#include "ace/ace.h"
#include "wire/counter.h"

namespace ace {

enum class Mode : uint8_t { kOff, kStatic, kObserve, kLearn };
enum class WorkerOption : uint8_t { kOff, kOn, kTick };

struct Options {
  Setting<Mode> mode;
  Setting<uint64_t> idle_delay_ns;
  Setting<size_t> memory_price;
  Setting<WorkerOption> worker;
  Setting<bool> huge_pages;
  Setting<bool> abort_on_bad_pointer;
  Setting<bool> hardened;
  Setting<size_t> limit;
  Setting<bool> kinds;
  Setting<unsigned> domains;  // a bit each for raw, mem, obj
  Setting<bool> debug_hooks;
  Setting<bool> stats_page;
  Setting<bool> verbose;
};

// The options in force; read from the environment on first use. Any thread.
const Options &options();

// See ace_option_describe, ace_option_set, ace_option_get.
bool describe_option(unsigned index, ace_option_info *info);
int set_option(const char *name, const char *value);
const char *option_text(const char *name);

inline constexpr size_t kOptionTextMax = 256;
// The file that the option names, as it is in this moment: another thread may set it. False where it says
// "none".
bool copy_file_option(const char *name, char (&path)[kOptionTextMax]);

// Around fork.
void lock_options();
void unlock_options();

// See ace_option_number.
uint64_t option_number(const char *name);

}  // namespace ace
