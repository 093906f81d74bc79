#include "shim/start.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <utility>

#include "ace/ace.h"
#include "api/fork.h"
#include "api/report_file.h"
#include "base/say.h"
#include "base/text.h"
#include "control/worker.h"
#include "os/process.h"
#include "os/write_all.h"
#include "shim/outside.h"
#include "wire/options.h"

namespace ace::shim {

trace::Stream *g_stream;

namespace {

// Making a heap asks libc for things that may allocate: a warning about an option is printed, a file opened.
thread_local bool t_enters;
std::atomic<bool> g_is_set_up{false};

// The loader may allocate before libc has found the environment, in which the options are.
bool can_read_environment() { return environ != nullptr || g_is_set_up.load(std::memory_order_relaxed); }

pthread_once_t g_forks_once = PTHREAD_ONCE_INIT;
void watch_all_forks() {
  pthread_once(&g_forks_once, [] {
    watch_forks();
    pthread_atfork(lock_outside, unlock_outside, unlock_outside);
  });
}

void set_up() {
  g_is_set_up.store(true, std::memory_order_relaxed);
  // No thread of ours in other people's programs: a process that calls unshare or setns must have one alone,
  // one that is locked into seccomp may start none, and few know that they have become more.
  g_threads_barred.store(true, std::memory_order_relaxed);
  watch_all_forks();
  g_stream = trace::open_stream("malloc", nullptr, true);
  if (g_stream != nullptr) withhold_thread_heaps();
}
pthread_once_t g_set_up_once = PTHREAD_ONCE_INIT;

}  // namespace

constinit thread_local unsigned t_frees_without_heap = 0;

bool is_early() { return t_enters || !can_read_environment(); }

Heap *own_heap() {
  if (is_early()) return nullptr;
  if (Heap *heap = known_thread_heap(); heap != nullptr) return heap;
  const int error = errno;
  t_enters = true;
  pthread_once(&g_set_up_once, set_up);
  Heap *heap = thread_heap();
  if (heap != nullptr) t_frees_without_heap = kFreesBeforeHeap;
  t_enters = false;
  errno = error;
  return heap;
}

namespace {

[[gnu::constructor]] void enter() {
  g_is_set_up.store(true, std::memory_order_relaxed);
  own_heap();  // before the options are read from here: what they print may allocate
  if (getenv("ACE_VERBOSE") == nullptr || ace_option_number("verbose") == 0) return;
  say("ace: process %d: malloc: entered\n", getpid());
}

bool write_report(int fd, bool json) {
  char line[2048];
  TextBuffer text(line, sizeof line);
  if (json) {
    text.add("{\"host\":\"malloc\",\"pid\":%d,\"version\":\"%s\",\"active\":true,\"reason\":null", getpid(),
             ace_version());
    add_command(text);
    text.add(",\"foreign_frees\":%zu}\n", foreign_frees());
  } else {
    text.add("ace: malloc of process %d (%s): %zu foreign pointers freed\n", getpid(),
             program_invocation_short_name, foreign_frees());
  }
  return write_all(fd, text.text(), text.length()) && ace_report(fd, json ? "json" : "text") == 0;
}

[[gnu::noinline]] void report() {
  ReportFile file;
  if (file.is_wanted()) file.wrote(write_report(file.fd(), file.json()));
}

// Nothing is freed: other destructors may still use their blocks. Nor is much of the stack used where no report
// is wanted: any thread may be the one that calls exit.
[[gnu::destructor]] void leave() {
  trace::end_recording();
  if (strcmp(ace_option_get("report"), "none") != 0) report();
}

}  // namespace
}  // namespace ace::shim

extern "C" {

extern __attribute__((visibility("hidden"))) void *__dso_handle;

// What pthread_atfork, which is part of each library, calls. A library's constructor may come before ours and
// register a handler that allocates: ours are registered before any other, so that before a fork they take
// the locks last, and after it give them back first.
ACE_API int __register_atfork(void (*prepare)(), void (*parent)(), void (*child)(), void *library) noexcept {
  // Who allocates in here is served outside all heaps, which are not made before we have been registered: older
  // glibcs do in a thread's first dlsym.
  const bool entered = std::exchange(ace::shim::t_enters, true);
  if (library != __dso_handle) ace::shim::watch_all_forks();
  const auto next = reinterpret_cast<decltype(&__register_atfork)>(dlsym(RTLD_NEXT, "__register_atfork"));
  ace::shim::t_enters = entered;
  return next == nullptr ? ENOSYS : next(prepare, parent, child, library);
}

}  // extern "C"
