/* ACE-Alloc for those who embed Lua: one ACE heap for each state.
 *
 * C99 and C++. For LuaJIT with GC64 and for PUC Lua 5.1 to 5.4. Include the lua.h (or lua.hpp) of your VM
 * before this header, and link with -lace-lua -lace:
 *
 *     ace_lua_options options = ACE_LUA_OPTIONS;
 *     options.limit = 64 << 20;
 *     lua_State *L = ace_lua_newstate(&options);
 *     if (L == NULL) ...
 *     luaL_openlibs(L);
 *     ...
 *     lua_close(L);
 *
 * libace-lua is compiled once and knows no particular Lua. What needs the API of the VM is either inline
 * below, and so compiled with your lua.h, or is called through a table of pointers that is filled below. A
 * process may therefore hold states of several VMs at once.
 *
 * Threads: a state and its heap belong to whoever may call the VM at the moment; that is Lua's own rule, and
 * ACE adds no lock. Different states may run in different threads.
 *
 * LuaJIT without GC64 (the default on x86-64 before 2.1, and a build option still) allocates below 2 GiB by
 * itself and refuses every other allocator: its lua_newstate prints "Must use luaL_newstate() for 64 bit
 * target" or is not used, and ace_lua_newstate returns NULL. Build it with -DLUAJIT_ENABLE_GC64.
 */
#ifndef ACE_LUA_H
#define ACE_LUA_H

#include <stddef.h>

#include "ace/ace.h"

#ifdef __cplusplus
extern "C" {
#endif

struct lua_State; /* the VM's */

/* The heap of one state and what is known of its collector. */
typedef struct ace_lua_vm ace_lua_vm;

/* Called when a state has given back its last block, before its heap is destroyed: the place to read its final
 * statistics. It must not allocate from `heap`. */
typedef void (*ace_lua_close_fn)(ace_heap *heap, void *context);

/* How the heap of a state is made. Start from ACE_LUA_OPTIONS. */
typedef struct ace_lua_options {
  size_t struct_size;        /* sizeof(ace_lua_options); makes room for later fields */
  const char *name;          /* shown in reports; copied, at most 31 bytes; NULL: "lua" */
  size_t limit;              /* most resident bytes, 0: none. What goes beyond fails with Lua's own "not enough
                                memory". It is not enforced before the state is made. LuaJIT and Lua 5.1 do not
                                collect before they fail: leave them room for garbage, and raise the limit a
                                little before you collect in a state that is full, as a collection may itself
                                allocate (a smaller table of strings) */
  int kinds;                 /* not 0: strings; tables; functions, userdata and threads; and the rest live in
                                slabs of their own, and the statistics count each (kind groups 1, 2, 3, 0).
                                Lua 5.2 and newer tell the kind; in the others all are "the rest" */
  ace_lua_close_fn on_close; /* may be NULL */
  void *on_close_context;
} ace_lua_options;

/* clang-format off */
#define ACE_LUA_OPTIONS {sizeof(ace_lua_options), NULL, 0, 0, NULL, NULL}
/* clang-format on */

typedef int (*ace_lua_function)(struct lua_State *);

/* The functions of a VM that the binding calls. Those that a VM lacks are NULL. */
typedef struct ace_lua_api {
  void *(*newuserdata)(struct lua_State *, size_t);        /* until 5.3; one of these two */
  void *(*newuserdatauv)(struct lua_State *, size_t, int); /* from 5.4 */
  void (*createtable)(struct lua_State *, int, int);
  void (*pushcclosure)(struct lua_State *, ace_lua_function, int);
  void (*setfield)(struct lua_State *, int, const char *);
  int (*setmetatable)(struct lua_State *, int);
  int (*getmetatable)(struct lua_State *, int);
  void (*settop)(struct lua_State *, int);
  ace_lua_function gc;    /* calls ace_lua_collected with the ace_lua_vm that its argument, a userdata, holds */
  int finalizes_in_sweep; /* not 0: finalizers may run before the sweep is over (5.2 and 5.3) */
} ace_lua_api;

/* The lua_Alloc: `ud` is the ace_lua_vm. Never fails to shrink. Freeing the state's first block, the last thing
 * that lua_close does, calls on_close and destroys the heap with the ace_lua_vm. */
ACE_API void *ace_lua_alloc(void *ud, void *ptr, size_t osize, size_t nsize);

/* For those who call lua_newstate(ace_lua_alloc, vm) themselves, the three steps of ace_lua_newstate. First, a
 * heap: NULL where there is no memory or the options are invalid (`options` NULL: defaults). Any thread. */
ACE_API ace_lua_vm *ace_lua_vm_create(const ace_lua_options *options) ACE_NOEXCEPT;

/* Then, where lua_newstate returned NULL: gives the heap back. Not for a state that was made: its heap ends
 * with lua_close. NULL is ignored. */
ACE_API void ace_lua_vm_destroy(ace_lua_vm *vm) ACE_NOEXCEPT;

/* Or, once lua_newstate returned a state: the heap hears of its collections and its limit is enforced. `api` is
 * copied. Leaves the stack as it was. Called once, before any other use of the state. */
ACE_API void ace_lua_attach(ace_lua_vm *vm, struct lua_State *L, const ace_lua_api *api);

/* What ace_lua_api.gc calls and returns. */
ACE_API int ace_lua_collected(ace_lua_vm *vm, struct lua_State *L);

/* The heap of `vm`, for ace_heap_stats, ace_heap_set_limit, ace_trim and so on. It lives as long as the state.
 */
ACE_API ace_heap *ace_lua_vm_heap(ace_lua_vm *vm) ACE_NOEXCEPT;

/* Says that the state is about to be closed, so that no collection is announced any more. */
ACE_API void ace_lua_vm_closing(ace_lua_vm *vm) ACE_NOEXCEPT;

#ifdef __cplusplus
}
#endif

/* ---------------------------------------------------------------- compiled with the lua.h of the host ---- */
#ifdef LUA_VERSION_NUM

/* The finalizer of the binding's userdata; see ace_lua_api.gc. */
static inline int ace_lua_host_gc(lua_State *L) {
  return ace_lua_collected(*(ace_lua_vm **)lua_touserdata(L, 1), L);
}

/* The table for the VM whose lua.h was included. */
static inline ace_lua_api ace_lua_host_api(void) {
  ace_lua_api api;
#if LUA_VERSION_NUM >= 504
  api.newuserdata = NULL;
  api.newuserdatauv = lua_newuserdatauv;
#else
  api.newuserdata = lua_newuserdata;
  api.newuserdatauv = NULL;
#endif
  api.createtable = lua_createtable;
  api.pushcclosure = lua_pushcclosure;
  api.setfield = lua_setfield;
  api.setmetatable = lua_setmetatable;
  api.getmetatable = lua_getmetatable;
  api.settop = lua_settop;
  api.gc = ace_lua_host_gc;
  api.finalizes_in_sweep = LUA_VERSION_NUM == 502 || LUA_VERSION_NUM == 503;
  return api;
}

/* A new state that allocates from a heap of its own; `options` NULL: defaults. As lua_newstate it opens no
 * library and sets no panic function. NULL where there is no memory, the options are invalid, or the VM is a
 * LuaJIT without GC64. */
static inline lua_State *ace_lua_newstate(const ace_lua_options *options) {
  ace_lua_vm *vm = ace_lua_vm_create(options);
  if (vm == NULL) return NULL;
  lua_State *L = lua_newstate(ace_lua_alloc, vm);
  if (L == NULL) {
    ace_lua_vm_destroy(vm);
    return NULL;
  }
  const ace_lua_api api = ace_lua_host_api();
  ace_lua_attach(vm, L, &api);
  return L;
}

/* The heap of a state, for its statistics and its limit; NULL where the state does not allocate from ACE. */
static inline ace_heap *ace_lua_heap(lua_State *L) {
  void *ud;
  return lua_getallocf(L, &ud) == ace_lua_alloc ? ace_lua_vm_heap((ace_lua_vm *)ud) : NULL;
}

/* As lua_close, for any state: finalizers run, every block is freed, the heap is destroyed. lua_close alone
 * does the same, but announces collections to a heap that is about to end. */
static inline void ace_lua_close(lua_State *L) {
  void *ud;
  if (lua_getallocf(L, &ud) == ace_lua_alloc) ace_lua_vm_closing((ace_lua_vm *)ud);
  lua_close(L);
}

#endif /* LUA_VERSION_NUM */

#endif /* ACE_LUA_H */
