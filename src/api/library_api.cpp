// The library itself, in C: version, options, errors.
#include "ace/ace.h"
#include "base/check.h"
#include "base/say.h"
#include "control/playbook.h"
#include "front/misuse.h"
#include "wire/options.h"

namespace ace {

void assertion_failed(const char *condition, const char *file, int line) {
  say("ace: %s:%d: assertion failed: %s\n", file, line, condition);
  abort();
}

}  // namespace ace

#define ACE_TEXT_OF(x) #x
#define ACE_TEXT(x) ACE_TEXT_OF(x)

extern "C" {

unsigned ace_abi_version(void) noexcept { return ACE_ABI_VERSION; }

const char *ace_version(void) noexcept {
  return ACE_TEXT(ACE_VERSION_MAJOR) "." ACE_TEXT(ACE_VERSION_MINOR) "." ACE_TEXT(ACE_VERSION_PATCH);
}

int ace_option_describe(unsigned index, ace_option_info *info) noexcept {
  return ace::describe_option(index, info) ? 0 : -1;
}

int ace_option_set(const char *name, const char *value) noexcept { return ace::set_option(name, value); }

const char *ace_option_get(const char *name) noexcept { return ace::option_text(name); }

uint64_t ace_option_number(const char *name) noexcept { return ace::option_number(name); }

int ace_playbook_write(void) noexcept { return ace::write_playbook() ? 0 : -1; }

void ace_set_error_handler(ace_error_fn handler, void *context) noexcept {
  ace::set_misuse_handler(handler, context);
}

}  // extern "C"
