/* A host that runs scripts, each in a Lua state of its own with a heap and a memory limit of its own.
 *
 *     luajit_host [limit in MB] [script.lua ...]
 *
 * Without scripts it runs three of its own: one that works, one that churns, and one that takes memory until
 * its limit stops it. A script that hits its limit gets Lua's "not enough memory" error; its state goes on, and
 * so do the others. The exit status is 0 only where every script either ran or was stopped by its limit.
 *
 *     cc luajit_host.c $(pkg-config --cflags --libs ace-lua luajit) -o luajit_host
 *
 * The same source compiles against lua5.1 to lua5.5 in place of luajit. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>

#include "ace/ace.h"
#include "ace_lua.h"

struct script {
  const char *name;
  const char *text; /* NULL: `name` is a file */
};

static const struct script examples[] = {
    {"works",
     "local t = {} for i = 1, 20000 do t[i] = {id = i} end print('works: built ' .. #t .. ' records')"},
    {"churns", "local last for i = 1, 2000000 do last = {i, {}} end print('churns: last was ' .. last[1])"},
    {"hoards", "hoard = {} for i = 1, 1e8 do hoard[i] = {id = i} end print('hoards: this is never printed')"},
};

/* What a host runs to make room in a state that hit its limit: here, it drops all that the script held. */
static const char recovery[] = "hoard = nil collectgarbage() collectgarbage()";
/* A state that is full cannot even compile that: meanwhile it may have so much more. */
static const size_t recovery_bytes = 1 << 20;

static double megabytes(uint64_t bytes) { return (double)bytes / 1e6; }

static void print_heap(const char *when, ace_heap *heap) {
  ace_stats stats;
  ace_heap_stats(heap, &stats, sizeof stats);
  printf("  %-16s live %6.2f MB   resident %6.2f MB   peak %6.2f MB   refused %llu times\n", when,
         megabytes(stats.live_bytes), megabytes(stats.resident_bytes), megabytes(stats.peak_resident_bytes),
         (unsigned long long)stats.limit_failures);
}

/* The libraries are opened within a protected call, so that a limit too small for them is an error like any. */
static int open_libraries(lua_State *L) {
  luaL_openlibs(L);
  return 0;
}

static int run_script(lua_State *L, const struct script *script) {
  int status;
  lua_pushcfunction(L, open_libraries);
  status = lua_pcall(L, 0, 0, 0);
  if (status != 0) return status;
  status = script->text != NULL ? luaL_loadstring(L, script->text) : luaL_loadfile(L, script->name);
  return status != 0 ? status : lua_pcall(L, 0, 0, 0);
}

static int recover(lua_State *L) {
  size_t limit = ace_lua_set_limit(L, 0);
  ace_lua_set_limit(L, limit + recovery_bytes);
  int ok = luaL_loadstring(L, recovery) == 0 && lua_pcall(L, 0, 0, 0) == 0;
  ace_lua_set_limit(L, limit);
  return ok;
}

/* Whether the script ran, or was stopped by its limit and its state could be used again. */
static int run_in_own_state(const struct script *script, size_t limit) {
  ace_lua_options options = ACE_LUA_OPTIONS;
  options.name = script->name;
  options.limit = limit;
  lua_State *L = ace_lua_newstate(&options);
  if (L == NULL) {
    fprintf(stderr, "%s: no state: memory is short, or this LuaJIT was built without GC64\n", script->name);
    return 0;
  }

  printf("%s\n", script->name);
  int status = run_script(L, script);
  print_heap("after the script", ace_lua_heap(L));
  if (status != 0) {
    /* luaL_tolstring is not in 5.1; a script may throw what is no string. */
    const char *message = lua_tostring(L, -1);
    printf("  stopped: %s\n", message != NULL ? message : "(an error that is no string)");
    lua_settop(L, 0);
  }
  int ok = status == 0;
  if (status == LUA_ERRMEM) {
    ok = recover(L);
    print_heap(ok ? "recovered" : "not recovered", ace_lua_heap(L));
  }
  ace_lua_close(L);
  return ok;
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
    fprintf(stderr, "usage: %s [limit in MB, above 0] [script.lua ...]\n", argv[0]);
    return 2;
  }
  printf("%s, ACE %s, %g MB for each state\n", LUA_VERSION, ace_version(), limit);

  int ok = 1;
  if (first_script < argc) {
    for (int i = first_script; i < argc; ++i) {
      struct script file = {argv[i], NULL};
      ok &= run_in_own_state(&file, (size_t)(limit * 1e6));
    }
  } else {
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; ++i) {
      ok &= run_in_own_state(&examples[i], (size_t)(limit * 1e6));
    }
  }
  return ok ? 0 : 1;
}
