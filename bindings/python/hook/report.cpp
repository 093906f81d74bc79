// How the hook stands at exit: one line, and then the heaps.
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "preload/hosts.h"
#include "python/hook/cpython.h"
#include "python/hook/hook.h"

namespace ace::python {
namespace {

const char *why_inactive(const Standing &s) {
  if (found().refusal[0] != '\0') return found().refusal;
  if (s.used) return "";
  if (s.replaced) return "another allocator was set: by -X dev, PYTHONDEVMODE, PYTHONMALLOC or the program";
  return "Python code never ran";
}

uint64_t foreign_pointers(ace_heap *heap) {
  ace_stats stats{};
  if (heap == nullptr || ace_heap_stats_shared(heap, &stats, sizeof stats) != 0) return 0;
  return stats.foreign_pointers;
}

const char *json_bool(bool value) { return value ? "true" : "false"; }

bool write_standing(int fd, bool json, const Standing &s) {
  const Found &f = found();
  unsigned long long foreign = foreign_pointers(s.vm_heap) + foreign_pointers(s.raw_heap);
  visit_interpreter_heaps(
      [](ace_heap *heap, void *sum) { *static_cast<unsigned long long *>(sum) += foreign_pointers(heap); },
      &foreign);
  char line[1024];
  if (json) {
    snprintf(line, sizeof line,
             "{\"host\":\"cpython\",\"pid\":%d,\"version\":\"%s\",\"active\":%s,\"reason\":\"%s\","
             "\"domains\":\"%s\",\"debug_hooks\":%s,\"collector\":%s,\"many_gils\":%s,\"foreign\":%llu}\n",
             getpid(), f.version, json_bool(s.used), why_inactive(s), f.domains, json_bool(f.debug_hooks),
             json_bool(attached()), json_bool(s.many_gils), foreign);
  } else if (s.used) {
    snprintf(line, sizeof line,
             "ace: CPython %s, process %d: active (%s%s), collections %s, %llu foreign pointers\n", f.version,
             getpid(), f.domains, f.debug_hooks ? ", with debug hooks" : "", attached() ? "heard" : "not heard",
             foreign);
  } else {
    snprintf(line, sizeof line, "ace: CPython %s, process %d: inactive: %s\n", f.version, getpid(),
             why_inactive(s));
  }
  return dprintf(fd, "%s", line) >= 0;
}

// The module posix is part of CPython's own file, too. Others may call from a signal's handler, in the midst of
// anything.
bool is_cpython_itself(const void *caller) {
  Dl_info it, python;
  return dladdr(caller, &it) != 0 && dladdr(reinterpret_cast<void *>(&Py_IsInitialized), &python) != 0 &&
         it.dli_fbase == python.dli_fbase;
}

}  // namespace

bool report_cpython(int fd, bool json, bool held) {
  const Standing s = standing();
  if (!write_standing(fd, json, s)) return false;
  if (s.vm_heap == nullptr && s.raw_heap == nullptr) return true;
  const char *format = json ? "json" : "text";
  if (Py_IsInitialized() && !held) {
    // exit() was called from C while Python lives: a thread with the GIL may be inside the heap, so that it
    // can be neither audited nor counted exactly.
    return ace_report(fd, format) == 0;
  }
  if (!report_heap(s.vm_heap, fd, format) || !report_heap(s.raw_heap, fd, format)) return false;
  struct Where {
    int fd;
    const char *format;
    bool whole;
  } where{fd, format, true};
  if (Py_IsInitialized()) return true;  // other interpreters may be inside theirs
  visit_interpreter_heaps(
      [](ace_heap *heap, void *context) {
        auto *to = static_cast<Where *>(context);
        to->whole = to->whole && ace_heap_report(heap, to->fd, to->format) == 0;
      },
      &where);
  return where.whole;
}

bool ends_by_python(const void *caller) {
  return &Py_IsInitialized != nullptr && Py_IsInitialized() && runs_main_interpreter() &&
         is_cpython_itself(caller) && has_worked_since_fork();
}

bool ends_after_python(const void *caller) {
  return &Py_IsInitialized != nullptr && !Py_IsInitialized() && standing().used && is_cpython_itself(caller);
}

}  // namespace ace::python
