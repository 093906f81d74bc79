/* Runs a Lua program in an embedded state and compares, at each operation of the allocator, the phase that ACE
 * believes in with the VM's own: the state of its collector, which lies in the VM's global state. Where that is
 * differs by VM and is no part of any header; it is found by the allocator's pointer, which stands before it.
 *
 *     [LIMIT=BYTES] [UNKNOWN=1] lua_phases PROGRAM.lua ARGUMENT...
 *
 * UNKNOWN: as in a VM whose layout ACE does not know.
 *
 * Writes a line of JSON to standard error: how many operations, how many of them in the right phase, and the
 * frees of sweeps. Compiled with the headers of one Lua; for LuaJIT with -DLUAJIT. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdint.h>
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

/* Bytes from the allocator's pointer in the global state to the collector's state, the words of lua_State
 * before its pointer to the global state, the states that sweep, and that in which nothing is going on. */
#if defined(LUAJIT)
enum { AT = 33, GLOBAL_WORD = 2, SWEEP_FIRST = 3, SWEEP_LAST = 4, PAUSE = 0, LAST = 5 };
#elif LUA_VERSION_NUM == 501
enum { AT = 17, GLOBAL_WORD = 4, SWEEP_FIRST = 2, SWEEP_LAST = 3, PAUSE = 0, LAST = 4 };
#elif LUA_VERSION_NUM == 503
enum { AT = 85, GLOBAL_WORD = 3, SWEEP_FIRST = 2, SWEEP_LAST = 5, PAUSE = 7, LAST = 7 };
#elif LUA_VERSION_NUM == 504
enum { AT = 101, GLOBAL_WORD = 3, SWEEP_FIRST = 3, SWEEP_LAST = 6, PAUSE = 8, LAST = 8 };
#elif LUA_VERSION_NUM == 505
enum { AT = 107, GLOBAL_WORD = 3, SWEEP_FIRST = 3, SWEEP_LAST = 6, PAUSE = 8, LAST = 8 };
#else
#error "of this Lua it is not known where its collector's state lies"
#endif
enum { GLOBAL_WORDS = 64 };

static lua_Alloc allocate;
static void *allocate_ud;
static ace_heap *heap;
static const unsigned char *collector; /* its state */
static unsigned sweep_phase;
static unsigned long long operations, right, missed, frees, swept, found, claimed;
static unsigned seen; /* states, a bit each */

static void fail(const char *why) {
  fprintf(stderr, "lua_phases: %s\n", why);
  exit(2);
}

/* The VM acts in its own state; ACE learns of it by the operation, and so is asked afterwards. */
static void *watch(void *ud, void *block, size_t old_size, size_t size) {
  if (block == NULL && size == 0) return NULL;
  const unsigned state = *collector;
  const int sweeps = state >= SWEEP_FIRST && state <= SWEEP_LAST;
  void *result = allocate(allocate_ud, block, old_size, size);
  ace_stats stats;
  (void)ud;
  if (ace_heap_stats(heap, &stats, sizeof stats) != 0) fail("the heap has no statistics");
  const int believed = stats.phase == sweep_phase;
  ++operations;
  right += sweeps == believed;
  missed += sweeps && !believed;
  seen |= 1u << state;
  if (size == 0) {
    ++frees;
    swept += sweeps;
    claimed += believed;
    found += sweeps && believed;
  }
  return result;
}

static const unsigned char *find_collector(lua_State *L) {
  const uintptr_t *global;
  unsigned i;
  memcpy(&global, (const uintptr_t *)(const void *)L + GLOBAL_WORD, sizeof global);
  for (i = 0; i < GLOBAL_WORDS; ++i) {
    if (global[i] == (uintptr_t)watch && global[i + 1] == (uintptr_t)allocate_ud)
      return (const unsigned char *)(global + i) + AT;
  }
  fail("the VM's global state is not where it was expected");
  return NULL;
}

static lua_State *new_state(const ace_lua_options *options) {
  ace_lua_vm *vm = ace_lua_vm_create(options);
  lua_State *L = vm != NULL ? NEW_STATE(ace_lua_alloc, vm) : NULL;
  ace_lua_api api = ace_lua_host_api();
  if (L == NULL) fail("no state could be made");
  if (getenv("UNKNOWN") != NULL) api.version = 0;
  ace_lua_attach(vm, L, &api);
  return L;
}

int main(int argc, char **argv) {
  static const unsigned char none = PAUSE;
  ace_lua_options options = ACE_LUA_OPTIONS;
  lua_State *L;
  int i;
  if (argc < 2) fail("usage: lua_phases PROGRAM.lua ARGUMENT...");
  for (sweep_phase = 0; ace_phase_name(sweep_phase) && strcmp(ace_phase_name(sweep_phase), "sweep") != 0;)
    ++sweep_phase;

  options.kinds = getenv("ACE_KINDS") != NULL;
  if (getenv("LIMIT") != NULL) options.limit = strtoul(getenv("LIMIT"), NULL, 10);
  L = new_state(&options);
  heap = ace_lua_heap(L);
  allocate = lua_getallocf(L, &allocate_ud);
  collector = &none;
  lua_setallocf(L, watch, allocate_ud);
  collector = find_collector(L);

  luaL_openlibs(L);
  lua_gc(L, LUA_GCCOLLECT, 0);
  if (*collector != PAUSE) fail("after a collection the collector's state is not what it was expected to be");
  lua_newtable(L);
  for (i = 1; i < argc; ++i) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i - 1);
  }
  lua_setglobal(L, "arg");

  operations = right = missed = frees = swept = found = claimed = seen = 0;
  if (luaL_loadfile(L, argv[1]) != 0 || lua_pcall(L, 0, 0, 0) != 0) fail(lua_tostring(L, -1));
  if ((seen & ~((1u << (LAST + 1)) - 1)) != 0) fail("the collector was in a state that there is not");
  fprintf(stderr,
          "{\"operations\": %llu, \"right\": %llu, \"missed\": %llu, \"frees\": %llu, \"swept\": %llu, "
          "\"found\": %llu, "
          "\"claimed\": %llu, \"states\": %u}\n",
          operations, right, missed, frees, swept, found, claimed, seen);
  lua_setallocf(L, allocate, allocate_ud);
  lua_close(L);
  return 0;
}
