/* Embedding by ace_lua.h, compiled with the headers of one Lua. Says what failed and exits with 1. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ace/ace.h"
#include "ace_lua.h"

#if LUA_VERSION_NUM >= 505
#define NEW_STATE(allocate, ud) lua_newstate(allocate, ud, 1)
#else
#define NEW_STATE(allocate, ud) lua_newstate(allocate, ud)
#endif

#define CHECK(condition)                                                      \
  do {                                                                        \
    if (!(condition)) {                                                       \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                                \
    }                                                                         \
  } while (0)

#if defined(LUAJIT)
#define IS_LUAJIT 1
#else
#define IS_LUAJIT 0
#endif

struct ending {
  int count;
  ace_stats stats;
};

static void note_end(ace_heap *heap, void *context) {
  struct ending *ending = context;
  char message[200];
  ++ending->count;
  CHECK(ace_heap_stats(heap, &ending->stats, sizeof ending->stats) == 0);
  if (ace_heap_audit(heap, message, sizeof message) != 0) {
    fprintf(stderr, "audit: %s\n", message);
    exit(1);
  }
}

static ace_stats stats_of(lua_State *L) {
  ace_stats stats;
  CHECK(ace_lua_heap(L) != NULL);
  CHECK(ace_heap_stats(ace_lua_heap(L), &stats, sizeof stats) == 0);
  return stats;
}

static void run(lua_State *L, const char *code) {
  if (luaL_loadstring(L, code) == 0 && lua_pcall(L, 0, 0, 0) == 0) return;
  fprintf(stderr, "%s\n", lua_tostring(L, -1));
  exit(1);
}

static lua_State *new_state(size_t limit, struct ending *ending) {
  ace_lua_options options = ACE_LUA_OPTIONS;
  options.name = "tested";
  options.limit = limit;
  options.kinds = 1;
  if (ending != NULL) {
    ending->count = 0;
    options.on_close = note_end;
    options.on_close_context = ending;
  }
  lua_State *L = ace_lua_newstate(&options);
  CHECK(L != NULL);
  CHECK(lua_gettop(L) == 0);
  return L;
}

/* A state lives, is collected, and ends with nothing left, by either way of closing it. */
static void life(void (*close)(lua_State *)) {
  struct ending ending;
  lua_State *L = new_state(0, &ending);
  luaL_openlibs(L);
  run(L, "kept = {} for i = 1, 20000 do kept[i] = {tostring(i), function() return i end} end");
  run(L, "collectgarbage()"); /* one that has begun is counted already */
  ace_stats full = stats_of(L);
  CHECK(strcmp(ace_heap_name(ace_lua_heap(L)), "tested") == 0);
  CHECK(full.live_blocks > 60000);
  CHECK(full.kind_live_blocks[0] > 0);
#if LUA_VERSION_NUM >= 502
  for (int kind = 1; kind < 4; ++kind) CHECK(full.kind_live_blocks[kind] >= 20000);
#endif
  /* A coroutine has the same heap. */
  CHECK(ace_lua_heap(lua_newthread(L)) == ace_lua_heap(L));
  lua_settop(L, 0);

  run(L, "kept = nil for i = 1, 3 do collectgarbage() local s = ('x'):rep(10000 + i) end");
  ace_stats empty = stats_of(L);
  CHECK(empty.live_blocks < full.live_blocks / 4);
  CHECK(empty.collections_full >= full.collections_full + 3);
  CHECK(empty.foreign_pointers == 0);
  close(L);
  CHECK(ending.count == 1);
  CHECK((ending.stats.live_blocks == 0) == (close == lua_close));
}

/* A script that runs against its limit gets an error, and its state lives on; again and again. */
static void limits(void) {
  struct ending ending;
  const size_t limit = 2 << 20;
  lua_State *L = new_state(limit, &ending);
  luaL_openlibs(L);
  for (int round = 1; round <= 50; ++round) {
    CHECK(luaL_loadstring(L, "hoard = {} for i = 1, 1e7 do hoard[i] = {'x' .. i} end") == 0);
    CHECK(lua_pcall(L, 0, 0, 0) == LUA_ERRMEM);
    CHECK(strstr(lua_tostring(L, -1), "not enough memory") != NULL);
    lua_settop(L, 0);
    ace_stats stats = stats_of(L);
    CHECK(stats.resident_bytes <= limit);
    CHECK(stats.limit_failures >= (unsigned)round);
    lua_pushnil(L);
    lua_setglobal(L, "hoard");
    lua_gc(L, LUA_GCCOLLECT, 0);
    lua_gc(L, LUA_GCCOLLECT, 0);
    run(L, "local t = {} for i = 1, 1000 do t[i] = {i} end assert(#t == 1000)");
  }
  CHECK(ace_lua_set_limit(L, 0) == limit);
  run(L, "local t = {} for i = 1, 100000 do t[i] = {i} end assert(#t == 100000)");
  lua_close(L);
  CHECK(ending.stats.live_blocks == 0);
}

/* Returns the former one. */
static int set_step_multiplier(lua_State *L, int percent) {
#if LUA_VERSION_NUM >= 505
  return lua_gc(L, LUA_GCPARAM, LUA_GCPSTEPMUL, percent);
#else
  return lua_gc(L, LUA_GCSETSTEPMUL, percent);
#endif
}

/* Garbage is collected before the limit is reached, also where the VM does not do that by itself. */
static void garbage_within_a_limit(void) {
  static const char makes_garbage[] =
      "kept = {} for i = 1, 30000 do kept[i] = {i, tostring(i)} end "
      "for i = 1, 4000000 do local t = {i, i} if i % 1000 == 0 then kept[i % 30000 + 1] = t end end "
      "local text = '' for i = 1, 3000 do text = text .. 'x' end";
  struct ending ending;
  const size_t limit = 8 << 20;
  lua_State *L = new_state(limit, &ending);
  luaL_openlibs(L);
  run(L, makes_garbage);
  ace_stats stats = stats_of(L);
  CHECK(stats.live_bytes > 2 << 20);
  CHECK(stats.peak_resident_bytes <= limit);
  /* The same in less room, set at run time, and with a step multiplier of the program's own, which stays. */
  const int slow = LUA_VERSION_NUM >= 505 ? 150 : 160; /* which it keeps as it is */
  set_step_multiplier(L, slow);
  CHECK(ace_lua_set_limit(L, 6 << 20) == limit);
  run(L, makes_garbage);
  lua_gc(L, LUA_GCCOLLECT, 0);
  CHECK(set_step_multiplier(L, 200) == slow);
  CHECK(stats_of(L).resident_bytes <= 6 << 20);
  lua_close(L);
  CHECK(ending.stats.live_blocks == 0);
}

/* A limit below what the state holds counts as soon as its garbage is collected; live data does not fit in. */
static void lowered_limit(void) {
  static const char hoard[] =
      "kept = {} for i = 1, 20000 do kept[i] = {i} end "
      "hoard = {} for i = 1, 200000 do hoard[i] = {i} end hoard = nil";
  static const char goes_on[] = "for i = 1, 300000 do last = {i} end assert(#kept == 20000)";
  const size_t limit = 6 << 20;
  struct ending ending;
  lua_State *L = new_state(0, &ending);
  luaL_openlibs(L);
  for (int round = 1; round <= 5; ++round) {
    run(L, hoard);
    CHECK(stats_of(L).resident_bytes > 2 * limit);
    CHECK(ace_lua_set_limit(L, limit) == 0);
    run(L, goes_on);
    CHECK(stats_of(L).resident_bytes <= limit);
    CHECK(ace_lua_set_limit(L, 0) == limit);
  }
  run(L, "hoard = {} for i = 1, 200000 do hoard[i] = {i} end");
  ace_lua_set_limit(L, limit);
  CHECK(luaL_loadstring(L, goes_on) == LUA_ERRMEM || lua_pcall(L, 0, 0, 0) == LUA_ERRMEM);
  ace_lua_set_limit(L, 0);
  lua_settop(L, 0);
  run(L, "hoard = nil");
  lua_close(L);
  CHECK(ending.stats.live_blocks == 0);
}

/* What comes between our word to the collector and its step does not keep it from collecting. */
static void finalizers_at_the_limit(void) {
  static const char *programs[] = {
      "big = {} for i = 1, 2 ^ 16 do big[i] = i end",
      "error('in a finalizer')",
      "for i = 1, 3000 do last = {i} end",
  };
  if (LUA_VERSION_NUM >= 502) return; /* they collect by themselves */
  for (size_t i = 0; i < sizeof programs / sizeof programs[0]; ++i) {
    struct ending ending;
    const size_t limit = 8 << 20;
    lua_State *L = new_state(limit, &ending);
    luaL_openlibs(L);
    run(L,
        "if jit then jit.off() end kept = {} for i = 1, 25000 do kept[i] = {i, {i}} end "
        "function finalized(f) local p = newproxy(true) getmetatable(p).__gc = f end");
    lua_pushstring(L, programs[i]);
    lua_setglobal(L, "code");
    int failures = 0;
    for (int round = 1; round <= 50; ++round) {
      const int status = luaL_loadstring(L,
                                         "finalized(assert(loadstring(code))) big = nil "
                                         "for i = 1, 30000 do last = {i} end");
      failures += status == LUA_ERRMEM || (status == 0 && lua_pcall(L, 0, 0, 0) == LUA_ERRMEM);
      lua_settop(L, 0);
    }
    /* 5.1 leaves a step midway where a finalizer throws, and may then need a failure to come to its end. */
    if (failures > 10) fprintf(stderr, "program %d: %d of 50 rounds out of memory\n", (int)i + 1, failures);
    CHECK(failures <= 10);
    CHECK(stats_of(L).peak_resident_bytes <= limit);
    ace_lua_set_limit(L, 0);
    ace_lua_close(L);
  }
}

/* The program's own multiplier is there again where the limit is lifted. */
static void lifted_limit(void) {
  if (LUA_VERSION_NUM >= 502) return;
  lua_State *L = new_state(0, NULL);
  luaL_openlibs(L);
  set_step_multiplier(L, 250);
  run(L, "kept = {} for i = 1, 100000 do kept[i] = {i} end");
  ace_lua_set_limit(L, 1 << 20);
  ace_lua_set_limit(L, 0);
  CHECK(set_step_multiplier(L, 250) == 250);
  ace_lua_close(L);
}

/* A little garbage goes on a little below any limit. */
static void nearly_full(void) {
  struct ending ending;
  lua_State *L = new_state(0, &ending);
  luaL_openlibs(L);
  run(L, "kept = {} for i = 1, 3000 do kept[i] = {i} end collectgarbage() collectgarbage()");
  ace_trim(ace_lua_heap(L), SIZE_MAX);
  const size_t limit = stats_of(L).resident_bytes + (80 << 10);
  ace_lua_set_limit(L, limit);
  for (int round = 1; round <= 20; ++round) run(L, "for i = 1, 20000 do last = {i} end assert(#kept == 3000)");
  CHECK(stats_of(L).resident_bytes <= limit);
  lua_close(L);
  CHECK(ending.stats.live_blocks == 0);
}

/* Who has stopped the collector gets an error, and no collection. */
static void stopped_collector(void) {
  static const char endless[] = "for i = 1, 3e6 do last = {i} end";
  if (LUA_VERSION_NUM >= 502) return; /* an emergency collection comes even then */
  lua_State *L = new_state(4 << 20, NULL);
  luaL_openlibs(L);
  run(L,
      "mark = 0 if newproxy then local p = newproxy(true) getmetatable(p).__gc = function() mark = 1 end end");
  lua_gc(L, LUA_GCSTOP, 0);
  CHECK(luaL_loadstring(L, endless) == 0 && lua_pcall(L, 0, 0, 0) == LUA_ERRMEM);
  lua_settop(L, 0);
  CHECK(ace_lua_set_limit(L, 8 << 20) == 4 << 20); /* a full state has no room for what follows */
  run(L, "assert(mark == 0)");
  lua_gc(L, LUA_GCRESTART, 0);
  run(L, endless);
  run(L, "assert(mark == 1)");
  ace_lua_close(L);
}

/* A quick close calls each finalizer once, those that finalizers make as often as lua_close does, and frees
 * nothing block by block. */
static int finalized;

static int count_finalized(lua_State *L) {
  (void)L;
  ++finalized;
  return 0;
}

static int finalized_by(void (*close)(lua_State *), const char *code, struct ending *ending) {
  lua_State *L = new_state(0, ending);
  luaL_openlibs(L);
  lua_pushcfunction(L, count_finalized);
  lua_setglobal(L, "count");
  run(L,
      "function finalized(f) if newproxy then local p = newproxy(true) getmetatable(p).__gc = f return p end "
      "return setmetatable({}, {__gc = f}) end");
  run(L, code);
  finalized = 0;
  close(L);
  return finalized;
}

static void quick_close(void) {
  static const char *programs[] = {
      "kept = {} for i = 1, 1000 do kept[i] = finalized(count) end",
      "collectgarbage('stop') for i = 1, 100 do local f = finalized(count) end",
      "kept = finalized(function() count() finalized(count) end)",
      "kept = finalized(function() count() kept = finalized(function() count() finalized(count) end) end)",
      "kept = {} for i = 1, 50 do kept[i] = finalized(function() count() error('in a finalizer') end) end",
      "local n = 0 local function again() count() finalized(again) end finalized(again)",
      "kept = coroutine.create(function() local f = finalized(count) coroutine.yield() end) "
      "coroutine.resume(kept)",
      "kept = finalized(function() count() for i = 1, 20000 do local t = {i} end collectgarbage() end)",
      "file = assert(io.open('/dev/null')) kept = finalized(count) debug.getregistry()['ACE-Alloc'] = nil",
      "for i = 1, 3 do collectgarbage() end kept = finalized(count)",
  };
  for (size_t i = 0; i < sizeof programs / sizeof programs[0]; ++i) {
    struct ending slow, quick;
    const int expected = finalized_by(lua_close, programs[i], &slow);
    const int found = finalized_by(ace_lua_close, programs[i], &quick);
    if (found != expected) fprintf(stderr, "program %d: %d finalized, not %d\n", (int)i + 1, found, expected);
    CHECK(found == expected && found > 0);
    CHECK(slow.count == 1 && quick.count == 1);
    CHECK(slow.stats.live_blocks == 0);
  }
  struct ending ending;
  finalized_by(ace_lua_close, "kept = {} for i = 1, 200000 do kept[i] = {finalized and i} end finalized(count)",
               &ending);
  CHECK(ending.stats.live_blocks > 200000);
}

/* States come and go without a trace; those that are jumped out of, too. */
static long mappings(void) {
  FILE *maps = fopen("/proc/self/maps", "r");
  long lines = 0;
  for (int c; (c = fgetc(maps)) != EOF;) lines += c == '\n';
  fclose(maps);
  return lines;
}

static void many_states(void) {
  long before = 0;
  for (int i = 0; i < 600; ++i) {
    lua_State *L = ace_lua_newstate(NULL);
    CHECK(L != NULL);
    luaL_openlibs(L);
    run(L, "local t = {} for i = 1, 300 do t[i] = {tostring(i)} end");
    ace_lua_close(L);
    if (i == 99) before = mappings();
  }
  CHECK(mappings() <= before + 8);
}

/* The limit does not count before lua_newstate has returned. */
static void limit_below_a_state(void) {
  struct ending ending;
  lua_State *L = new_state(1, &ending);
  CHECK(luaL_loadstring(L, "return 1") != 0 || lua_pcall(L, 0, 0, 0) == 0);
  lua_settop(L, 0);
  lua_gc(L, LUA_GCCOLLECT, 0);
  CHECK(stats_of(L).limit_bytes == 1);
  ace_lua_close(L);
  CHECK(ending.count == 1);
}

/* The allocator by itself: full to the brim, every block can still shrink. */
static void shrinking(void) {
  enum { count = 100000 };
  static void *blocks[count];
  static size_t sizes[count];
  ace_lua_vm *vm = ace_lua_vm_create(NULL);
  CHECK(vm != NULL);
  ace_heap_set_limit(ace_lua_vm_heap(vm), 3 << 20);
  CHECK(ace_lua_alloc(vm, NULL, 0, 0) == NULL);
  size_t n = 0;
  for (; n < count; ++n) {
    sizes[n] = 1 + n * 7919 % (n % 100 == 0 ? 100000 : 900);
    blocks[n] = ace_lua_alloc(vm, NULL, 0, sizes[n]);
    if (blocks[n] == NULL) break;
    memset(blocks[n], (int)(n % 251), sizes[n]);
  }
  CHECK(n > 100 && n < count);
  for (int round = 0; round < 4; ++round) {
    for (size_t i = 0; i < n; ++i) {
      size_t smaller = sizes[i] - sizes[i] / 3;
      blocks[i] = ace_lua_alloc(vm, blocks[i], sizes[i], smaller);
      CHECK(blocks[i] != NULL);
      sizes[i] = smaller;
      for (size_t at = 0; at < smaller; ++at) CHECK(((unsigned char *)blocks[i])[at] == i % 251);
    }
  }
  for (size_t i = 0; i < n; ++i) CHECK(ace_lua_alloc(vm, blocks[i], sizes[i], 0) == NULL);
  ace_stats stats;
  ace_heap_stats(ace_lua_vm_heap(vm), &stats, sizeof stats);
  CHECK(stats.live_blocks == 0);
  ace_lua_vm_destroy(vm);
}

/* A lua_newstate that runs out of memory midway leaves a heap that its caller can destroy. */
struct failing {
  ace_lua_vm *vm;
  int left;
};

static void *fail_later(void *ud, void *ptr, size_t osize, size_t nsize) {
  struct failing *failing = ud;
  if (nsize > (ptr == NULL ? 0 : osize) && failing->left-- <= 0) return NULL;
  return ace_lua_alloc(failing->vm, ptr, osize, nsize);
}

static void failing_newstate(void) {
  lua_State *L = NULL;
  int failures = 0;
  if (IS_LUAJIT) return; /* Debian's crashes by itself */
  for (; L == NULL; ++failures) {
    struct failing failing = {ace_lua_vm_create(NULL), failures};
    L = NEW_STATE(fail_later, &failing);
    if (L == NULL) {
      ace_stats stats;
      ace_heap_stats(ace_lua_vm_heap(failing.vm), &stats, sizeof stats);
      CHECK(stats.live_blocks == 0);
    } else {
      lua_setallocf(L, ace_lua_alloc, failing.vm);
      lua_close(L);
    }
    ace_lua_vm_destroy(failing.vm);
  }
  CHECK(failures > 3);
}

/* A script of which the Nth allocation fails, for each N: Lua's error or none, and at the end nothing is left.
 */
static void *fail_once(void *ud, void *ptr, size_t osize, size_t nsize) {
  struct failing *failing = ud;
  if (nsize > (ptr == NULL ? 0 : osize) && failing->left-- == 0) return NULL;
  return ace_lua_alloc(failing->vm, ptr, osize, nsize);
}

static void failing_allocations(void) {
  static const char script[] =
      "local t, s = {}, 'x' for i = 1, 40 do t[i] = {tostring(i), function() return i end} end "
      "for i = 1, 10 do s = s .. s end "
      "local c = coroutine.wrap(function(a) for i = 1, 3 do a = coroutine.yield({a, i}) end end) "
      "c(1) c(2) table.sort(t, function(a, b) return a[1] < b[1] end) "
      "assert(select('#', (table.unpack or unpack)(t)) == 40) "
      "setmetatable(t, {__index = function(t, k) return k .. '!' end}) assert(t.a == 'a!') "
      "assert(pcall(error, {}) == false and #string.format('%s %5.2f', s, 1.5) > 1000) "
      "collectgarbage() local f = (loadstring or load)('return ' .. #t) assert(f() == 40)";
  int failures = 0, ended = 0;
  while (!ended) {
    struct ending ending;
    struct failing failing = {NULL, 0};
    lua_State *L = new_state(0, &ending);
    luaL_openlibs(L);
    lua_getallocf(L, (void **)&failing.vm);
    failing.left = failures;
    lua_setallocf(L, fail_once, &failing);
    const int status = luaL_loadstring(L, script);
    const int result = status == 0 ? lua_pcall(L, 0, 0, 0) : status;
    CHECK(result == 0 || result == LUA_ERRMEM || result == LUA_ERRRUN);
    ended = failing.left >= 0;
    failures += !ended;
    lua_setallocf(L, ace_lua_alloc, failing.vm);
    lua_settop(L, 0);
    run(L, "collectgarbage() local t = {} for i = 1, 100 do t[i] = {i} end assert(#t == 100)");
    lua_close(L);
    CHECK(ending.count == 1 && ending.stats.live_blocks == 0 && ending.stats.foreign_pointers == 0);
  }
  CHECK(failures > 100);
}

/* Many states on one heap: each idle one takes about what its blocks do, and ends without a trace. */
static void shared_heap(void) {
  enum { count = 200 };
  static lua_State *states[count];
  struct ending ending = {0};
  ace_heap_config config = {0};
  config.struct_size = sizeof config;
  ace_lua_options options = ACE_LUA_OPTIONS;
  options.heap = ace_heap_create(&config);
  options.on_close = note_end;
  options.on_close_context = &ending;
  for (int i = 0; i < count; ++i) {
    states[i] = ace_lua_newstate(&options);
    CHECK(states[i] != NULL && ace_lua_heap(states[i]) == options.heap);
    luaL_openlibs(states[i]);
    run(states[i], "kept = {} for i = 1, 50 do kept[i] = {i} end collectgarbage()");
  }
  ace_stats stats = stats_of(states[0]);
  CHECK(stats.resident_bytes < stats.live_bytes + stats.live_bytes / 4);
  CHECK(stats.collections_full >= count);

  /* The heap's limit is that of all. */
  CHECK(ace_lua_set_limit(states[0], 1) == 0 && stats_of(states[0]).limit_bytes == 0);
  ace_heap_set_limit(options.heap, stats.resident_bytes + (1 << 20));
  CHECK(luaL_loadstring(states[0], "hoard = {} for i = 1, 1e7 do hoard[i] = {i} end") == 0);
  CHECK(lua_pcall(states[0], 0, 0, 0) == LUA_ERRMEM);
  ace_heap_set_limit(options.heap, 0);

  for (int i = 0; i < count; ++i) {
    run(states[i], "assert(#kept == 50)");
    (i % 2 == 0 ? ace_lua_close : lua_close)(states[i]);
  }
  CHECK(ending.count == count && ending.stats.live_blocks == 0);
  options.limit = 1 << 20;
  CHECK(ace_lua_newstate(&options) == NULL);
  ace_heap_destroy(options.heap);
}

/* Another allocator's state is none of ours, and closes like any. */
static void stock_state(void) {
  lua_State *L = luaL_newstate();
  CHECK(L != NULL && ace_lua_heap(L) == NULL);
  ace_lua_close(L);
}

static void bad_options(void) {
  ace_lua_options options = ACE_LUA_OPTIONS;
  options.struct_size = 0;
  CHECK(ace_lua_vm_create(&options) == NULL);
  CHECK(ace_lua_newstate(&options) == NULL);
  options.struct_size = sizeof options + 8; /* fields that this library does not know */
  CHECK(ace_lua_newstate(&options) == NULL);
  options.struct_size = offsetof(ace_lua_options, on_close); /* an older caller's, whose rest is anything */
  options.name = "older";
  options.on_close = (ace_lua_close_fn)(uintptr_t)-1;
  lua_State *L = ace_lua_newstate(&options);
  CHECK(L != NULL && strcmp(ace_heap_name(ace_lua_heap(L)), "older") == 0);
  ace_lua_close(L);
  L = ace_lua_newstate(NULL);
  CHECK(L != NULL && strcmp(ace_heap_name(ace_lua_heap(L)), "lua") == 0);
  ace_lua_close(L);
  ace_lua_vm_destroy(NULL);
}

static void *live_in_thread(void *unused) {
  (void)unused;
  for (int i = 0; i < 3; ++i) life(i % 2 == 0 ? ace_lua_close : lua_close);
  return NULL;
}

static void threads(void) {
  pthread_t thread[4];
  for (int i = 0; i < 4; ++i) CHECK(pthread_create(&thread[i], NULL, live_in_thread, NULL) == 0);
  for (int i = 0; i < 4; ++i) CHECK(pthread_join(thread[i], NULL) == 0);
}

int main(void) {
  life(ace_lua_close);
  life(lua_close);
  limits();
  garbage_within_a_limit();
  lowered_limit();
  lifted_limit();
  nearly_full();
  finalizers_at_the_limit();
  stopped_collector();
  quick_close();
  many_states();
  limit_below_a_state();
  shrinking();
  failing_newstate();
  failing_allocations();
  shared_heap();
  stock_state();
  bad_options();
  threads();
  puts("all holds");
  return 0;
}
