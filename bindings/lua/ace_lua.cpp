// A heap for each Lua state: the allocator, its beginning and its end.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lua/vm.h"

using namespace ace::lua;

namespace {

// Groups for the kinds that 5.2 and newer give as the old size of a new block: Lua's type tags. Buffers (0),
// and what is internal to the VM (above 8), are the rest.
constexpr unsigned kGroups = 4;
constexpr unsigned kTags = 9;
constexpr ace_kind kKindOfTag[kTags] = {0, 0, 0, 0, 1 /* string */, 2 /* table */, 3, 3, 3};

}  // namespace

namespace ace::lua {

ace_kind kind_of_tag(size_t tag) { return tag < kTags ? kKindOfTag[tag] : 0; }

void end_heap(ace_lua_vm &vm) {
  if (vm.shares) end_phases(vm);
  if (vm.on_close != nullptr) vm.on_close(vm.heap, vm.on_close_context);
  ace_lua_vm_destroy(&vm);
}

}  // namespace ace::lua

extern "C" {

// ------------------------------------------------------------------------------- the heap and its end ----

ace_lua_vm *ace_lua_vm_create(const ace_lua_options *options) noexcept {
  ace_lua_options full{};
  if (options != nullptr) {
    // A caller built against an older header gives a shorter struct.
    if (options->struct_size < sizeof(size_t) || options->struct_size > sizeof full) return nullptr;
    memcpy(&full, options, options->struct_size);
  }
  const bool shares = full.heap != nullptr;
  if (shares && full.limit != 0) return nullptr;

  ace_heap_config config{};
  config.struct_size = sizeof config;
  config.name = full.name != nullptr ? full.name : "lua";
  config.kind_groups = full.kinds != 0 ? kGroups : 0;
  // Not in the heap: a state that ends leaves nothing behind there, and anything else is a leak.
  auto *vm = static_cast<ace_lua_vm *>(calloc(1, sizeof(ace_lua_vm)));
  if (vm == nullptr) return nullptr;
  config.on_limit = near_limit;
  config.on_limit_context = vm;
  vm->shares = shares;
  vm->heap = shares ? full.heap : ace_heap_create(&config);
  if (vm->heap == nullptr) {
    free(vm);
    return nullptr;
  }
  vm->has_kinds = config.kind_groups != 0;
  vm->collector = &vm->no_collector;
  vm->size_mask = SIZE_MAX;
  update_watch(*vm);
  vm->limit = full.limit;
  vm->on_close = full.on_close;
  vm->on_close_context = full.on_close_context;
  return vm;
}

void ace_lua_vm_destroy(ace_lua_vm *vm) noexcept {
  if (vm == nullptr) return;
  if (!vm->shares) ace_heap_destroy(vm->heap);
  free(vm);
}

ace_heap *ace_lua_vm_heap(ace_lua_vm *vm) noexcept { return vm->heap; }

}  // extern "C"

// ---------------------------------------------------------------------------------------- allocation ----

namespace {

[[gnu::cold, gnu::noinline]] void *fail(ace_lua_vm &vm) {
  note_failure(vm);
  return nullptr;
}

[[gnu::noinline]] void *allocate_watched(ace_lua_vm &vm, size_t tag, size_t size) {
  note_growth(vm, size);
  void *block = ace_heap_alloc_kind(vm.heap, size, kind_of_tag(tag));
  if (block == nullptr) return fail(vm);
  if (vm.first_block == nullptr) {
    vm.first_block = block;
    vm.first_size = size;
    memset(block, 0, size);  // we shall read all its words, also what the VM writes none of
  }
  return block;
}

// The last that a state frees. Where lua_newstate itself fails it frees its first block too, and its caller
// destroys the heap.
void free_first_block(ace_lua_vm &vm, size_t size) {
  ace_heap_free_sized(vm.heap, vm.first_block, size);
  if (!vm.attached) return;
  end_heap(vm);
}

// A free with which a sweep may begin, or the state end.
[[gnu::noinline]] void *free_watched(ace_lua_vm &vm, void *block, size_t size) {
  if (vm.frees == kFreesOfASweep) note_frees(vm);
  if (block == vm.first_block) {
    free_first_block(vm, size);
  } else {
    ace_heap_free_sized(vm.heap, block, size & vm.size_mask);
  }
  return nullptr;
}

[[gnu::noinline]] void *reallocate(ace_lua_vm &vm, void *block, size_t old_size, size_t size) {
  if (size > old_size) {
    vm.frees = 0;
    note_growth(vm, size - old_size);
  }
  void *resized = ace_heap_realloc(vm.heap, block, size, 0);
  return resized != nullptr ? resized : fail(vm);
}

// The three ways of ace_lua_alloc are functions of their own, so that each saves only the registers it needs.
[[gnu::noinline]] void *allocate_new(ace_lua_vm &vm, size_t tag, size_t size) {
  vm.frees = 0;
  if (*vm.collector != vm.seen) [[unlikely]]
    return allocate_watched(vm, tag, size);
  void *block = ace_heap_alloc(vm.heap, size);
  return block != nullptr ? block : fail(vm);
}

[[gnu::noinline]] void *release(ace_lua_vm &vm, void *block, size_t size) {
  if (++vm.frees == kFreesOfASweep || block == vm.first_block) [[unlikely]]
    return free_watched(vm, block, size);
  if (vm.frees > kFreesOfASweep) {
    ace_heap_free_swept(vm.heap, block, size & vm.size_mask);
  } else {
    ace_heap_free_sized(vm.heap, block, size & vm.size_mask);
  }
  return nullptr;
}

}  // namespace

extern "C" void *ace_lua_alloc(void *ud, void *ptr, size_t osize, size_t nsize) {
  auto &vm = *static_cast<ace_lua_vm *>(ud);
  if (ptr == nullptr) {
    if (nsize == 0) return nullptr;  // PUC frees nothing at all very often
    return allocate_new(vm, osize, nsize);
  }
  if (nsize == 0) return release(vm, ptr, osize);
  return reallocate(vm, ptr, osize, nsize);
}
