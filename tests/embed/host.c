/* Prints what a heap counts after a pattern of calls that is the same each time, so that two builds of ACE can
 * be compared. C99, and C++ as well. */
#include <ace/ace.h>
#include <stdio.h>
#include <string.h>

#define CHECK(condition)                                                            \
  do {                                                                              \
    if (!(condition)) {                                                             \
      fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
      return 1;                                                                     \
    }                                                                               \
  } while (0)

enum { SLOTS = 3000, STEPS = 60000 };

static unsigned random_below(unsigned n) {
  static uint32_t state = 1;
  state = state * 1664525u + 1013904223u;
  return (state >> 8) % n;
}

/* Small blocks most of the time, page runs, now and then a mapping of its own. */
static size_t random_size(void) {
  unsigned kind = random_below(1000);
  return kind < 950 ? random_below(1000) : kind < 999 ? random_below(60000) : random_below(2000000);
}

static int churn(ace_heap *heap) {
  static char *blocks[SLOTS];
  static size_t sizes[SLOTS];
  for (int i = 0; i < STEPS; ++i) {
    unsigned slot = random_below(SLOTS);
    size_t size = random_size();
    if (blocks[slot] == NULL) {
      blocks[slot] = (char *)ace_heap_alloc(heap, size);
      CHECK(blocks[slot] != NULL);
      memset(blocks[slot], (int)slot, size);
    } else if (size % 3 == 0) {
      size_t kept = size < sizes[slot] ? size : sizes[slot];
      blocks[slot] = (char *)ace_heap_realloc(heap, blocks[slot], size, 0);
      CHECK(blocks[slot] != NULL && (kept == 0 || blocks[slot][kept - 1] == (char)slot));
      memset(blocks[slot], (int)slot, size);
    } else {
      ace_heap_free_sized(heap, blocks[slot], sizes[slot]);
      blocks[slot] = NULL;
    }
    sizes[slot] = size;
  }
  for (int i = 0; i < SLOTS; i += 2) {
    ace_heap_free(heap, blocks[i]);
    blocks[i] = NULL;
  }
  return 0;
}

/* Until the limit says no, and then once more after room was made. */
static int run_into_the_limit(ace_heap *heap) {
  void *last = NULL;
  ace_heap_set_limit(heap, (size_t)96 << 20);
  for (void *p; (p = ace_heap_alloc(heap, 100000)) != NULL; last = p) memset(p, 1, 100000);
  CHECK(last != NULL);
  ace_heap_free(heap, last);
  CHECK(ace_heap_alloc(heap, 100000) == last);
  return 0;
}

static int print_statistics(ace_heap *heap) {
  ace_stats stats;
  ace_field_info field;
  CHECK(ace_heap_stats(heap, &stats, sizeof stats) == 0);
  for (unsigned i = 0; ace_stats_field(i, &field) == 0; ++i) {
    uint64_t value;
    memcpy(&value, (const char *)&stats + field.offset, sizeof value);
    if (strcmp(field.unit, "ns") != 0) printf("%s %llu\n", field.name, (unsigned long long)value);
  }
  return 0;
}

int main(void) {
  ace_heap_config config;
  ace_heap *heap;
  char broken[200] = "";
  /* Memory goes back by ace_trim alone, whatever the clock says, and comes by the same pages everywhere. */
  CHECK(ace_option_set("mode", "off") == 0 && ace_option_set("huge_pages", "off") == 0);
  memset(&config, 0, sizeof config);
  config.struct_size = sizeof config;
  config.name = "host";
  heap = ace_heap_create(&config);
  CHECK(heap != NULL && ace_abi_version() == ACE_ABI_VERSION);

  if (churn(heap) != 0) return 1;
  CHECK(ace_hint(heap, ACE_HINT_COLLECT_END, 0) == 0 && ace_trim(heap, SIZE_MAX) != 0);
  if (run_into_the_limit(heap) != 0) return 1;
  CHECK(ace_heap_audit(heap, broken, sizeof broken) == 0 && broken[0] == '\0');
  printf("version %s\n", ace_version());
  if (print_statistics(heap) != 0) return 1;
  ace_heap_destroy(heap);
  return 0;
}
