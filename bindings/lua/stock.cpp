// Stock programs on ACE: each state that luaL_newstate makes, where it would get Lua's default allocator, gets
// a heap of its own. lua_newstate is caught on its way from luaL_newstate, so that the panic and warning
// functions are set up as ever:
//
//   - a program that links a Lua library dynamically calls through its symbol table and finds the lua_newstate
//     below first;
//   - a program that holds its Lua itself (Debian's luajit and lua5.4) calls directly: there the call
//     is redirected.
//
// A state whose creator brings an allocator of its own is left alone.
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "ace/ace.h"
#include "lua/ace_lua.h"
#include "lua/call_site.h"
#include "lua/heap_log.h"
#include "lua/record.h"
#include "lua/vm_library.h"
#include "preload/hosts.h"

using namespace ace;
using namespace ace::lua;

namespace {

const VmLibrary *g_met;  // the library found at start, or the last that made a state
const VmLibrary *g_own;  // the one inside the program
const char *g_refusal;   // why the one inside the program was not entered

// The heap first, then the state, as ace_lua_newstate does it.
lua_State *new_state(const VmLibrary &library, unsigned seed) {
  OpenHeap *entry;
  ace_lua_vm *vm = make_logged_vm(library.label, entry);
  if (vm == nullptr) return nullptr;
  lua_State *L = library.newstate(record_vm(*vm, library.name), vm, seed);
  if (L == nullptr) {
    end_record(*vm);
    drop_logged_vm(vm, entry);
    return nullptr;
  }
  log_open_heap(entry, ace_lua_vm_heap(vm));
  ace_lua_attach(vm, L, &library.api);
  __atomic_store_n(&g_met, &library, __ATOMIC_RELAXED);
  return L;
}

// LuaJIT's name for its own allocator, which it makes itself. It is no address.
bool is_luajit_default(const VmLibrary &library, Allocator allocator) {
  return library.is_luajit && reinterpret_cast<uintptr_t>(allocator) == 0x4d50;
}

bool is_luaL_newstate(const VmLibrary &library, const void *caller) {
  auto at = static_cast<const char *>(caller);
  return at > library.luaL_newstate && at <= library.luaL_newstate + library.luaL_newstate_size;
}

// What luaL_newstate calls in a program that holds its Lua itself.
lua_State *newstate_of_program(Allocator allocator, void *ud, unsigned seed) {
  // With `ud` the allocator has memory already: LuaJIT's before its 2.1 of 2020.
  lua_State *L = ud == nullptr ? new_state(*g_own, seed) : nullptr;
  return L != nullptr ? L : g_own->newstate(allocator, ud, seed);
}

}  // namespace

// Stands before the Lua libraries of the process. Until 5.4 callers give no seed, and none is looked at.
extern "C" [[gnu::visibility("default")]] lua_State *lua_newstate(Allocator allocator, void *ud,
                                                                  unsigned seed) {
  const void *caller = __builtin_return_address(0), *here = reinterpret_cast<const void *>(&lua_newstate);
  const VmLibrary *library = vm_library_at(caller, here);
  if (library == nullptr) {  // not a Lua that can be entered
    const NewState meant = newstate_at(caller, here);
    return meant != nullptr ? meant(allocator, ud, seed) : nullptr;
  }
  const bool by_default =
      ud == nullptr && (is_luajit_default(*library, allocator) || is_luaL_newstate(*library, caller));
  lua_State *L = by_default ? new_state(*library, seed) : nullptr;
  return L != nullptr ? L : library->newstate(allocator, ud, seed);
}

namespace ace::lua {
namespace {

// Where the program's name alone says that it is a Lua: lua, lua5.4, luajit-2.1. Not luac, which runs nothing.
bool is_named_lua() {
  const char *name = program_invocation_short_name;
  if (strncmp(name, "luajit", 6) == 0) return true;
  return strncmp(name, "lua", 3) == 0 && strspn(name + 3, "0123456789.-") == strlen(name + 3);
}

preload::Entry refuse(const char *host, const char *why) {
  g_refusal = why;
  return {preload::Entry::kRefused, host, why};
}

const char *why_no_call(const VmLibrary &library, const char *why) {
  if (!library.is_luajit) return why;
  return "its luaL_newstate does not call its lua_newstate: most likely a LuaJIT without GC64, which refuses "
         "other allocators; build it with XCFLAGS=-DLUAJIT_ENABLE_GC64";
}

}  // namespace

preload::Entry enter_stock_lua() {
  const void *by_default = dlsym(RTLD_DEFAULT, "luaL_newstate");
  if (by_default == nullptr) {
    if (!is_named_lua()) return {};
    return refuse("Lua",
                  "the program shows no luaL_newstate: link it with -Wl,-E, or against a shared Lua library");
  }
  const void *here = reinterpret_cast<const void *>(&lua_newstate);
  const VmLibrary *library = vm_library_at(by_default, here);
  if (library == nullptr)
    return refuse("Lua", "its Lua is none of LuaJIT and 5.1 to 5.5, or part of its API is hidden");
  if (getauxval(AT_SECURE) != 0)
    return refuse(library->name, "the program runs with the rights of another user (setuid)");
  g_met = library;
  if (dlsym(RTLD_DEFAULT, "lua_newstate") == here) {
    return {preload::Entry::kEntered, library->name,
            "each state that luaL_newstate makes in the shared library"};
  }
  g_own = library;
  const char *why = redirect_call(library->luaL_newstate, library->luaL_newstate_size,
                                  reinterpret_cast<const void *>(library->newstate),
                                  reinterpret_cast<const void *>(&newstate_of_program));
  if (why != nullptr) return refuse(library->name, why_no_call(*library, why));
  return {preload::Entry::kEntered, library->name, "each state that luaL_newstate makes"};
}

bool entered_later() { return heap_counts().opened != 0; }

bool report_stock_lua(int fd, bool json, bool) {
  const VmLibrary *met = __atomic_load_n(&g_met, __ATOMIC_RELAXED);
  const HeapCounts log = heap_counts();
  const char *why = "";
  if (g_refusal != nullptr) {
    why = g_refusal;
  } else if (log.opened == 0) {
    why = met != nullptr && met->is_luajit
              ? "no state was made with Lua's default allocator, or this LuaJIT was built without GC64"
              : "no state was made with Lua's default allocator";
  }
  char line[512];
  if (json) {
    snprintf(line, sizeof line,
             "{\"host\":\"%s\",\"pid\":%d,\"version\":\"%s\",\"active\":%s,\"reason\":\"%s\",\"states\":%llu,"
             "\"closed\":%llu,\"foreign\":%llu,\"leaked\":%llu}\n",
             met != nullptr ? met->label : "lua", getpid(), met != nullptr ? met->version : "",
             log.opened != 0 ? "true" : "false", why, log.opened, log.closed, log.foreign, log.leaked);
  } else if (log.opened != 0) {
    snprintf(line, sizeof line,
             "ace: %s, process %d: active, %llu states, %llu of them closed, %llu blocks leaked, %llu foreign "
             "pointers\n",
             met != nullptr ? met->name : "Lua", getpid(), log.opened, log.closed, log.leaked, log.foreign);
  } else {
    snprintf(line, sizeof line, "ace: %s, process %d: inactive: %s\n", met != nullptr ? met->name : "Lua",
             getpid(), why);
  }
  return dprintf(fd, "%s", line) >= 0 && report_open_heaps(fd, json);
}

}  // namespace ace::lua
