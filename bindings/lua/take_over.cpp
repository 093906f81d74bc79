// A state that began on another allocator: what it has from there goes back to it.
#include <string.h>

#include <algorithm>

#include "lua/vm.h"

using namespace ace::lua;

namespace {

// The block that the state itself lies in is the last that its end frees.
bool holds_state(const ace_lua_vm &vm, const void *block, size_t size) {
  return reinterpret_cast<uintptr_t>(vm.state) - reinterpret_cast<uintptr_t>(block) < size;
}

void *free_former(ace_lua_vm &vm, void *block, size_t size) {
  const bool is_end = holds_state(vm, block, size);
  vm.former(vm.former_ud, block, size, 0);
  if (is_end) end_heap(vm);
  return nullptr;
}

void *move_former(ace_lua_vm &vm, void *block, size_t old_size, size_t size) {
  void *moved = ace_lua_alloc(&vm, nullptr, 0, size);
  if (moved == nullptr) return size <= old_size ? vm.former(vm.former_ud, block, old_size, size) : nullptr;
  memcpy(moved, block, std::min(old_size, size));
  vm.former(vm.former_ud, block, old_size, 0);
  return moved;
}

void *routed_alloc(void *ud, void *block, size_t old_size, size_t size) {
  auto &vm = *static_cast<ace_lua_vm *>(ud);
  if (block == nullptr || ace_heap_owns(vm.heap, block)) return ace_lua_alloc(ud, block, old_size, size);
  return size == 0 ? free_former(vm, block, old_size) : move_former(vm, block, old_size, size);
}

}  // namespace

namespace ace::lua {

Allocator take_over(ace_lua_vm &vm, Allocator former, void *former_ud) {
  vm.former = former;
  vm.former_ud = former_ud;
  vm.first_block = &vm;  // none of the heap's is the first
  return routed_alloc;
}

Allocator g_recorded_alloc;

bool is_ours(Allocator allocator) {
  return allocator == ace_lua_alloc || allocator == routed_alloc ||
         (allocator != nullptr && allocator == g_recorded_alloc);
}

}  // namespace ace::lua
