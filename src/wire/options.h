// The options, as parsed from the table in options.def.
#pragma once
#include <cstddef>
#include <cstdint>

#include "ace/ace.h"

namespace ace {

enum class Mode : uint8_t { kOff, kStatic };

enum PythonDomain : unsigned { kDomainRaw = 1, kDomainMem = 2, kDomainObj = 4 };

struct Options {
  Mode mode;
  uint64_t idle_delay_ns;
  bool worker;
  bool abort_on_bad_pointer;
  size_t limit;
  bool kinds;
  unsigned domains;  // PythonDomain
  bool debug_hooks;
  bool verbose;
};

// The options in force; read from the environment on first use. Any thread.
const Options &options();

// See ace_option_describe, ace_option_set, ace_option_get.
bool describe_option(unsigned index, ace_option_info *info);
int set_option(const char *name, const char *value);
const char *option_text(const char *name);

// See ace_option_number.
uint64_t option_number(const char *name);

}  // namespace ace
