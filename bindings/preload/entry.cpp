// The preloaded library's way in and out. It is loaded into every process that a command starts (shells,
// shims, `taskset`), so where no known host is found it does nothing at all.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

#include "ace/ace.h"
#include "api/report_file.h"
#include "api/stats_page.h"
#include "preload/hosts.h"
#include "trace/recorder.h"

namespace ace::preload {
namespace {

struct Host {
  Entry (*enter)();
  bool (*report)(int fd, bool json, bool held);
  void (*record)(const char *host);
  bool (*entered_later)();  // where the host may come with a library that is loaded after the start
};
constexpr Host kHosts[] = {{python::enter_cpython, python::report_cpython, python::record_cpython, nullptr},
                           {lua::enter_stock_lua, lua::report_stock_lua, nullptr, lua::entered_later}};
constexpr unsigned kHostCount = sizeof kHosts / sizeof kHosts[0];

Entry g_entries[kHostCount];

// This process, where a host was entered in it or in whom it was forked from. The child of a vfork, which has
// no memory of its own, has another number.
pid_t g_process;
std::atomic<bool> g_has_left;

// Asked before anything else is read: a process that is no host shall not even parse the options.
bool may_be_verbose() { return getenv("ACE_VERBOSE") != nullptr && ace_option_number("verbose") != 0; }

[[gnu::constructor]] void enter() {
  bool found = false;
  for (unsigned i = 0; i < kHostCount; ++i) {
    const Entry &entry = g_entries[i] = kHosts[i].enter();
    if (entry.result == Entry::kNotThisHost) continue;
    found = true;
    (void)ace_option_get("report");  // relative paths mean the folder in which the process is now
    if (entry.result == Entry::kEntered) {
      name_host(entry.host);
      g_process = getpid();
      if (kHosts[i].record != nullptr) kHosts[i].record(entry.host);
    }
    if (!entry.say && !may_be_verbose()) continue;
    dprintf(STDERR_FILENO, "ace: process %d: %s: %s: %s\n", getpid(), entry.host,
            entry.result == Entry::kEntered ? "entered" : "not entered", entry.detail);
  }
  if (!found && may_be_verbose()) {
    dprintf(STDERR_FILENO, "ace: process %d: not entered: %s is none of the hosts that can be entered here\n",
            getpid(), program_invocation_name);
  }
  if (g_process != 0) pthread_atfork(nullptr, nullptr, [] { g_process = getpid(); });
}

// Writes the report where the option says, a file's name with `suffix`.
void write_report(bool held, const char *suffix) {
  bool met[kHostCount], any = false;
  for (unsigned i = 0; i < kHostCount; ++i) {
    const bool later = kHosts[i].entered_later != nullptr && kHosts[i].entered_later();
    met[i] = g_entries[i].result != Entry::kNotThisHost || later;
    any |= met[i];
  }
  if (!any) return;

  ReportFile file(suffix);
  for (unsigned i = 0; i < kHostCount && file.is_wanted(); ++i) {
    if (met[i]) file.wrote(kHosts[i].report(file.fd(), file.json(), held));
  }
}

// Nothing is freed: other destructors may still free our blocks.
void leave(bool held) {
  if (g_has_left.exchange(true)) return;
  trace::end_recording();
  write_report(held, "");
}

[[gnu::destructor]] void leave_at_exit() { leave(false); }

}  // namespace
}  // namespace ace::preload

// For a program of the host that wants to know how its heaps stand at this moment: the report, in a file of its
// own (the option's name and ".now"). A lua_CFunction, for package.loadlib, and as good for ctypes.PyDLL:
// whoever calls it holds the state, or the GIL. Nothing is passed, nothing is returned.
extern "C" ACE_API int ace_report_now(void *) {
  ace::preload::write_report(true, ".now");
  return 0;
}

// In place of the C library's. No destructor runs, and yet a process that Python code ends by os._exit, as
// multiprocessing's do, has a report and a recording to end. Who else calls this (signal handlers, children
// that failed to become another program) goes at once.
extern "C" [[gnu::noreturn]] ACE_API void _exit(int status) {
  if (ace::preload::g_process == getpid() && ace::python::ends_by_python(__builtin_return_address(0)))
    ace::preload::leave(true);
  for (;;) syscall(SYS_exit_group, status);
}

// In place of the C library's. An interrupted CPython cleans up, and then ends itself by the signal, so that
// its parent sees why: no destructor runs.
extern "C" ACE_API int kill(pid_t process, int signal) noexcept {
  struct sigaction action;
  if (signal == SIGINT && process == ace::preload::g_process && process == getpid() &&
      sigaction(SIGINT, nullptr, &action) == 0 && action.sa_handler == SIG_DFL &&
      ace::python::ends_after_python(__builtin_return_address(0)))
    ace::preload::leave(false);
  return static_cast<int>(syscall(SYS_kill, process, signal));
}
