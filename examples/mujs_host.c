/* A host that runs JavaScript by MuJS, each script in a state of its own, which allocates from an ACE heap with
 * a memory limit of its own.
 *
 *     mujs_host [limit in MB] [script.js ...]
 *
 * Without scripts it runs three of its own: one that works, one that leaves garbage behind, and one that takes
 * memory until its limit stops it. A script that hits its limit gets MuJS's "out of memory"; its state goes on,
 * and so do the others. The exit status is 0 only where every script either ran or was stopped by its limit,
 * and no block was left at the end.
 *
 *     cc mujs_host.c $(pkg-config --cflags --libs ace mujs) -lm -o mujs_host
 */
#include <mujs.h>
#include <stdio.h>
#include <stdlib.h>

#include "ace/ace.h"

struct script {
  const char *name;
  const char *text; /* NULL: `name` is a file */
};

static const struct script examples[] = {
    {"works",
     "var t = []; for (var i = 0; i < 5000; i++) t.push({id: i});"
     "print('works: built ' + t.length + ' records');"},
    {"litters",
     "for (var i = 0; i < 20000; i++) { var a = {id: i}; a.self = a; }"
     "print('litters: last was ' + a.id);"},
    {"hoards", "hoard = []; for (;;) hoard.push({id: hoard.length});"},
};

/* What a host runs to make room in a state that hit its limit: here, it drops all that the script held. */
static const struct script recovery = {"recovery", "hoard = null;"};
/* A state that is full cannot even compile that: meanwhile it may have so much more. */
static const size_t recovery_bytes = 1 << 20;

static const struct script going_on = {"going on", "print('goes on: ' + [1, 2, 3].join(' '));"};

/* Of size 0 MuJS wants a free; ace_heap_realloc would give a block of the smallest class. */
static void *allocate(void *heap, void *p, int size) {
  if (size > 0) return ace_heap_realloc(heap, p, (size_t)size, 0);
  ace_heap_free(heap, p);
  return NULL;
}

static double megabytes(uint64_t bytes) { return (double)bytes / 1e6; }

static void print_heap(const char *when, ace_heap *heap) {
  ace_stats stats;
  ace_heap_stats(heap, &stats, sizeof stats);
  printf("  %-16s live %6.2f MB   resident %6.2f MB   peak %6.2f MB   refused %llu times\n", when,
         megabytes(stats.live_bytes), megabytes(stats.resident_bytes), megabytes(stats.peak_resident_bytes),
         (unsigned long long)stats.limit_failures);
}

static void print(js_State *J) {
  printf("  %s\n", js_tostring(J, 1));
  js_pushundefined(J);
}

static int run_script(js_State *J, const struct script *script) {
  if (js_try(J)) {
    printf("  stopped: %s\n", js_trystring(J, -1, "(an error that is no string)"));
    js_pop(J, 1);
    return 0;
  }
  js_newcfunction(J, print, "print", 1);
  js_setglobal(J, "print");
  if (script->text != NULL) {
    js_loadstring(J, script->name, script->text);
  } else {
    js_loadfile(J, script->name);
  }
  js_pushundefined(J);
  js_call(J, 0);
  js_pop(J, 1);
  js_endtry(J);
  return 1;
}

/* MuJS does not say when it collects by itself. A collection that the host asks for can be announced, and what
 * it frees goes back to the system at its end. */
static void collect(js_State *J, ace_heap *heap) {
  ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 0);
  js_gc(J, 0);
  ace_hint(heap, ACE_HINT_COLLECT_END, 0);
}

static int recover(js_State *J, ace_heap *heap) {
  const size_t limit = ace_heap_set_limit(heap, 0);
  ace_heap_set_limit(heap, limit + recovery_bytes);
  const int ok = run_script(J, &recovery);
  collect(J, heap);
  ace_heap_set_limit(heap, limit);
  return ok && run_script(J, &going_on);
}

static uint64_t refusals(ace_heap *heap) {
  ace_stats stats;
  ace_heap_stats(heap, &stats, sizeof stats);
  return stats.limit_failures;
}

/* Whether the script ran, or was stopped by its limit and its state could be used again. */
static int run_in_state(js_State *J, ace_heap *heap, const struct script *script) {
  int ok = run_script(J, script);
  print_heap("after the script", heap);
  if (!ok && refusals(heap) != 0) {
    ok = recover(J, heap);
    print_heap(ok ? "recovered" : "not recovered", heap);
  } else {
    collect(J, heap);
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
  ace_heap_config config = {.struct_size = sizeof config, .name = script->name, .limit = limit};
  ace_heap *heap = ace_heap_create(&config);
  if (heap == NULL) {
    fprintf(stderr, "%s: no heap: memory is short\n", script->name);
    return 0;
  }
  printf("%s\n", script->name);
  js_State *J = js_newstate(allocate, heap, 0);
  int ok = 0;
  if (J == NULL) {
    fprintf(stderr, "%s: the limit is too small for MuJS itself\n", script->name);
  } else {
    ok = run_in_state(J, heap, script);
    js_freestate(J);
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
  printf("MuJS %d.%d, ACE %s, %g MB for each script\n", JS_VERSION_MAJOR, JS_VERSION_MINOR, ace_version(),
         limit);

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
