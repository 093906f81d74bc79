// A heap for each Lua state: the allocator, the phases that it infers, and the state's end.
//
// Lua tells an embedder nothing of its collections, and we change no VM, so that two things stand in for it:
//
//   - a sentinel, a userdata that nothing refers to. Each collection finds it dead and calls its finalizer,
//     which makes the next one. LuaJIT, 5.1 and 5.4 run finalizers when the sweep is over, so that this is the
//     collection's end, with its garbage freed.
//   - three frees in a row. The VMs hardly free outside a sweep (the old part of a table that grows), so that
//     this is where a sweep begins.
//
// What no finalizer will tell in time (5.2 and 5.3 run finalizers during the sweep too, and an emergency
// collection of 5.2 to 5.4 runs none) ends when the program has allocated a little without such frees.
#include <stdint.h>
#include <stdlib.h>

#include "lua/vm.h"

using namespace ace::lua;

namespace {

constexpr int kFreesOfASweep = 3;
constexpr size_t kQuietBytes = 8192;

// Groups for the kinds that 5.2 and newer give as the old size of a new block: Lua's type tags. Buffers (0),
// and what is internal to the VM (above 8), are the rest.
constexpr unsigned kKindGroups = 4;
constexpr unsigned kTags = 9;
constexpr ace_kind kKindOfTag[kTags] = {0, 0, 0, 0, 1 /* string */, 2 /* table */, 3, 3, 3};

}  // namespace

namespace ace::lua {
ace_kind kind_of_tag(size_t tag) { return tag < kTags ? kKindOfTag[tag] : 0; }
}  // namespace ace::lua

namespace {

// ------------------------------------------------------------------------------------------- phases ----

// Before the state is made its first block is still to come, a block of a kind goes to its kind's slabs, and a
// sweep whose end nobody tells is over when enough was allocated.
void update_watch(ace_lua_vm &vm) {
  vm.watches = !vm.attached || vm.has_kinds || (vm.sweeping && vm.ends_by_quiet);
}

[[gnu::noinline]] void begin_sweep(ace_lua_vm &vm) {
  vm.quiet_bytes = 0;
  if (!vm.attached || vm.closing || (vm.sweeping && !vm.may_be_over)) return;
  // Marking has passed unseen.
  if (!vm.sweeping) ace_hint(vm.heap, ACE_HINT_COLLECT_BEGIN, 0);
  ace_hint(vm.heap, ACE_HINT_SWEEP, 0);
  vm.sweeping = true;
  vm.may_be_over = false;
  update_watch(vm);
}

void end_collection(ace_lua_vm &vm) {
  vm.sweeping = vm.may_be_over = false;
  vm.ends_by_quiet = vm.api.finalizes_in_sweep != 0;
  update_watch(vm);
  ace_hint(vm.heap, ACE_HINT_COLLECT_END, 0);
}

void note_quiet(ace_lua_vm &vm, size_t size) {
  if (!vm.sweeping || !vm.ends_by_quiet) return;
  vm.quiet_bytes += size;
  if (vm.quiet_bytes > kQuietBytes) end_collection(vm);
}

// The VM may answer with an emergency collection, and run no finalizer in it.
[[gnu::cold]] void *note_failure(ace_lua_vm &vm) {
  vm.ends_by_quiet = true;
  vm.quiet_bytes = 0;
  update_watch(vm);
  return nullptr;
}

// ----------------------------------------------------------------------------------------- sentinel ----

// So that the few small blocks of the first sentinel are there and no error can be thrown: nothing would catch
// it so early in a state's life.
void reserve_small_blocks(ace_heap *heap) {
  for (size_t size = 16; size <= 512; size += 16) ace_heap_free(heap, ace_heap_alloc(heap, size));
}

}  // namespace

namespace ace::lua {
namespace {

void push_block(ace_lua_vm &vm, lua_State *L, ace_lua_mark &mark) {
  void *block = vm.api.newuserdatauv != nullptr ? vm.api.newuserdatauv(L, sizeof(ace_lua_mark *), 0)
                                                : vm.api.newuserdata(L, sizeof(ace_lua_mark *));
  *static_cast<ace_lua_mark **>(block) = &mark;
}

}  // namespace

void push_mark(ace_lua_vm &vm, lua_State *L, ace_lua_mark &mark) {
  mark.vm = &vm;
  push_block(vm, L, mark);
  vm.api.createtable(L, 0, 1);
  vm.api.pushcclosure(L, vm.api.gc, 0);
  vm.api.setfield(L, -2, "__gc");
  vm.api.setmetatable(L, -2);
}

void push_mark_again(ace_lua_vm &vm, lua_State *L, ace_lua_mark &mark) {
  push_block(vm, L, mark);
  vm.api.getmetatable(L, 1);
  vm.api.setmetatable(L, 2);
}

void end_heap(ace_lua_vm &vm) {
  if (vm.on_close != nullptr) vm.on_close(vm.heap, vm.on_close_context);
  ace_lua_vm_destroy(&vm);
}

}  // namespace ace::lua

extern "C" {

int ace_lua_collected(ace_lua_mark *mark, lua_State *L) {
  ace_lua_vm *vm = mark->vm;
  if (mark == &vm->end) {
    reach_end(*vm, L);
    return 0;
  }
  if (vm->closing) return 0;
  // A state that is closed by lua_close calls every finalizer, and LuaJIT calls those made meanwhile again, up
  // to ten times: that is no collection.
  if (vm->frees != kUntouched) {
    if (!vm->sweeping) begin_sweep(*vm);
    end_collection(*vm);
    // There it may be the end or not: it counts as one for now, and what follows is still the same collection.
    vm->sweeping = vm->may_be_over = vm->api.finalizes_in_sweep != 0;
    update_watch(*vm);
  }
  // An error here would come out of the program's own code, at any place, and leave no sentinel behind: its
  // few bytes are exempt from the limit.
  const size_t limit = ace_heap_set_limit(vm->heap, 0);
  push_mark_again(*vm, L, vm->sentinel);
  ace_heap_set_limit(vm->heap, limit);
  after_collection(*vm);
  vm->frees = kUntouched;
  return 0;
}

void ace_lua_attach(ace_lua_vm *vm, lua_State *L, const ace_lua_api *api) {
  vm->api = *api;
  vm->state = L;
  vm->ends_by_quiet = api->finalizes_in_sweep != 0;
  reserve_small_blocks(vm->heap);
  anchor_end(*vm, L);
  push_mark(*vm, L, vm->sentinel);
  api->settop(L, -2);
  learn_how_it_stops(*vm);
  vm->attached = true;
  update_watch(*vm);
  arm_limit(*vm);
}

// ------------------------------------------------------------------------------- the heap and its end ----

ace_lua_vm *ace_lua_vm_create(const ace_lua_options *options) noexcept {
  ace_lua_options defaults = ACE_LUA_OPTIONS;
  if (options == nullptr) options = &defaults;
  if (options->struct_size != sizeof defaults) return nullptr;
  const bool shares = options->heap != nullptr;
  if (shares && options->limit != 0) return nullptr;

  ace_heap_config config{};
  config.struct_size = sizeof config;
  config.name = options->name != nullptr ? options->name : "lua";
  config.kind_groups = options->kinds != 0 ? kKindGroups : 0;
  // Not in the heap: a state that ends leaves nothing behind there, and anything else is a leak.
  auto *vm = static_cast<ace_lua_vm *>(calloc(1, sizeof(ace_lua_vm)));
  if (vm == nullptr) return nullptr;
  config.on_limit = near_limit;
  config.on_limit_context = vm;
  vm->shares = shares;
  vm->heap = shares ? options->heap : ace_heap_create(&config);
  if (vm->heap == nullptr) {
    free(vm);
    return nullptr;
  }
  vm->has_kinds = config.kind_groups != 0;
  update_watch(*vm);
  vm->limit = options->limit;
  vm->on_close = options->on_close;
  vm->on_close_context = options->on_close_context;
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

[[gnu::noinline]] void *allocate_watched(ace_lua_vm &vm, size_t tag, size_t size) {
  note_quiet(vm, size);
  void *block = ace_heap_alloc_kind(vm.heap, size, kind_of_tag(tag));
  if (block == nullptr) return note_failure(vm);
  if (vm.first_block == nullptr) {
    vm.first_block = block;
    vm.first_size = size;
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
  if (vm.frees == kFreesOfASweep) begin_sweep(vm);
  if (block == vm.first_block) {
    free_first_block(vm, size);
  } else {
    ace_heap_free_sized(vm.heap, block, size);
  }
  return nullptr;
}

[[gnu::noinline]] void *reallocate(ace_lua_vm &vm, void *block, size_t old_size, size_t size) {
  if (size > old_size) {
    vm.frees = 0;
    note_quiet(vm, size - old_size);
  }
  void *resized = ace_heap_realloc(vm.heap, block, size, 0);
  return resized != nullptr ? resized : note_failure(vm);
}

// The three ways of ace_lua_alloc are functions of their own, so that each saves only the registers it needs.
[[gnu::noinline]] void *allocate_new(ace_lua_vm &vm, size_t tag, size_t size) {
  vm.frees = 0;
  if (vm.watches) [[unlikely]]
    return allocate_watched(vm, tag, size);
  void *block = ace_heap_alloc(vm.heap, size);
  return block != nullptr ? block : note_failure(vm);
}

[[gnu::noinline]] void *release(ace_lua_vm &vm, void *block, size_t size) {
  if (++vm.frees == kFreesOfASweep || block == vm.first_block) [[unlikely]]
    return free_watched(vm, block, size);
  if (vm.frees > kFreesOfASweep) {
    ace_heap_free_swept(vm.heap, block, size);
  } else {
    ace_heap_free_sized(vm.heap, block, size);
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
