#include "lua/heap_log.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/uncancelled.h"
#include "lua/fork.h"

namespace ace::lua {
namespace {

pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;  // guards the rest
HeapCounts g_counts;
OpenHeap *g_open;
bool g_forks_from_several;  // threads, while states are open
bool g_has_torn;            // a state that is open may have been left in the middle

// How many threads may be inside a heap: ACE's own, which give memory back and publish statistics, do not
// count.
unsigned count_threads() {
  const Uncancelled whole;
  DIR *tasks = opendir("/proc/self/task");
  if (tasks == nullptr) return 0;
  unsigned count = 0;
  while (const dirent *task = readdir(tasks)) {
    if (task->d_name[0] == '.') continue;
    char path[300], name[32] = "";
    snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;  // it has just ended
    const bool is_there = read(fd, name, sizeof name - 1) > 0;
    close(fd);
    count += is_there && strcmp(name, "ace-worker\n") != 0 && strcmp(name, "ace-publisher\n") != 0;
  }
  closedir(tasks);
  return count;
}

bool is_only_thread() {
  constexpr unsigned kTries = 20, kMicroseconds = 1000;
  const Uncancelled whole;
  unsigned count = count_threads();
  // One of ACE's own that has just begun still has the program's name.
  for (unsigned n = 1; n < kTries && count > 1; ++n) {
    usleep(kMicroseconds);
    count = count_threads();
  }
  return count == 1;
}

void report_closed_heap(ace_heap *heap) {
  const char *target = ace_option_get("report");
  if (strcmp(target, "none") == 0) return;
  if (strcmp(target, "stderr") == 0) {
    ace_heap_report(heap, STDERR_FILENO, "text");
    return;
  }
  const Uncancelled whole;
  // A file that cannot be opened is spoken of once, at exit, by those who open it then.
  const int fd = open(target, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return;
  ace_heap_report(heap, fd, "json");
  close(fd);
}

void lock_heap_log() { pthread_mutex_lock(&g_lock); }

}  // namespace

void unlock_heap_log() { pthread_mutex_unlock(&g_lock); }

// A child has no thread but one, and states that another was inside stay as they were: only who reports asks.
void lock_heap_log_before_fork() {
  lock_heap_log();
  const bool asks = g_open != nullptr && strcmp(ace_option_get("report"), "none") != 0;
  g_forks_from_several = asks && count_threads() > 1;
}

void unlock_heap_log_in_child() {
  g_has_torn |= g_forks_from_several;
  unlock_heap_log();
}

ace_lua_vm *make_logged_vm(const char *name, OpenHeap *&entry) {
  entry = static_cast<OpenHeap *>(calloc(1, sizeof(OpenHeap)));
  if (entry == nullptr) return nullptr;
  ace_lua_options options = ACE_LUA_OPTIONS;
  options.name = name;
  options.limit = ace_option_number("limit");
  options.kinds = ace_option_number("kinds") != 0;
  options.on_close = log_closed_heap;
  options.on_close_context = entry;
  ace_lua_vm *vm = ace_lua_vm_create(&options);
  if (vm == nullptr) free(entry);
  return vm;
}

void drop_logged_vm(ace_lua_vm *vm, OpenHeap *entry) {
  ace_lua_vm_destroy(vm);
  free(entry);
}

void log_open_heap(OpenHeap *entry, ace_heap *heap) {
  entry->heap = heap;
  lock_heap_log();
  entry->after = g_open;
  if (g_open != nullptr) g_open->before = entry;
  g_open = entry;
  ++g_counts.opened;
  unlock_heap_log();
}

void log_closed_heap(ace_heap *heap, void *context) {
  auto entry = static_cast<OpenHeap *>(context);
  ace_stats stats{};
  ace_heap_stats(heap, &stats, sizeof stats);
  lock_heap_log();
  (entry->before != nullptr ? entry->before->after : g_open) = entry->after;
  if (entry->after != nullptr) entry->after->before = entry->before;
  ++g_counts.closed;
  g_counts.foreign += stats.foreign_pointers;
  g_counts.leaked += stats.live_blocks;
  unlock_heap_log();
  free(entry);
  report_closed_heap(heap);
}

HeapCounts heap_counts() {
  lock_heap_log();
  HeapCounts counts = g_counts;
  unlock_heap_log();
  return counts;
}

bool report_open_heaps(int fd, bool json) {
  const char *format = json ? "json" : "text";
  if (!g_has_torn && is_only_thread()) {
    for (const OpenHeap *entry = g_open; entry != nullptr; entry = entry->after) {
      if (ace_heap_report(entry->heap, fd, format) != 0) return false;
    }
  } else if (g_open != nullptr) {
    // Another thread may be inside one of them, or was: neither audited nor counted exactly.
    return ace_report(fd, format) == 0;
  }
  return true;
}

}  // namespace ace::lua
