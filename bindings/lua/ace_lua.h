/* ACE-Alloc for those who embed Lua: one ACE heap for each state, or one for many small ones.
 *
 * C99 and C++. For LuaJIT with GC64 and for PUC Lua 5.1 to 5.5. Include the lua.h (or lua.hpp; of 5.5 lauxlib.h
 * as well) of your VM before this header, and link with -lace-lua -lace:
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

/* What a finalizer of the binding is about. */
typedef struct ace_lua_mark ace_lua_mark;

/* Called when a state has ended, before its heap is destroyed: the place to read its final statistics. After
 * lua_close no block is live; after ace_lua_close those are that nobody needed to free. It must not allocate
 * from `heap`. */
typedef void (*ace_lua_close_fn)(ace_heap *heap, void *context);

/* How the heap of a state is made. Start from ACE_LUA_OPTIONS. */
typedef struct ace_lua_options {
  size_t struct_size; /* sizeof(ace_lua_options), or less, of an older header; more is refused */
  const char *name;   /* shown in reports; copied, at most 31 bytes; NULL: "lua" */
  size_t limit;       /* most resident bytes, 0: none; see ace_lua_vm_set_limit. It is not enforced before
                         the state is made */
  int kinds;          /* not 0: strings; tables; functions, userdata and threads; and the rest live in
                         slabs of their own, and the statistics count each (kind groups 1, 2, 3, 0).
                         Lua 5.2 and newer tell the kind; in the others all are "the rest" */
  ace_lua_close_fn on_close; /* may be NULL */
  void *on_close_context;
  ace_heap *heap; /* NULL: one of its own. Otherwise the host's, which may hold any number of states: of a
                     heap of its own an idle state begins a page in each size class, here it takes what it
                     needs. All have the same holder; the heap outlives them; `limit` is 0, and the heap's
                     own limit is that of all; ace_lua_close takes as long as lua_close does */
} ace_lua_options;

/* clang-format off */
#define ACE_LUA_OPTIONS {sizeof(ace_lua_options), NULL, 0, 0, NULL, NULL, NULL}
/* clang-format on */

typedef int (*ace_lua_function)(struct lua_State *);

/* The functions of a VM that the binding calls. Those that a VM lacks are NULL. */
typedef struct ace_lua_api {
  int version;                                             /* LUA_VERSION_NUM */
  void *(*newuserdata)(struct lua_State *, size_t);        /* until 5.3; one of these two */
  void *(*newuserdatauv)(struct lua_State *, size_t, int); /* from 5.4 */
  void (*createtable)(struct lua_State *, int, int);
  void (*pushcclosure)(struct lua_State *, ace_lua_function, int);
  void (*setfield)(struct lua_State *, int, const char *);
  int (*setmetatable)(struct lua_State *, int);
  int (*getmetatable)(struct lua_State *, int);
  void (*settop)(struct lua_State *, int);
  int (*control)(struct lua_State *, int,
                 int); /* lua_gc of VMs that do not collect before they fail (5.1, LuaJIT) */
  int (*setmode)(struct lua_State *, int, int); /* luaJIT_setmode */
  ace_lua_function gc; /* calls ace_lua_collected with the ace_lua_mark that its argument, a userdata, holds */
  int registry_index;  /* LUA_REGISTRYINDEX */
  int finalizes_in_sweep;  /* not 0: finalizers may run before the sweep is over (5.2 and 5.3) */
  int finalizes_in_rounds; /* not 0: at a state's end those that finalizers made are finalized, too (LuaJIT) */
} ace_lua_api;

/* luaJIT_setmode(L, 0, ...): all machine code goes. */
#define ACE_LUA_JIT_FLUSH 0x0200

/* The lua_Alloc: `ud` is the ace_lua_vm. Never fails to shrink. Freeing the state's first block, the last thing
 * that lua_close does, calls on_close and destroys the state's own heap with the ace_lua_vm. */
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
ACE_API int ace_lua_collected(ace_lua_mark *mark, struct lua_State *L);

/* The heap of `vm`, for ace_heap_stats, ace_trim and so on. It lives as long as the state. */
ACE_API ace_heap *ace_lua_vm_heap(ace_lua_vm *vm) ACE_NOEXCEPT;

/* The most resident bytes from now on, 0: none. Returns what was set before. Who goes beyond gets Lua's own
 * "not enough memory", and can be caught (lua_pcall) and live on; shrinking never fails. Lua 5.2 and newer
 * collect before they fail. LuaJIT and 5.1 do not: for them the last quarter (less where live data reaches into
 * it) is a reserve, and whoever begins it has their collector do a whole cycle at once, unless the program has
 * stopped it. A program that reads the step multiplier meanwhile gets 0. A limit below what the state holds
 * takes effect at the end of such a cycle. A single allocation larger than what is left fails all the same. A
 * state that is full of live data has no room for the few bytes that its own recovery may take: raise the limit
 * a little meanwhile. On a shared heap nothing is set, and 0 returned: there ace_heap_set_limit does, without a
 * reserve. Called by the holder. */
ACE_API size_t ace_lua_vm_set_limit(ace_lua_vm *vm, size_t limit) ACE_NOEXCEPT;

/* Ends the state `L` of `vm` as ace_lua_close does; `lua_close` is the VM's. */
ACE_API void ace_lua_vm_close(ace_lua_vm *vm, struct lua_State *L, void (*lua_close)(struct lua_State *));

#ifdef __cplusplus
}
#endif

/* ---------------------------------------------------------------- compiled with the lua.h of the host ---- */
#ifdef LUA_VERSION_NUM

#if LUA_VERSION_NUM == 501 && defined(LUA_LJDIR) /* by LuaJIT's luaconf.h */
#define ACE_LUA_IS_LUAJIT 1
#ifdef __cplusplus
extern "C"
#endif
    int
    luaJIT_setmode(lua_State *L, int index, int mode);
#else
#define ACE_LUA_IS_LUAJIT 0
#endif

/* The finalizer of the binding's userdata; see ace_lua_api.gc. */
static inline int ace_lua_host_gc(lua_State *L) {
  ace_lua_mark **mark = (ace_lua_mark **)lua_touserdata(L, 1);
  return mark != NULL ? ace_lua_collected(*mark, L) : 0;
}

/* The table for the VM whose lua.h was included. */
static inline ace_lua_api ace_lua_host_api(void) {
  ace_lua_api api;
  api.version = LUA_VERSION_NUM;
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
#if LUA_VERSION_NUM <= 501
  api.control = lua_gc;
#else
  api.control = NULL;
#endif
#if ACE_LUA_IS_LUAJIT
  api.setmode = luaJIT_setmode;
#else
  api.setmode = NULL;
#endif
  api.gc = ace_lua_host_gc;
  api.registry_index = LUA_REGISTRYINDEX;
  api.finalizes_in_sweep = LUA_VERSION_NUM == 502 || LUA_VERSION_NUM == 503;
  api.finalizes_in_rounds = ACE_LUA_IS_LUAJIT;
  return api;
}

/* A new state that allocates from a heap of its own; `options` NULL: defaults. As lua_newstate it opens no
 * library and sets no panic function. NULL where there is no memory, the options are invalid, or the VM is a
 * LuaJIT without GC64. */
static inline lua_State *ace_lua_newstate(const ace_lua_options *options) {
  ace_lua_vm *vm = ace_lua_vm_create(options);
  if (vm == NULL) return NULL;
#if LUA_VERSION_NUM >= 505
  lua_State *L = lua_newstate(ace_lua_alloc, vm, luaL_makeseed(NULL));
#else
  lua_State *L = lua_newstate(ace_lua_alloc, vm);
#endif
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

/* As lua_close, for any state, but at once: finalizers run, and the heap is destroyed as a whole, where
 * lua_close frees block by block. It leaves lua_close by longjmp from the last finalizer, so that finalizers
 * must not rely on C++ destructors of what is on the stack below them. A page is lost for each state that made
 * callbacks by LuaJIT's FFI. */
static inline void ace_lua_close(lua_State *L) {
  void *ud;
  if (lua_getallocf(L, &ud) == ace_lua_alloc) {
    ace_lua_vm_close((ace_lua_vm *)ud, L, lua_close);
  } else {
    lua_close(L);
  }
}

/* ace_lua_vm_set_limit for a state; 0, and nothing set, where it does not allocate from ACE. */
static inline size_t ace_lua_set_limit(lua_State *L, size_t limit) {
  void *ud;
  return lua_getallocf(L, &ud) == ace_lua_alloc ? ace_lua_vm_set_limit((ace_lua_vm *)ud, limit) : 0;
}

#endif /* LUA_VERSION_NUM */

#endif /* ACE_LUA_H */
