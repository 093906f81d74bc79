// The playbook's parser on any text. What it takes it writes, and reads again as the same; what it refuses
// changes nothing.
#include <cstdlib>
#include <cstring>
#include <string>

#include "decide/playbook.h"
#include "fuzz/bytes.h"

namespace ace {
namespace {

constexpr PlaybookFit kFit{4096, 8589934592};

std::string written(const Context (&contexts)[kContexts]) {
  static char text[kPlaybookMax];
  const size_t length = format_playbook(text, sizeof text, kFit, contexts);
  if (length == 0) abort();
  return {text, length};
}

void read(const std::string &text) {
  const Learner fresh;
  Context contexts[kContexts], again[kContexts];
  for (unsigned c = 0; c < kContexts; ++c) contexts[c] = again[c] = fresh.context(c);
  const std::string before = written(contexts);
  unsigned line = 0;
  const char *wrong = parse_playbook(text.c_str(), kFit, contexts, &line);
  if (line == 0) abort();
  const std::string after = written(contexts);
  if (wrong != nullptr) {
    if (after != before || *wrong == '\0') abort();
    return;
  }
  if (parse_playbook(after.c_str(), kFit, again, &line) != nullptr || written(again) != after) abort();
  // What a loop does with it.
  for (unsigned c = 0; c < kContexts; ++c) {
    Context mixed = fresh.context(c);
    start_from(mixed, contexts[c]);
    add_context(mixed, again[c]);
    add_context(mixed, contexts[c]);
  }
}

}  // namespace
}  // namespace ace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  ace::test::Bytes bytes(data, size);
  std::string text;
  if (bytes.byte() % 2 != 0) text = "ace-playbook 1 page=4096 byte_seconds=8589934592\n";
  text.append(reinterpret_cast<const char *>(bytes.rest()), bytes.left());
  ace::read(text);
  return 0;
}
