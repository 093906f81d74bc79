/* The first thread ends by pthread_exit, and another goes on:
 *
 *   first_thread          the first has used a heap
 *   first_thread other    the other alone has
 *
 * Prints what is resident once the first has ended. With the other's end the process ends, whatever threads the
 * library has.
 */
#include <ace/ace.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

#define BLOCKS ((8 << 20) / 64)

static ace_heap *heap;
static pthread_t first;
static sem_t used;
static void *blocks[BLOCKS];

/* 8 MiB of which next to nothing stays, to go back later. */
static void use(void) {
  ace_heap_config config = {.struct_size = sizeof config, .name = "used"};
  heap = ace_heap_create(&config);
  for (int i = 0; i < BLOCKS; ++i) blocks[i] = memset(ace_heap_alloc(heap, 64), 1, 64);
  for (int i = 0; i < BLOCKS; ++i) {
    if (i % 6400 != 0) ace_heap_free(heap, blocks[i]);
  }
  ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 1);
  ace_hint(heap, ACE_HINT_COLLECT_END, 0);
  sem_post(&used);
}

static void *go_on(void *uses) {
  if (uses != NULL) use();
  pthread_join(first, NULL);
  ace_stats stats;
  ace_heap_stats_shared(heap, &stats, sizeof stats);
  printf("%llu\n", (unsigned long long)stats.resident_bytes);
  fflush(stdout);
  return NULL;
}

int main(int count, char **words) {
  (void)words;
  pthread_t other;
  first = pthread_self();
  sem_init(&used, 0, 0);
  if (count == 1) use();
  if (pthread_create(&other, NULL, go_on, count == 1 ? NULL : &first) != 0) return 1;
  sem_wait(&used);
  pthread_exit(NULL);
}
