/* What programs do wrong with their memory, one mistake a run: `corruption ACE|malloc CASE`; `--list` names the
 * cases.
 *
 * A mistake that was noticed ends the process by a signal: the allocator's own abort, or a page that nobody may
 * touch. What was not noticed ends with status 0; 3: the allocator did harm on top of it, such as handing out
 * an address of the attacker's choice, or a block twice.
 *
 *   ace     an explicit heap of ACE's, hardened where ACE_HARDENED=on says so
 *   malloc  the same by malloc, for other allocators; cases that have no meaning there are not listed for it
 */
#include <ace/ace.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mistakes.h"

ace_heap *heap;
bool is_ace;

/* ---- the allocator under test */

void *get(size_t size) { return is_ace ? ace_heap_alloc(heap, size) : malloc(size); }
void *get_aligned(size_t alignment, size_t size) {
  return is_ace ? ace_heap_aligned_alloc(heap, alignment, size, 0) : aligned_alloc(alignment, size);
}
void *get_zeroed(size_t size) { return is_ace ? ace_heap_calloc(heap, 1, size, 0) : calloc(1, size); }
void *resize(void *p, size_t size) { return is_ace ? ace_heap_realloc(heap, p, size, 0) : realloc(p, size); }
void drop(void *p) { is_ace ? ace_heap_free(heap, p) : free(p); }
void drop_sized(void *p, size_t size) { ace_heap_free_sized(heap, p, size); }
size_t usable(void *p) { return is_ace ? ace_usable_size(p) : malloc_usable_size(p); }

static void *drop_here(void *p) {
  is_ace ? ace_free(p) : free(p);
  return NULL;
}
static void *drop_twice_here(void *p) {
  drop_here(p);
  return drop_here(p);
}
static void elsewhere(void *(*run)(void *), void *p) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, run, p) != 0) abort();
  pthread_join(thread, NULL);
}
void drop_elsewhere(void *p) { elsewhere(drop_here, p); }
void drop_twice_elsewhere(void *p) { elsewhere(drop_twice_here, p); }

ace_heap *other_heap(void) {
  ace_heap_config config = {sizeof config, "other", ACE_HEAP_NO_WORKER, 0, 0, NULL, NULL};
  return ace_heap_create(&config);
}

/* ---- after the mistake the program goes on, and uses blocks of that size as any would */

static uintptr_t g_forbidden[2]; /* addresses that the allocator must never hand out: [from, to) */
void forbid(void *p, size_t size) {
  g_forbidden[0] = (uintptr_t)p;
  g_forbidden[1] = (uintptr_t)p + size;
}

static int by_address(const void *a, const void *b) {
  const uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
  return x < y ? -1 : x > y;
}

void go_on(size_t size) {
  enum { kMost = 6000, kRounds = 2 };
  static void *blocks[kMost];
  const int count = size < 2048 ? kMost : size < 65536 ? 200 : 20;
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < count; ++i) {
      char *p = blocks[i] = get(size);
      if ((uintptr_t)p >= g_forbidden[0] && (uintptr_t)p < g_forbidden[1]) exit(3);
      if (p != NULL) memset(p, 0x11, size);
    }
    qsort(blocks, (size_t)count, sizeof *blocks, by_address);
    for (int i = 1; i < count; ++i) {
      if (blocks[i] == blocks[i - 1]) exit(3);
    }
    for (int i = 0; i < count; ++i) drop(blocks[i]);
  }
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "--list") == 0) {
    for (const struct mistake *m = mistakes; m->name != NULL; ++m)
      printf("%s\t%s\t%s\t%s\t%s\n", m->name, m->title, m->hardened, m->plain, m->in_malloc ? "malloc" : "");
    return 0;
  }
  if (argc != 3) return fprintf(stderr, "usage: corruption ace|malloc CASE | --list\n"), 2;
  is_ace = strcmp(argv[1], "ace") == 0;
  if (is_ace) {
    ace_heap_config config = {sizeof config, "victim", ACE_HEAP_NO_WORKER, 0, 0, NULL, NULL};
    heap = ace_heap_create(&config);
  }
  for (const struct mistake *m = mistakes; m->name != NULL; ++m) {
    if (strcmp(m->name, argv[2]) != 0) continue;
    m->make();
    return 0;
  }
  return fprintf(stderr, "corruption: no case %s\n", argv[2]), 2;
}
