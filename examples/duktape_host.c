/* A host that runs JavaScript by Duktape, each script in a Duktape heap of its own, which allocates from an ACE
 * heap with a memory limit of its own.
 *
 *     duktape_host [limit in MB] [script.js ...]
 *
 * Without scripts it runs three of its own: one that works, one that leaves garbage in cycles, which references
 * that are counted cannot free, and one that takes memory until its limit stops it. A script that hits its
 * limit gets Duktape's "Error: alloc failed" ("DoubleError" where not even that has room); its heap goes on,
 * and so do the others. The exit status is 0 only where every script either ran or was stopped by its limit,
 * and no block was left at the end.
 *
 *     cc duktape_host.c $(pkg-config --cflags --libs ace duktape) -o duktape_host
 */
#include <duktape.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ace/ace.h"

struct script {
  const char *name;
  const char *text; /* NULL: `name` is a file */
};

static const struct script examples[] = {
    {"works",
     "var t = []; for (var i = 0; i < 20000; i++) t.push({id: i});"
     "print('works: built ' + t.length + ' records');"},
    {"cycles",
     "for (var i = 0; i < 10000; i++) { var a = {id: i}; a.self = a; }"
     "print('cycles: last was ' + a.id);"},
    {"hoards", "hoard = []; for (;;) hoard.push({id: hoard.length});"},
};

/* What a host runs to make room in a heap that hit its limit: here, it drops all that the script held. */
static const struct script recovery = {"recovery", "hoard = null;"};
/* A heap that is full cannot even compile that: meanwhile it may have so much more. */
static const size_t recovery_bytes = 1 << 20;

static const struct script going_on = {"going on", "print('goes on: ' + [1, 2, 3].join(' '));"};

static void *allocate(void *heap, duk_size_t size) { return ace_heap_alloc(heap, size); }

/* Of size 0 Duktape takes either: a block, which it frees later, or NULL for one that was freed. */
static void *reallocate(void *heap, void *p, duk_size_t size) { return ace_heap_realloc(heap, p, size, 0); }

static void release(void *heap, void *p) { ace_heap_free(heap, p); }

static void fatal(void *heap, const char *message) {
  fprintf(stderr, "%s: %s\n", ace_heap_name(heap), message != NULL ? message : "fatal error");
  exit(1);
}

static double megabytes(uint64_t bytes) { return (double)bytes / 1e6; }

static void print_heap(const char *when, ace_heap *heap) {
  ace_stats stats;
  ace_heap_stats(heap, &stats, sizeof stats);
  printf("  %-16s live %6.2f MB   resident %6.2f MB   peak %6.2f MB   refused %llu times\n", when,
         megabytes(stats.live_bytes), megabytes(stats.resident_bytes), megabytes(stats.peak_resident_bytes),
         (unsigned long long)stats.limit_failures);
}

static duk_ret_t print(duk_context *ctx) {
  duk_push_string(ctx, " ");
  duk_insert(ctx, 0);
  duk_join(ctx, duk_get_top(ctx) - 1);
  printf("  %s\n", duk_safe_to_string(ctx, -1));
  return 0;
}

static void push_file(duk_context *ctx, const char *name) {
  FILE *file = fopen(name, "rb");
  if (file == NULL) (void)duk_generic_error(ctx, "cannot open %s", name);
  fseek(file, 0, SEEK_END);
  const long size = ftell(file);
  rewind(file);
  /* Of the heap: a script that is too large for its limit is an error like any. */
  char *text = size < 0 ? NULL : duk_alloc(ctx, (duk_size_t)size + 1);
  const size_t length = text == NULL ? 0 : fread(text, 1, (size_t)size, file);
  fclose(file);
  if (text == NULL) (void)duk_generic_error(ctx, "cannot read %s", name);
  duk_push_lstring(ctx, text, length);
  duk_free(ctx, text);
}

/* Within a protected call, as all that allocates: outside of one an error would be fatal. */
static duk_ret_t run(duk_context *ctx, void *udata) {
  const struct script *script = udata;
  duk_push_c_function(ctx, print, DUK_VARARGS);
  duk_put_global_string(ctx, "print");
  if (script->text != NULL) {
    duk_push_string(ctx, script->text);
  } else {
    push_file(ctx, script->name);
  }
  duk_push_string(ctx, script->name);
  duk_compile(ctx, 0);
  duk_call(ctx, 0);
  return 1;
}

static int run_script(duk_context *ctx, const struct script *script) {
  const int status = duk_safe_call(ctx, run, (void *)script, 0, 1);
  if (status != DUK_EXEC_SUCCESS) printf("  stopped: %s\n", duk_safe_to_string(ctx, -1));
  duk_pop(ctx);
  return status == DUK_EXEC_SUCCESS;
}

/* Duktape does not say when it collects by itself. A collection that the host asks for can be announced, and
 * what it frees goes back to the system at its end. */
static duk_ret_t collect(duk_context *ctx, void *udata) {
  ace_heap *heap = udata;
  ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 0);
  duk_gc(ctx, 0);
  ace_hint(heap, ACE_HINT_COLLECT_END, 0);
  return 0;
}

static int recover(duk_context *ctx, ace_heap *heap) {
  const size_t limit = ace_heap_set_limit(heap, 0);
  ace_heap_set_limit(heap, limit + recovery_bytes);
  const int ok = run_script(ctx, &recovery) && duk_safe_call(ctx, collect, heap, 0, 0) == DUK_EXEC_SUCCESS;
  ace_heap_set_limit(heap, limit);
  return ok && run_script(ctx, &going_on);
}

static uint64_t refusals(ace_heap *heap) {
  ace_stats stats;
  ace_heap_stats(heap, &stats, sizeof stats);
  return stats.limit_failures;
}

/* Whether the script ran, or was stopped by its limit and its heap could be used again. */
static int run_in_context(duk_context *ctx, ace_heap *heap, const struct script *script) {
  int ok = run_script(ctx, script);
  print_heap("after the script", heap);
  if (!ok && refusals(heap) != 0) {
    ok = recover(ctx, heap);
    print_heap(ok ? "recovered" : "not recovered", heap);
  } else if (ok) {
    ok = duk_safe_call(ctx, collect, heap, 0, 0) == DUK_EXEC_SUCCESS;
    print_heap("collected", heap);
  }
  return ok;
}

/* All blocks must have come back by now; ace_heap_destroy would end the heap with those that had not. */
static int end_heap(ace_heap *heap) {
  char broken[200];
  ace_stats stats;
  ace_heap_stats(heap, &stats, sizeof stats);
  int ok = stats.live_blocks == 0;
  if (!ok) printf("  %llu blocks were left\n", (unsigned long long)stats.live_blocks);
  if (ace_heap_audit(heap, broken, sizeof broken) != 0) {
    printf("  broken: %s\n", broken);
    ok = 0;
  }
  ace_heap_destroy(heap);
  return ok;
}

static int run_in_own_heap(const struct script *script, size_t limit) {
  ace_heap_config config = {.struct_size = sizeof config, .name = script->name};
  ace_heap *heap = ace_heap_create(&config);
  if (heap == NULL) {
    fprintf(stderr, "%s: no heap: memory is short\n", script->name);
    return 0;
  }
  printf("%s\n", script->name);
  duk_context *ctx = duk_create_heap(allocate, reallocate, release, heap, fatal);
  int ok = 0;
  if (ctx == NULL) {
    fprintf(stderr, "%s: no Duktape: memory is short\n", script->name);
  } else {
    /* Only now: what fails while Duktape makes its built-in objects is no error to be caught, but fatal. */
    ace_heap_set_limit(heap, limit);
    ok = run_in_context(ctx, heap, script);
    duk_destroy_heap(ctx);
  }
  return end_heap(heap) && ok;
}

int main(int argc, char **argv) {
  int first_script = 1;
  double limit = 16;
  if (argc > 1) {
    char *end;
    double number = strtod(argv[1], &end);
    if (end != argv[1] && *end == '\0') {
      limit = number;
      first_script = 2;
    }
  }
  if (!(limit > 0 && limit <= 1e6)) {
    fprintf(stderr, "usage: %s [limit in MB, above 0] [script.js ...]\n", argv[0]);
    return 2;
  }
  printf("Duktape %ld.%ld, ACE %s, %g MB for each script\n", DUK_VERSION / 10000, DUK_VERSION / 100 % 100,
         ace_version(), limit);

  int ok = 1;
  if (first_script < argc) {
    for (int i = first_script; i < argc; ++i) {
      struct script file = {argv[i], NULL};
      ok &= run_in_own_heap(&file, (size_t)(limit * 1e6));
    }
  } else {
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; ++i) {
      ok &= run_in_own_heap(&examples[i], (size_t)(limit * 1e6));
    }
  }
  return ok ? 0 : 1;
}
