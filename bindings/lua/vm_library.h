// A Lua library that is loaded in this process: which VM it is, and the functions of it that we call.
#pragma once
#include <dlfcn.h>
#include <stddef.h>

#include "lua/ace_lua.h"

namespace ace::lua {

constexpr int kLibraries = 8;

// lua_newstate as 5.5 has it. Until 5.4 there is no seed: the register is not looked at.
using NewState = lua_State *(*)(void *(*allocator)(void *, void *, size_t, size_t), void *ud, unsigned seed);

struct VmLibrary {
  void *handle;               // for dlsym; it sees others as well
  const void *begin;          // of the file that the library is, in memory
  int index;                  // below kLibraries
  NewState newstate;          // the library's own
  const char *luaL_newstate;  // where its code begins
  size_t luaL_newstate_size;
  const char *name;     // "LuaJIT", "Lua 5.4"
  const char *label;    // "luajit", "lua5.4"
  const char *version;  // "2", "5.4"
  bool is_luajit;
  bool is_5_1;  // by its API: LuaJIT, too
  void *(*touserdata)(lua_State *, int);
  ace_lua_api api;
};

// The function that the library itself has under this name; nullptr where it shows none, though another library
// may: a process can hold several VMs.
void *own_function(const VmLibrary &library, const char *name);

template <class Function>
bool find(const VmLibrary &library, const char *name, Function &function) {
  function = reinterpret_cast<Function>(own_function(library, name));
  return function != nullptr;
}

// What the code at `address` calls when it says lua_newstate: its own, that of one of its dependencies, or the
// next in the process's order; nullptr where there is none. `interposed` is the lua_newstate that stands before
// them and is not meant; nullptr: none. Any thread.
NewState newstate_at(const void *address, const void *interposed);

// The library that holds it. Found libraries are remembered and stay loaded. Any thread. nullptr: there is
// none, it is a Lua that this file does not know, or there are more than a process can sensibly have.
const VmLibrary *vm_library_at(const void *address, const void *interposed);

}  // namespace ace::lua

// Stands before those of the Lua libraries (stock.cpp).
extern "C" lua_State *lua_newstate(void *(*allocator)(void *, void *, size_t, size_t), void *ud, unsigned seed);
