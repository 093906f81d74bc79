#include "targets.h"

#include <string.h>

#include "os/os.h"

namespace ace::replay {
namespace {

template <class Function>
void find(Function *&function, void *library, const char *name, const char *advice) {
  function = reinterpret_cast<Function *>(dlsym(library, name));
  if (function == nullptr)
    throw std::runtime_error(std::string("there is no function ") + name + ": " + advice);
}

// ---- ACE's clock

bool g_has_clock_of_trace;
uint64_t g_now;

uint64_t now_of_trace() { return g_now; }
bool start_no_thread(Thread, void (*)()) { return false; }

}  // namespace

void use_clock_of_trace() {
  static OsTable table = real_os();
  g_now = table.now();
  table.now = table.thread_time = now_of_trace;
  table.start_thread = start_no_thread;
  replace_os(&table);
  g_has_clock_of_trace = true;
}

// ---- ACE

AceTarget::AceTarget(size_t heaps, bool sweeps) : sweeps_(sweeps), heaps_(heaps) {
  // The library itself goes on with a default where the environment holds no value of an option.
  ace_option_info option;
  for (unsigned i = 0; ace_option_describe(i, &option) == 0; ++i) {
    const char *value = getenv(option.environment);
    if (value != nullptr && ace_option_set(option.name, value) != 0)
      throw std::runtime_error(std::string("the option ") + option.name + " takes " + option.values +
                               ", not '" + value + "'");
  }
  // No thread can be started by the trace's clock: a worker does its work in pass.
  if (g_has_clock_of_trace && strcmp(ace_option_get("worker"), "off") != 0) ace_option_set("worker", "tick");
}

void AceTarget::enter(uint32_t index) {
  ace_heap *&heap = heaps_[index];
  if (heap == nullptr) {
    ace_heap_config config{};
    config.struct_size = sizeof config;
    config.name = "replayed";
    config.kind_groups = ace_option_number("kinds") != 0 ? ACE_KIND_GROUPS_MAX : 0;
    heap = ace_heap_create(&config);
    if (heap == nullptr) throw std::runtime_error("no heap could be made");
  }
  heap_ = heap;
}

void AceTarget::leave(uint32_t index) {
  ace_heap_destroy(heaps_[index]);
  heaps_[index] = heap_ = nullptr;
}

void AceTarget::pass(uint64_t now_us) {
  if (!g_has_clock_of_trace) return;
  static const uint64_t began = g_now;
  g_now = began + now_us * 1000;
  ace_tick(UINT64_MAX);
}

// ---- LuaJIT

LuajitTarget::LuajitTarget(const std::string &library, size_t heaps) : states_(heaps) {
  constexpr const char *kAdvice = "it is no LuaJIT";
  void *handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) throw std::runtime_error(std::string(dlerror()) + ": apt-get install libluajit-5.1-2");
  find(new_state_, handle, "luaL_newstate", kAdvice);
  find(close_, handle, "lua_close", kAdvice);
  find(getallocf_, handle, "lua_getallocf", kAdvice);
}

void *LuajitTarget::zeroed(size_t size, unsigned kind) {
  void *p = alloc(size, kind);
  return p != nullptr ? memset(p, 0, size) : nullptr;
}

void LuajitTarget::enter(uint32_t heap) {
  State &state = states_[heap];
  if (state.state == nullptr) {
    state.state = new_state_();
    if (state.state == nullptr) throw std::runtime_error("LuaJIT made no state");
    void *allocate = getallocf_(state.state, &state.ud);
    memcpy(&state.allocate, &allocate, sizeof allocate);
  }
  present_ = state;
}

void LuajitTarget::leave(uint32_t heap) {
  close_(states_[heap].state);
  states_[heap] = present_ = State();
}

// ---- CPython

PymallocTarget::PymallocTarget() {
  constexpr const char *kAdvice = "CPython's allocator is only to be had inside of a CPython";
  find(alloc_, RTLD_DEFAULT, "PyObject_Malloc", kAdvice);
  find(calloc_, RTLD_DEFAULT, "PyObject_Calloc", kAdvice);
  find(realloc_, RTLD_DEFAULT, "PyObject_Realloc", kAdvice);
  find(free_, RTLD_DEFAULT, "PyObject_Free", kAdvice);
}

}  // namespace ace::replay
