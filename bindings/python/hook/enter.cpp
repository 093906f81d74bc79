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

constexpr int kNewestTried = 15;

char g_version[32];
char g_host[48];
char g_detail[256];
Found g_found{g_version, 0, "", "", false};

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

const char *take_over(unsigned domains) {
  const int minor = g_found.minor;
  const bool takes_vm = (domains & (1u << kMem | 1u << kObj)) != 0;
  Plan plan{};
  plan.domains = domains;
  plan.segregate = ace_option_number("kinds") != 0;
  plan.limit = ace_option_number("limit");
  plan.own_gils = minor >= 12;
  // How later versions announce an interpreter has not been tried.
  plan.assume_many_gils = minor > kNewestTried && takes_vm;
  if (plan.own_gils && takes_vm && !can_tell_interpreters()) {
    return "this build does not export what tells interpreters apart";
  }
  if (!install(plan)) return "the system gave no memory for a heap";
  g_found.refusal = "";
  g_found.domains = kDomainNames[domains];
  return nullptr;
}

bool is_ending() {
  // After the end there is no interpreter any more.
  if (&PyInterpreterState_Head == nullptr || PyInterpreterState_Head() == nullptr) return false;
  if (&Py_IsFinalizing != nullptr) return Py_IsFinalizing() != 0;
  return &_Py_IsFinalizing != nullptr && _Py_IsFinalizing() != 0;
}

}  // namespace

const Found &found() { return g_found; }

preload::Entry enter_cpython() {
  if (&PyMem_SetAllocator == nullptr) return {preload::Entry::kNotThisHost, "CPython", "", false};

  const char *version = &Py_GetVersion != nullptr ? Py_GetVersion() : "of unknown version";
  snprintf(g_version, sizeof g_version, "%.*s", static_cast<int>(strcspn(version, " ")), version);
  snprintf(g_host, sizeof g_host, "CPython %s", g_version);
  int major = 0;
  sscanf(version, "%d.%d", &major, &g_found.minor);
  const char *missing = missing_function();
  const bool runs = missing == nullptr && (Py_IsInitialized() || is_ending());

  const Asked asked = runs ? Asked::kNothing : take_python_malloc();
  const bool insisted = asked != Asked::kNothing;
  if (major != 3 || g_found.minor < 8) return refuse("CPython 3.8 or later is needed", insisted);
  if (missing != nullptr) {
    snprintf(g_detail, sizeof g_detail, "this build does not export %s", missing);
    return refuse(g_detail, insisted);
  }
  if (runs) return refuse("it was running already: acealloc.install() enters it then", false);

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

  if (const char *refusal = take_over(domains)) return refuse(refusal, true);
  // Its interpreters have other objects' headers, and objects that are not in our heaps.
  if (!free_threaded) add_builtin();

  g_found.debug_hooks = ace_option_number("debug_hooks") != 0;
  if (g_found.debug_hooks) PyMem_SetupDebugHooks();
  snprintf(g_detail, sizeof g_detail, "%s%s%s%s", g_found.domains,
           g_found.debug_hooks ? ", with debug hooks" : "",
           free_threaded ? "; mem and obj cannot be taken over: a free-threaded build finds its objects by its "
                           "own allocator"
                         : "",
           g_found.minor > kNewestTried && !free_threaded
               ? "; newer than what was tried: every call looks for its interpreter"
               : "");
  return {preload::Entry::kEntered, g_host, g_detail, free_threaded && insisted};
}

const char *enter_running() {
  const Standing s = standing();
  if (s.vm_heap != nullptr || s.raw_heap != nullptr) {
    return s.replaced ? "ACE was entered at the start, and another allocator has taken its place" : nullptr;
  }
  if (g_found.minor < 8 || missing_function() != nullptr) return "this interpreter cannot be entered at all";
  if (is_ending()) return "it is ending";
  if (is_free_threaded()) return "a free-threaded build finds its objects by its own allocator";
  if (ace_option_number("debug_hooks") != 0) {
    return "CPython's debug hooks cannot be set up any more: start the program with ACE";
  }
  // Whatever stands in front of CPython's own allocators would take its place again, and not know our blocks.
  const char *present = &_PyMem_GetCurrentAllocatorName != nullptr ? _PyMem_GetCurrentAllocatorName() : nullptr;
  if (present == nullptr || (strcmp(present, "pymalloc") != 0 && strcmp(present, "malloc") != 0)) {
    return "its allocators are not CPython's own any more (tracemalloc, a profiler, -X dev, PYTHONMALLOC): "
           "start the program with ACE";
  }
  if (&PyInterpreterState_Head == nullptr || &PyInterpreterState_Next == nullptr ||
      PyInterpreterState_Next(PyInterpreterState_Head()) != nullptr) {
    return "it has several interpreters: start the program with ACE";
  }
  if (const char *refusal = take_over(static_cast<unsigned>(ace_option_number("domains")))) return refusal;
  attach_now();
  return nullptr;
}

}  // namespace ace::python
