#include "lua/vm_library.h"

#include <dlfcn.h>
#include <elf.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <string.h>

#include <array>
#include <utility>

#include "lua/fork.h"

namespace ace::lua {
namespace {

VmLibrary g_libraries[kLibraries];
int g_count;
pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;

// A finalizer gets nothing but its state and must know by itself whose API it may call: one for each library.
template <int kLibrary>
int collected(lua_State *L) {
  auto *mark = static_cast<ace_lua_mark **>(g_libraries[kLibrary].touserdata(L, 1));
  return mark != nullptr ? ace_lua_collected(*mark, L) : 0;
}
constexpr auto kCollected = []<int... kLibrary>(std::integer_sequence<int, kLibrary...>) {
  return std::array<ace_lua_function, kLibraries>{collected<kLibrary>...};
}
(std::make_integer_sequence<int, kLibraries>{});

// Told by what each version added to the API, as 5.1 has no lua_version to ask.
bool name_version(VmLibrary &library) {
  struct Version {
    const char *added, *name, *label, *version;
  };
  static constexpr Version kVersions[] = {
      {"luaJIT_setmode", "LuaJIT", "luajit", "2"},       {"lua_numbertocstring", "Lua 5.5", "lua5.5", "5.5"},
      {"lua_newuserdatauv", "Lua 5.4", "lua5.4", "5.4"}, {"lua_isinteger", "Lua 5.3", "lua5.3", "5.3"},
      {"lua_callk", "Lua 5.2", "lua5.2", "5.2"},         {"lua_cpcall", "Lua 5.1", "lua5.1", "5.1"}};
  for (const Version &v : kVersions) {
    if (own_function(library, v.added) == nullptr) continue;
    library.name = v.name;
    library.label = v.label;
    library.version = v.version;
    library.is_luajit = &v == kVersions;
    library.is_5_1 = library.is_luajit || strcmp(v.version, "5.1") == 0;
    // Lua's LUA_REGISTRYINDEX; in the newer ones it follows the greatest stack, which nobody changes.
    library.api.registry_index = library.is_5_1                  ? -10000
                                 : strcmp(v.version, "5.5") == 0 ? -(INT_MAX / 2 + 1000)
                                                                 : -1001000;
    if (library.is_5_1) find(library, "lua_gc", library.api.control);
    library.api.version = library.is_5_1 ? 501 : 500 + v.version[2] - '0';
    library.api.finalizes_in_rounds = library.is_luajit;
    library.api.finalizes_in_sweep = v.version[0] == '5' && (v.version[2] == '2' || v.version[2] == '3');
    return true;
  }
  return false;
}

bool find_functions(VmLibrary &library) {
  find(library, "luaL_newstate", library.luaL_newstate);
  find(library, "lua_touserdata", library.touserdata);
  ace_lua_api &api = library.api;
  find(library, "lua_newuserdata", api.newuserdata);
  find(library, "lua_newuserdatauv", api.newuserdatauv);
  find(library, "lua_createtable", api.createtable);
  find(library, "lua_pushcclosure", api.pushcclosure);
  find(library, "lua_setfield", api.setfield);
  find(library, "lua_setmetatable", api.setmetatable);
  find(library, "lua_getmetatable", api.getmetatable);
  find(library, "lua_settop", api.settop);
  find(library, "luaJIT_setmode", api.setmode);
  return library.luaL_newstate && library.touserdata && (api.newuserdata || api.newuserdatauv) &&
         api.createtable && api.pushcclosure && api.setfield && api.setmetatable && api.getmetatable &&
         api.settop;
}

size_t size_of_function(const void *function) {
  Dl_info info;
  void *symbol = nullptr;
  if (dladdr1(function, &info, &symbol, RTLD_DL_SYMENT) == 0 || symbol == nullptr) return 0;
  return static_cast<const ElfW(Sym) *>(symbol)->st_size;
}

// Searches what the object that holds `address` sees. A main program, whose name is empty, sees everything.
void *scope_of(const void *address) {
  Dl_info info;
  void *object = nullptr;
  if (dladdr1(address, &info, &object, RTLD_DL_LINKMAP) == 0 || object == nullptr) return nullptr;
  const char *name = static_cast<const link_map *>(object)->l_name;
  return dlopen(name[0] != '\0' ? name : nullptr, RTLD_LAZY | RTLD_NOLOAD);
}

// Its handle stays open, so that the library stays loaded.
bool describe(NewState newstate, VmLibrary &library) {
  const void *address = reinterpret_cast<const void *>(newstate);
  Dl_info info;
  library = {};
  library.handle = scope_of(address);
  if (library.handle == nullptr) return false;
  if (dladdr(address, &info) != 0) library.begin = info.dli_fbase;
  if (!name_version(library) || !find_functions(library)) {
    dlclose(library.handle);
    return false;
  }
  library.newstate = newstate;
  library.luaL_newstate_size = size_of_function(library.luaL_newstate);
  return true;
}

}  // namespace

void lock_libraries() { pthread_mutex_lock(&g_lock); }
void unlock_libraries() { pthread_mutex_unlock(&g_lock); }

void *own_function(const VmLibrary &library, const char *name) {
  void *function = dlsym(library.handle, name);
  Dl_info info;
  return function != nullptr && dladdr(function, &info) != 0 && info.dli_fbase == library.begin ? function
                                                                                                : nullptr;
}

NewState newstate_at(const void *address, const void *interposed) {
  void *handle = scope_of(address);
  if (handle == nullptr) return nullptr;
  void *newstate = dlsym(handle, "lua_newstate");
  if (newstate == interposed) newstate = dlsym(RTLD_NEXT, "lua_newstate");
  dlclose(handle);
  return reinterpret_cast<NewState>(newstate);
}

const VmLibrary *vm_library_at(const void *address, const void *interposed) {
  watch_forks_of_lua();
  const NewState newstate = newstate_at(address, interposed);
  if (newstate == nullptr) return nullptr;

  lock_libraries();
  int i = 0;
  while (i < g_count && g_libraries[i].newstate != newstate) ++i;
  if (i == g_count && g_count < kLibraries && describe(newstate, g_libraries[i])) {
    g_libraries[i].index = i;
    g_libraries[i].api.gc = kCollected[static_cast<size_t>(i)];
    ++g_count;
  }
  const VmLibrary *found = i < g_count ? &g_libraries[i] : nullptr;
  unlock_libraries();
  return found;
}

}  // namespace ace::lua
