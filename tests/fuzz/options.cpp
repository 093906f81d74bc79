// The options' parsers, on any names and values: what is taken is what is then there, what is refused changes
// nothing.
#include <cstdlib>
#include <cstring>
#include <string>

#include "ace/ace.h"
#include "fuzz/bytes.h"

namespace {

void set(const char *name, const char *value) {
  const char *old = ace_option_get(name);
  const std::string text = old != nullptr ? old : "";
  const uint64_t number = ace_option_number(name);
  switch (ace_option_set(name, value)) {
    case 0:
      if (strcmp(ace_option_get(name), value) != 0) abort();
      return;
    case -1:
      if (old != nullptr) abort();
      return;
    case -2:
      if (ace_option_get(name) != text || ace_option_number(name) != number) abort();
      return;
    default:
      abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  ace::test::Bytes bytes(data, size);
  const unsigned index = bytes.byte();
  const std::string rest(reinterpret_cast<const char *>(bytes.rest()), bytes.left());
  ace_option_info info;
  unsigned count = 0;
  while (ace_option_describe(count, &info) == 0) ++count;
  if (ace_option_describe(index % (count + 1), &info) == 0) {
    set(info.name, rest.c_str());
    set(info.name, info.default_value);
    if (strcmp(ace_option_get(info.name), info.default_value) != 0) abort();
  } else {
    set(rest.c_str(), "on");
  }
  return 0;
}
