// Stands in for bindings/lua/ace_lua.cpp: a state's allocator is a plain ace_lua_alloc (lua_alloc.cpp,
// bump.cpp), and nobody hears of its collections.
#include <stdlib.h>

#include "lua/ace_lua.h"

struct ace_lua_vm {
  ace_heap *heap;
};

extern "C" {

// A state's end is not watched: `on_close` is never called, and the few bytes here stay.
ace_lua_vm *ace_lua_vm_create(const ace_lua_options *options) noexcept {
  ace_heap_config config{};
  config.struct_size = sizeof config;
  config.name = options->name;
  auto *vm = static_cast<ace_lua_vm *>(calloc(1, sizeof(ace_lua_vm)));
  if (vm != nullptr) vm->heap = ace_heap_create(&config);
  return vm;
}

void ace_lua_vm_destroy(ace_lua_vm *vm) noexcept {
  if (vm == nullptr) return;
  ace_heap_destroy(vm->heap);
  free(vm);
}

ace_heap *ace_lua_vm_heap(ace_lua_vm *vm) noexcept { return vm->heap; }
void ace_lua_attach(ace_lua_vm *, lua_State *, const ace_lua_api *) {}
int ace_lua_collected(ace_lua_mark *, lua_State *) { return 0; }

}  // extern "C"
