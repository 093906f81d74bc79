// The module `ace` of Lua: a program speaks to the heap that its state lives on, or puts a running state on
// one.
//
//   module_text.h  the module itself, in Lua
//   module.cpp     what it needs of C, for each VM by the functions that this VM has
//   census.h       what lives in a heap
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "ace/ace.h"
#include "ace/stats.h"
#include "base/say.h"
#include "lua/census.h"
#include "lua/fork.h"
#include "lua/heap_log.h"
#include "lua/module_text.h"
#include "lua/vm.h"
#include "lua/vm_library.h"

namespace ace::lua {
namespace {

// ---- the VM's functions

// Those that the module needs besides ace_lua_api. Some are called differently from 5.2 on.
struct Functions {
  int (*type)(lua_State *, int);
  const char *(*tolstring)(lua_State *, int, size_t *);
  double (*tonumber)(lua_State *, int);          // 5.1 and LuaJIT
  double (*tonumberx)(lua_State *, int, int *);  // 5.2 and newer
  void (*pushinteger)(lua_State *, ptrdiff_t);
  void (*pushboolean)(lua_State *, int);
  void (*pushstring)(lua_State *, const char *);
  void (*rawseti)(lua_State *, int, int);  // until 5.2
  void (*rawseti_long)(lua_State *, int, long long);
  int (*error)(lua_State *);
  int (*loadbuffer)(lua_State *, const char *, size_t, const char *);
  int (*loadbufferx)(lua_State *, const char *, size_t, const char *, const char *);
  void (*call)(lua_State *, int, int);
  void (*callk)(lua_State *, int, int, intptr_t, void *);
  int (*pushthread)(lua_State *);
  Allocator (*getallocf)(lua_State *, void **);
  void (*setallocf)(lua_State *, Allocator, void *);
};

struct Vm {
  const VmLibrary *library;
  Functions f;
};

constexpr int kNil = 0;  // lua_type; -1 is none

// One for each library, as vm_library.cpp has them; filled, under its lock, when the module is first opened
// there.
Vm g_vms[kLibraries];

bool find_all(const VmLibrary &library, Functions &f) {
  const bool is_5_1 = library.is_5_1;
  const bool long_keys = !is_5_1 && strcmp(library.version, "5.2") != 0;
  return find(library, "lua_type", f.type) && find(library, "lua_tolstring", f.tolstring) &&
         (is_5_1 ? find(library, "lua_tonumber", f.tonumber) : find(library, "lua_tonumberx", f.tonumberx)) &&
         find(library, "lua_pushinteger", f.pushinteger) && find(library, "lua_pushboolean", f.pushboolean) &&
         find(library, "lua_pushstring", f.pushstring) &&
         (long_keys ? find(library, "lua_rawseti", f.rawseti_long) : find(library, "lua_rawseti", f.rawseti)) &&
         find(library, "lua_error", f.error) &&
         (is_5_1 ? find(library, "luaL_loadbuffer", f.loadbuffer)
                 : find(library, "luaL_loadbufferx", f.loadbufferx)) &&
         (is_5_1 ? find(library, "lua_call", f.call) : find(library, "lua_callk", f.callk)) &&
         find(library, "lua_pushthread", f.pushthread) && find(library, "lua_getallocf", f.getallocf) &&
         find(library, "lua_setallocf", f.setallocf);
}

// What a C function called by Lua knows of its VM: one function for each.
template <int kVm>
struct Core {
  static const Functions &f() { return g_vms[kVm].f; }
  static const ace_lua_api &api() { return g_vms[kVm].library->api; }

  static double number(lua_State *L, int index) {
    return f().tonumberx != nullptr ? f().tonumberx(L, index, nullptr) : f().tonumber(L, index);
  }
  static int fail(lua_State *L, const char *message) {
    f().pushstring(L, message);
    return f().error(L);
  }
  static void push_number(lua_State *L, uint64_t value) {
    f().pushinteger(L, static_cast<ptrdiff_t>(std::min(value, uint64_t{PTRDIFF_MAX})));
  }
  static void set_number(lua_State *L, const char *name, uint64_t value) {
    push_number(L, value);
    api().setfield(L, -2, name);
  }

  static ace_lua_vm *vm_of(lua_State *L) {
    void *ud;
    const Allocator allocator = f().getallocf(L, &ud);
    return is_ours(allocator) ? static_cast<ace_lua_vm *>(ud) : nullptr;
  }
  static ace_heap *heap_of(lua_State *L) {
    ace_lua_vm *vm = vm_of(L);
    return vm != nullptr ? vm->heap : nullptr;
  }

  // ---- what the module calls

  static int version(lua_State *L) {
    f().pushstring(L, ace_version());
    return 1;
  }

  static int active(lua_State *L) {
    f().pushboolean(L, heap_of(L) != nullptr);
    return 1;
  }

  static int hint(lua_State *L) {
    static constexpr struct {
      const char *name;
      ace_hint_code code;
    } kHints[] = {{"burst_begin", ACE_HINT_BURST_BEGIN},
                  {"burst_end", ACE_HINT_BURST_END},
                  {"idle_begin", ACE_HINT_IDLE_BEGIN},
                  {"idle_end", ACE_HINT_IDLE_END}};
    ace_heap *heap = heap_of(L);
    const char *name = f().tolstring(L, 1, nullptr);
    for (const auto &known : kHints) {
      if (heap != nullptr && name != nullptr && strcmp(name, known.name) == 0) ace_hint(heap, known.code, 0);
    }
    return 0;
  }

  static int trim(lua_State *L) {
    push_number(L, ace_trim(heap_of(L), SIZE_MAX));
    return 1;
  }

  static int limit(lua_State *L) {
    ace_lua_vm *vm = vm_of(L);
    size_t former = vm->limit;
    if (f().type(L, 1) > kNil) {
      const double asked = number(L, 1);
      const auto whole = static_cast<size_t>(asked);
      former = ace_lua_vm_set_limit(vm, whole + (static_cast<double>(whole) < asked));  // 0.5 is not none
    }
    push_number(L, former);
    return 1;
  }

  static int stats(lua_State *L) {
    ace_stats stats;
    ace_heap_stats(heap_of(L), &stats, sizeof stats);
    api().createtable(L, 0, 80);
    ace_field_info field;
    for (unsigned i = 0; ace_stats_field(i, &field) == 0; ++i)
      set_number(L, field.name, ace_stats_value(&stats, &field));
    return 1;
  }

  static int census(lua_State *L);
  static int install(lua_State *L);

  static int open(lua_State *L) {
    static constexpr struct {
      const char *name;
      ace_lua_function function;
    } kFunctions[] = {{"version", version}, {"active", active}, {"hint", hint},     {"trim", trim},
                      {"limit", limit},     {"stats", stats},   {"census", census}, {"install", install}};
    const int status = f().loadbufferx != nullptr
                           ? f().loadbufferx(L, kModule, sizeof kModule - 1, "=ace", nullptr)
                           : f().loadbuffer(L, kModule, sizeof kModule - 1, "=ace");
    if (status != 0) return f().error(L);
    api().createtable(L, 0, static_cast<int>(std::size(kFunctions)));
    for (const auto &one : kFunctions) {
      api().pushcclosure(L, one.function, 0);
      api().setfield(L, -2, one.name);
    }
    if (f().callk != nullptr) {
      f().callk(L, 1, 1, 0, nullptr);
    } else {
      f().call(L, 1, 1);
    }
    return 1;
  }
};

template <int kVm>
int Core<kVm>::census(lua_State *L) {
  static constexpr const char *kKinds[] = {"", "strings, ", "tables, ", "functions and userdata, "};
  Census census;
  ace_heap_walk(heap_of(L), Census::visit, &census);
  api().createtable(L, static_cast<int>(census.end() - census.begin()), 0);
  long long n = 0;
  for (const CensusRow &row : census) {
    char name[64];
    const char *kind = row.kind < std::size(kKinds) ? kKinds[row.kind] : "";
    if (row.size != 0) {
      snprintf(name, sizeof name, "%s%zu bytes", kind, row.size);
    } else {
      snprintf(name, sizeof name, "%swhole pages", kind);
    }
    api().createtable(L, 0, 5);
    f().pushstring(L, name);
    api().setfield(L, -2, "name");
    set_number(L, "size", row.size);
    set_number(L, "blocks", row.blocks);
    set_number(L, "bytes", row.bytes);
    set_number(L, "pages", row.pages);
    ++n;
    if (f().rawseti_long != nullptr) {
      f().rawseti_long(L, -2, n);
    } else {
      f().rawseti(L, -2, static_cast<int>(n));
    }
  }
  return 1;
}

// ---- a state that runs already

template <int kVm>
int Core<kVm>::install(lua_State *L) {
  const bool is_main = f().pushthread(L) != 0;
  api().settop(L, -2);
  if (!is_main) return fail(L, "ace.install is for the main program, not for a coroutine");
  constexpr auto kLow = uintptr_t{1} << 32;
  if (g_vms[kVm].library->is_luajit && reinterpret_cast<uintptr_t>(L) < kLow)
    return fail(L, "this LuaJIT was most likely built without GC64, and takes no other allocator");
  void *ud;
  const Allocator original = f().getallocf(L, &ud);
  OpenHeap *entry;
  ace_lua_vm *vm = make_logged_vm(g_vms[kVm].library->label, entry);
  if (vm == nullptr) return fail(L, "not enough memory");
  log_open_heap(entry, ace_lua_vm_heap(vm));
  f().setallocf(L, take_over(*vm, original, ud), vm);
  ace_lua_attach(vm, L, &api());
  return 0;
}

template <int kVm>
int open_in(lua_State *L, const VmLibrary &library) {
  Vm &vm = g_vms[kVm];
  lock_libraries();
  if (vm.library == nullptr && find_all(library, vm.f)) vm.library = &library;
  const bool knows_all = vm.library != nullptr;
  unlock_libraries();
  if (!knows_all) return -1;
  return Core<kVm>::open(L);
}

using Open = int (*)(lua_State *, const VmLibrary &);
constexpr auto kOpen = []<int... kVm>(std::integer_sequence<int, kVm...>) {
  return std::array<Open, kLibraries>{open_in<kVm>...};
}
(std::make_integer_sequence<int, kLibraries>{});

}  // namespace
}  // namespace ace::lua

// What `require "ace"` calls where the preloaded library lies in package.cpath as ace.so.
extern "C" [[gnu::visibility("default")]] int luaopen_ace(lua_State *L) {
  using namespace ace::lua;
  const VmLibrary *library =
      vm_library_at(__builtin_return_address(0), reinterpret_cast<const void *>(&lua_newstate));
  const int count = library != nullptr ? kOpen[static_cast<size_t>(library->index)](L, *library) : -1;
  if (count >= 0) return count;
  constexpr char kWhy[] = "is none of LuaJIT and 5.1 to 5.5, hides part of its API, or is one more than";
  ace::say("ace: this Lua %s %d\n", kWhy, kLibraries);
  return 0;
}
