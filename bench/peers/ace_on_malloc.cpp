// ACE's C interface, as far as the host code of the preloaded library calls it, on whatever `malloc` the
// process has. A hint that a full collection is over, or that the program rests, makes that malloc give its
// memory back, by the function that it has for it: so a rival is told the same as ACE, at the same instant.
//
// There are no heaps: a "heap" here only counts. Every pointer is malloc's, so none is ever foreign.
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ace/ace.h"
#include "python/replay/purge_malloc.h"

namespace replay = ace::replay;

struct ace_heap {
  char name[32];
  bool purges_here;         // a hint to this heap makes malloc give memory back
  bool collection_is_full;  // the one that goes on
  unsigned long long hints, purges, purge_ns;
  ace_heap *next;
};

namespace {

pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;  // guards the list
ace_heap *g_heaps;

// ------------------------------------------------------------------------------ the purge of this malloc ----

const replay::MallocPurge *g_purge;
void *g_purge_function;

unsigned long long now_ns() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<unsigned long long>(time.tv_sec) * 1000000000 +
         static_cast<unsigned long long>(time.tv_nsec);
}

void give_back(ace_heap &heap) {
  if (!heap.purges_here || g_purge == nullptr) return;
  const unsigned long long start = now_ns();
  g_purge->run(g_purge_function);
  heap.purge_ns += now_ns() - start;
  ++heap.purges;
}

// -------------------------------------------------------------------------------------------- report ----

int report_heap(const ace_heap &heap, int fd, const char *format) {
  char line[512];
  const char *form =
      strcmp(format, "json") == 0
          ? "{\"pid\":%d,\"name\":\"%s\",\"audit\":\"not audited\",\"purge_by\":\"%s\",\"hints\":"
            "%llu,\"purges\":%llu,\"purge_ns\":%llu}\n"
          : "peer: process %d, %s: purged by %s, %llu hints, %llu purges in %llu ns\n";
  snprintf(line, sizeof line, form, getpid(), heap.name, g_purge != nullptr ? g_purge->name : "nothing",
           heap.hints, heap.purges, heap.purge_ns);
  return write(fd, line, strlen(line)) < 0 ? -1 : 0;
}

// malloc(0) and realloc(p, 0) differ between allocators, and the hosts want a block.
size_t at_least_one(size_t size) { return size + (size == 0); }

}  // namespace

extern "C" {

// --------------------------------------------------------------------------------------------- heaps ----

ace_heap *ace_heap_create(const ace_heap_config *config) noexcept {
  auto *heap = static_cast<ace_heap *>(calloc(1, sizeof(ace_heap)));
  if (heap == nullptr) return nullptr;
  snprintf(heap->name, sizeof heap->name, "%s", config->name != nullptr ? config->name : "heap");
  // CPython's hook tells its two heaps of the same collection; there is but one malloc.
  heap->purges_here = strcmp(heap->name, "python raw") != 0;
  heap->collection_is_full = true;
  if (g_purge == nullptr) g_purge = replay::find_malloc_purge(g_purge_function);
  pthread_mutex_lock(&g_lock);
  heap->next = g_heaps;
  g_heaps = heap;
  pthread_mutex_unlock(&g_lock);
  return heap;
}

void ace_heap_destroy(ace_heap *heap) noexcept {
  if (heap == nullptr) return;
  pthread_mutex_lock(&g_lock);
  ace_heap **link = &g_heaps;
  while (*link != nullptr && *link != heap) link = &(*link)->next;
  if (*link != nullptr) *link = heap->next;
  pthread_mutex_unlock(&g_lock);
  free(heap);
}

size_t ace_usable_size(const void *p) noexcept { return malloc_usable_size(const_cast<void *>(p)); }
void *ace_heap_alloc(ace_heap *, size_t size) noexcept { return malloc(at_least_one(size)); }
void *ace_heap_alloc_kind(ace_heap *, size_t size, ace_kind) noexcept { return malloc(at_least_one(size)); }
void *ace_heap_calloc(ace_heap *, size_t count, size_t size, ace_kind) noexcept {
  return count == 0 || size == 0 ? calloc(1, 1) : calloc(count, size);
}
void *ace_heap_realloc(ace_heap *, void *p, size_t size, ace_kind) noexcept {
  return realloc(p, at_least_one(size));
}
void ace_heap_free(ace_heap *, void *p) noexcept { free(p); }
void ace_heap_free_sized(ace_heap *, void *p, size_t) noexcept { free(p); }
void ace_heap_free_swept(ace_heap *, void *p, size_t) noexcept { free(p); }
int ace_heap_try_free(ace_heap *, void *p) noexcept {
  free(p);
  return 1;
}
int ace_heap_try_realloc(ace_heap *, void *p, size_t size, ace_kind, void **result) noexcept {
  *result = realloc(p, at_least_one(size));
  return 1;
}

size_t ace_heap_set_limit(ace_heap *, size_t) noexcept { return 0; }
ace_heap *ace_owner_of(const void *) noexcept { return nullptr; }
int ace_heap_owns(const ace_heap *, const void *) noexcept { return 0; }
void ace_free(void *p) noexcept { free(p); }
int ace_heap_walk_next(ace_heap *, uintptr_t *, ace_visit_fn, void *) noexcept { return 0; }
size_t ace_trim(ace_heap *heap, size_t) noexcept {
  give_back(*heap);
  return 0;
}

int ace_hint(ace_heap *heap, ace_hint_code hint, uint64_t value) noexcept {
  ++heap->hints;
  if (hint == ACE_HINT_COLLECT_BEGIN) heap->collection_is_full = value == 0;
  if (hint == ACE_HINT_IDLE_BEGIN) give_back(*heap);
  if (hint == ACE_HINT_COLLECT_END) {
    if (heap->collection_is_full) give_back(*heap);
    heap->collection_is_full = true;
  }
  return 0;
}

// ------------------------------------------------------------------------------- statistics, options ----

int ace_heap_stats(ace_heap *, ace_stats *stats, size_t size) noexcept {
  memset(static_cast<void *>(stats), 0, size);
  return 0;
}
int ace_heap_stats_shared(ace_heap *heap, ace_stats *stats, size_t size) noexcept {
  return ace_heap_stats(heap, stats, size);
}

int ace_stats_field(unsigned, ace_field_info *) noexcept { return -1; }
const char *ace_heap_name(const ace_heap *heap) noexcept { return heap->name; }

int ace_heap_report(ace_heap *heap, int fd, const char *format) noexcept {
  return report_heap(*heap, fd, format);
}

int ace_report(int fd, const char *format) noexcept {
  int result = 0;
  pthread_mutex_lock(&g_lock);
  for (const ace_heap *heap = g_heaps; heap != nullptr; heap = heap->next)
    result |= report_heap(*heap, fd, format);
  pthread_mutex_unlock(&g_lock);
  return result;
}

// The options that mean something here are read from the environment, as ACE's are.
const char *ace_option_get(const char *name) noexcept {
  const char *report = strcmp(name, "report") == 0 ? getenv("ACE_REPORT") : nullptr;
  return report != nullptr ? report : "none";
}
uint64_t ace_option_number(const char *name) noexcept {
  if (strcmp(name, "domains") == 0) return 7;  // raw, mem and obj
  const char *verbose = strcmp(name, "verbose") == 0 ? getenv("ACE_VERBOSE") : nullptr;
  return verbose != nullptr && strcmp(verbose, "on") == 0;
}
int ace_option_set(const char *, const char *) noexcept { return -1; }

}  // extern "C"
