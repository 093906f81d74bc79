/* For test_memcheck.py: `memcheck CASE SIZE` makes one mistake, or none, with a block of SIZE bytes. */
#include <ace/ace.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile char sink;
static ace_heap *heap;
static size_t size;

static void *free_it(void *p) {
  ace_free(p);
  return NULL;
}

static void write_behind(char *p) { p[size] = 1; }
static void read_behind(char *p) { sink = p[size]; }
static void write_before(char *p) { p[-1] = 1; }
static void use_uninitialised(char *p) {
  char *q = ace_heap_alloc(heap, size);
  if (q[size - 1] == p[0]) sink = 1;
}
static void read_after_free(char *p) {
  ace_heap_free(heap, p);
  sink = p[size / 2];
}
static void read_after_remote_free(char *p) {
  pthread_t thread;
  pthread_create(&thread, NULL, free_it, p);
  pthread_join(thread, NULL);
  sink = p[0];
}
static void read_behind_shrunk(char *p) {
  p = ace_heap_realloc(heap, p, size - 1, 0);
  sink = p[size - 1];
}
static void use_what_it_grew_by(char *p) {
  p = ace_heap_realloc(heap, p, size + 1, 0);
  if (p[size] == 1) sink = 1;
}
static void free_twice(char *p) {
  ace_heap_free(heap, p);
  ace_heap_free(heap, p);
}
__attribute__((noinline)) static void lose_one(void) { memset(ace_alloc(size), 1, size); }
static void lose(char *p) {
  for (int i = 0; i < 11; ++i) lose_one();
  memset(__builtin_alloca(4096), 0, 4096); /* at most one word leads there now */
}

/* All that a program may do. */
static void no_mistake(char *p) {
  enum { kCount = 600 };
  static char *blocks[kCount];
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < kCount; ++i) {
      const size_t n = size + i % 9;
      blocks[i] = i % 5 == 0 ? ace_heap_aligned_alloc(heap, 64, n, 0) : ace_heap_alloc(heap, n);
      memset(blocks[i], i, n);
    }
    for (int i = 0; i < kCount; i += 2) {
      const char was = blocks[i][0];
      const size_t n = i % 3 == 0 ? size * 2 : size / 2 + 1;
      blocks[i] = ace_heap_realloc(heap, blocks[i], n, 0);
      if (blocks[i][0] != was) abort();
      memset(blocks[i], i, n);
    }
    if (ace_heap_audit(heap, NULL, 0) != 0) abort();
    for (int i = 0; i < kCount; ++i) {
      if (i % 7 == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, free_it, blocks[i]);
        pthread_join(thread, NULL);
      } else {
        ace_heap_free(heap, blocks[i]);
      }
    }
    ace_trim(heap, round == 1 ? 4096 : (size_t)-1);
    char *zeroed = ace_heap_calloc(heap, 3, size, 0);
    for (size_t i = 0; i < 3 * size; ++i)
      if (zeroed[i] != 0) abort();
    ace_heap_free(heap, zeroed);
  }
  sink = p[0];
}

static const struct {
  const char *name;
  void (*make)(char *);
} kCases[] = {
    {"no-mistake", no_mistake},
    {"write-behind", write_behind},
    {"read-behind", read_behind},
    {"write-before", write_before},
    {"use-uninitialised", use_uninitialised},
    {"read-after-free", read_after_free},
    {"read-after-remote-free", read_after_remote_free},
    {"read-behind-shrunk", read_behind_shrunk},
    {"use-what-it-grew-by", use_what_it_grew_by},
    {"free-twice", free_twice},
    {"lose", lose},
};

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  size = strtoul(argv[2], NULL, 10);
  heap = ace_heap_create(NULL);
  char *p = ace_heap_alloc(heap, size);
  memset(p, 1, size);
  for (size_t i = 0; i < sizeof kCases / sizeof kCases[0]; ++i) {
    if (strcmp(kCases[i].name, argv[1]) != 0) continue;
    kCases[i].make(p);
    ace_heap_destroy(heap);
    return 0;
  }
  return 2;
}
