/* The header from C99 with -pedantic: every function is called once, through the shared library. */
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

static int asked;
static int on_limit(ace_heap *heap, size_t missing, void *context) {
  (void)heap;
  (void)missing;
  asked += *(int *)context;
  return 0;
}

static int count_block(void *block, size_t usable, ace_kind group, void *context) {
  (void)block;
  (void)group;
  *(size_t *)context += usable;
  return 0;
}

static ace_error_code last_error;
static void on_error(const ace_error *error, void *context) {
  (void)context;
  last_error = error->code;
}

static int thread_heap(void) {
  char *p = ace_alloc(10);
  CHECK(p != NULL && ace_usable_size(p) >= 10 && ace_good_size(10) == ace_usable_size(p));
  p = ace_realloc(p, 1000);
  CHECK(p != NULL && ace_owner_of(p) == ace_thread_heap());
  ace_free_sized(p, 1000);
  p = ace_calloc(10, 10);
  CHECK(p != NULL && p[99] == 0);
  ace_free(p);
  p = ace_aligned_alloc(64, 10);
  CHECK(p != NULL && (uintptr_t)p % 64 == 0);
  ace_free(p);
  CHECK(ace_aligned_alloc(2 * ACE_ALIGNMENT_MAX, 1) == NULL);
  return 0;
}

static int explicit_heap(void) {
  static int one = 1;
  ace_heap_config config;
  ace_heap *heap;
  ace_stats stats;
  char message[100];
  void *p, *q, *r, *result = NULL;
  size_t walked = 0;
  memset(&config, 0, sizeof config);
  config.struct_size = sizeof config;
  config.name = "c99";
  config.flags = ACE_HEAP_NO_WORKER;
  config.kind_groups = 2;
  config.limit = (size_t)64 << 20;
  config.on_limit = on_limit;
  config.on_limit_context = &one;
  heap = ace_heap_create(&config);
  CHECK(heap != NULL && strcmp(ace_heap_name(heap), "c99") == 0);

  p = ace_heap_alloc(heap, 100);
  q = ace_heap_alloc_kind(heap, 100, 1);
  r = ace_heap_calloc(heap, 3, 100, ACE_KIND_MAX);
  p = ace_heap_realloc(heap, p, 200, 0);
  CHECK(p != NULL && q != NULL && r != NULL);
  CHECK(ace_heap_try_realloc(heap, p, 300, 0, &result) == 1 && result != NULL);
  CHECK(ace_heap_try_free(heap, &config) == 0 && ace_heap_try_free(heap, result) == 1);
  CHECK(ace_heap_aligned_alloc(heap, 4096, 100, 0) != NULL);
  CHECK(ace_heap_walk(heap, count_block, &walked) == 0 && walked >= 500);
  ace_heap_free(heap, q);
  ace_heap_free_sized(heap, r, 300);
  ace_heap_free_swept(heap, ace_heap_alloc(heap, 40), 40);
  CHECK(ace_heap_alloc(heap, (size_t)100 << 20) == NULL && asked == 1);
  CHECK(ace_heap_set_limit(heap, 0) == config.limit);

  CHECK(ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 0) == 0 && ace_hint(heap, ACE_HINT_COLLECT_END, 100) == 0);
  CHECK(ace_trim(heap, SIZE_MAX) > 0 || ace_trim_shared(heap, 0) == 0);
  CHECK(ace_tick(UINT64_MAX) > 0);
  CHECK(ace_playbook_write() == 0);
  CHECK(ace_heap_stats(heap, &stats, sizeof stats) == 0 && stats.live_blocks == 1 &&
        stats.collections_full == 1);
  CHECK(ace_heap_stats_shared(heap, &stats, sizeof stats) == 0 && stats.limit_failures == 1);
  CHECK(ace_heap_audit(heap, message, sizeof message) == 0);
  CHECK(ace_heap_report(heap, -1, "json") == -1 && ace_report(-1, "none") == -1);
  ace_heap_destroy(heap);
  return 0;
}

static int library(void) {
  ace_field_info field;
  ace_option_info option;
  int local = 0;
  CHECK(ace_abi_version() == ACE_ABI_VERSION && strlen(ace_version()) >= 5);
  CHECK(ace_stats_field(0, &field) == 0 && field.offset == offsetof(ace_stats, live_bytes));
  CHECK(ace_phase_name(0) != NULL && ace_phase_name(ACE_PHASES) == NULL);
  CHECK(ace_option_describe(0, &option) == 0 && ace_option_get(option.name) != NULL);
  CHECK(ace_option_set("no such option", "1") == -1 && ace_option_number("no such option") == 0);
  ace_set_error_handler(on_error, NULL);
  ace_free(&local);
  CHECK(last_error == ACE_ERROR_FOREIGN);
  ace_set_error_handler(NULL, NULL);
  return 0;
}

int main(void) { return thread_heap() || explicit_heap() || library(); }
