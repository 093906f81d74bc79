// Is this process CPython, may it be entered, and with what.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "preload/hosts.h"
#include "python/hook/cpython.h"
#include "python/hook/hook.h"

// CPython's global state; from 3.13 on it begins with a description of itself, which the cookie announces.
extern "C" [[gnu::weak]] struct {
  char cookie[8];
  uint64_t version;
  uint64_t free_threaded;
} _PyRuntime;

namespace ace::python {
namespace {

char g_version[32];
char g_host[48];
char g_detail[256];
Found g_found{g_version, "", "", false};

// By the bits of the option `domains`.
constexpr const char *kDomainNames[] = {"",    "raw",     "mem",     "raw,mem",
                                        "obj", "raw,obj", "mem,obj", "raw,mem,obj"};

// What PYTHONMALLOC says. Its values that are ours are removed from the environment, since CPython would not
// know them; children find the preloaded library, and with ace_debug the option, in their environment.
enum class Asked { kNothing, kAce, kAceDebug };

Asked take_python_malloc() {
  const char *value = getenv("PYTHONMALLOC");
  if (value == nullptr) return Asked::kNothing;
  const Asked asked = strcmp(value, "ace") == 0         ? Asked::kAce
                      : strcmp(value, "ace_debug") == 0 ? Asked::kAceDebug
                                                        : Asked::kNothing;
  if (asked == Asked::kNothing) {
    if (strncmp(value, "ace", 3) == 0) {
      dprintf(2, "ace: PYTHONMALLOC=%s is no value of ACE: it has ace and ace_debug\n", value);
    }
    return asked;
  }
  unsetenv("PYTHONMALLOC");
  if (asked == Asked::kAceDebug) {
    ace_option_set("debug_hooks", "on");
    setenv("ACE_DEBUG_HOOKS", "on", 1);
  }
  return asked;
}

// The collector of a free-threaded build walks the original allocator's heaps: objects must stay there.
bool is_free_threaded() {
  return &_PyRuntime != nullptr && memcmp(_PyRuntime.cookie, "xdebugpy", 8) == 0 &&
         _PyRuntime.free_threaded != 0;
}

const char *missing_function() {
#define ACE_CPYTHON_CHECK(result, name, parameters) \
  if (&name == nullptr) return #name;
  ACE_CPYTHON_FUNCTIONS(ACE_CPYTHON_CHECK)
#undef ACE_CPYTHON_CHECK
  return nullptr;
}

preload::Entry refuse(const char *why, bool say) {
  g_found.refusal = why;
  return {preload::Entry::kRefused, g_host, why, say};
}

}  // namespace

const Found &found() { return g_found; }

preload::Entry enter_cpython() {
  if (&PyMem_SetAllocator == nullptr) return {preload::Entry::kNotThisHost, "CPython", "", false};

  const char *version = &Py_GetVersion != nullptr ? Py_GetVersion() : "of unknown version";
  snprintf(g_version, sizeof g_version, "%.*s", static_cast<int>(strcspn(version, " ")), version);
  snprintf(g_host, sizeof g_host, "CPython %s", g_version);
  int major = 0, minor = 0;
  sscanf(version, "%d.%d", &major, &minor);

  const Asked asked = take_python_malloc();
  const bool insisted = asked != Asked::kNothing;
  if (major != 3 || minor < 8) return refuse("CPython 3.8 or later is needed", insisted);
  if (const char *name = missing_function()) {
    snprintf(g_detail, sizeof g_detail, "this build does not export %s", name);
    return refuse(g_detail, insisted);
  }

  auto domains = static_cast<unsigned>(ace_option_number("domains"));
  const bool free_threaded = is_free_threaded();
  if (free_threaded) {
    domains &= 1u << kRaw;
    if (domains == 0) {
      return refuse(
          "a free-threaded build finds its objects by its own allocator; only raw can be taken over "
          "(ACE_DOMAINS=raw), or use a build with a GIL",
          true);
    }
  }

  Plan plan{};
  plan.domains = domains;
  plan.segregate = ace_option_number("kinds") != 0;
  plan.limit = ace_option_number("limit");
  plan.own_gils = minor >= 12;
  // How later versions announce an interpreter has not been tried.
  plan.assume_many_gils = minor > 13 && (domains & (1u << kMem | 1u << kObj)) != 0;
  if (plan.own_gils && (domains & (1u << kMem | 1u << kObj)) != 0 && !can_tell_interpreters()) {
    return refuse("this build does not export what tells interpreters apart", insisted);
  }
  if (!install(plan)) return refuse("the system gave no memory for a heap", true);
  g_found.domains = kDomainNames[domains];
  // Its interpreters have other objects' headers, and objects that are not in our heaps.
  if (!free_threaded) add_builtin(minor);

  g_found.debug_hooks = ace_option_number("debug_hooks") != 0;
  if (g_found.debug_hooks) PyMem_SetupDebugHooks();
  snprintf(g_detail, sizeof g_detail, "%s%s%s%s", g_found.domains,
           g_found.debug_hooks ? ", with debug hooks" : "",
           free_threaded ? "; mem and obj cannot be taken over: a free-threaded build finds its objects by its "
                           "own allocator"
                         : "",
           plan.assume_many_gils ? "; newer than what was tried: every call looks for its interpreter" : "");
  return {preload::Entry::kEntered, g_host, g_detail, free_threaded && insisted};
}

}  // namespace ace::python
