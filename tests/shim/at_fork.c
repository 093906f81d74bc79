/* A library whose fork handlers allocate. Its constructor comes before that of the malloc below it, and nothing
 * has been allocated by then. */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

static void many(void) {
  static void *blocks[5000];
  for (size_t i = 0; i < 5000; ++i) blocks[i] = malloc(i * 7);
  for (size_t i = 0; i < 5000; ++i) free(blocks[i]);
  free(malloc(4000000));
  free(memalign((size_t)4 << 20, 100));
}

__attribute__((constructor)) static void begin(void) { pthread_atfork(many, many, many); }
