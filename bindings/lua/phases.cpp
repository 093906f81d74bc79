// What the collector does, as the heap is told of it.
//
// Lua tells an embedder nothing of its collections, and we change no VM. Where the VM is one whose layout we
// know (collector.cpp), its own state is looked at: at an allocation, which costs a load and a comparison, and
// when three frees have come in a row. Elsewhere two things stand in for it:
//
//   - a sentinel, a userdata that nothing refers to. Each collection finds it dead and calls its finalizer,
//     which arms it again. LuaJIT, 5.1 and 5.4 run finalizers when the sweep is over, so that this is the
//     collection's end, with its garbage freed.
//   - three frees in a row. The VMs hardly free outside a sweep (the old part of a table that grows), so that
//     this is where a sweep begins.
//
// What no finalizer will tell in time (5.2 and 5.3 run finalizers during the sweep too, and an emergency
// collection of 5.2 to 5.4 runs none) ends when the program has allocated a little without such frees.
#include "lua/vm.h"

using namespace ace::lua;

namespace {

constexpr size_t kQuietBytes = 8192;

// ---- the VM's own state

// A cycle that came and went between two looks shows only by what it leads to.
void enter(ace_lua_vm &vm, Stage stage) {
  if (stage == vm.stage) return;
  const bool goes_on = stage == Stage::kSweeps && vm.stage == Stage::kMarks;
  if (vm.stage != Stage::kRests && !goes_on) {
    ace_hint(vm.heap, ACE_HINT_COLLECT_END, 0);
    vm.told = true;
  }
  if (stage != Stage::kRests && !goes_on) ace_hint(vm.heap, ACE_HINT_COLLECT_BEGIN, 0);
  vm.stage = stage;
  if (stage != Stage::kRests) ace_hint(vm.heap, stage == Stage::kMarks ? ACE_HINT_MARK : ACE_HINT_SWEEP, 0);
}

void forget_collector(ace_lua_vm &vm) {
  enter(vm, Stage::kRests);
  vm.layout = nullptr;
  vm.collector = &vm.no_collector;
}

void look(ace_lua_vm &vm) {
  if (*vm.collector == vm.seen) return;
  Stage stage;
  if (!stage_of(*vm.layout, vm.collector, stage)) {
    forget_collector(vm);
  } else if (vm.attached && !vm.closing) {
    enter(vm, stage);
  }
  update_watch(vm);
}

// ---- inferred

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

// The sentinel was found dead. A state that is closed by lua_close calls every finalizer, and LuaJIT calls
// those made meanwhile again, up to ten times: that is no collection.
void note_sentinel(ace_lua_vm &vm) {
  if (vm.frees == kUntouched) return;
  if (vm.layout == nullptr) {
    if (!vm.sweeping) begin_sweep(vm);
    end_collection(vm);
    // There it may be the end or not: it counts as one for now, and what follows is still the same collection.
    vm.sweeping = vm.may_be_over = vm.api.finalizes_in_sweep != 0;
    update_watch(vm);
    return;
  }
  look(vm);
  if (vm.stage == Stage::kRests && !vm.told) {
    ace_hint(vm.heap, ACE_HINT_COLLECT_BEGIN, 0);
    ace_hint(vm.heap, ACE_HINT_COLLECT_END, 0);
  }
  vm.told = false;
}

// ---- the sentinel

// So that the few small blocks of the first sentinel are there and no error can be thrown: nothing would catch
// it so early in a state's life.
void reserve_small_blocks(ace_heap *heap) {
  for (size_t size = 16; size <= 512; size += 16) ace_heap_free(heap, ace_heap_alloc(heap, size));
}

void push_block(ace_lua_vm &vm, lua_State *L, ace_lua_mark &mark) {
  void *block = vm.api.newuserdatauv != nullptr ? vm.api.newuserdatauv(L, sizeof(ace_lua_mark *), 0)
                                                : vm.api.newuserdata(L, sizeof(ace_lua_mark *));
  *static_cast<ace_lua_mark **>(block) = &mark;
  mark.block = block;
}

// LuaJIT and 5.1 finalize a userdata once. A bit in its header, which no interface tells of, says that they
// have; the type's byte tells whether this is the header that we take it for. A new userdata in place of the
// old one would do, but for the moment at which there is no memory: the sentinel would be lost, and the LuaJIT
// of Debian 12 (2.1.0-beta3) crashes where a finalizer allocates after compiled code was refused memory.
bool finalize_once_more(const ace_lua_vm &vm, void *block) {
  struct Header {  // bytes before the block
    unsigned marked, type;
    uint8_t userdata;
  };
  constexpr Header kLuaJit{40, 39, 12}, kLua51{31, 32, 7};
  constexpr uint8_t kFinalized = 8;
  if (sizeof(void *) != 8) return false;
  const Header &header = vm.api.finalizes_in_rounds != 0 ? kLuaJit : kLua51;
  auto *bytes = static_cast<uint8_t *>(block);
  uint8_t &marked = *(bytes - header.marked);
  if (*(bytes - header.type) != header.userdata || (marked & kFinalized) == 0) return false;
  marked &= static_cast<uint8_t>(~kFinalized);
  return true;
}

// LuaJIT that is refused memory for a closure's upvalues frees the closure by too small a size, which hardened
// heaps judge: what they say of a block is what was asked for.
size_t size_mask_of(const ace_lua_vm &vm) {
  constexpr size_t kAsked = 5;
  void *block = vm.api.finalizes_in_rounds != 0 ? ace_heap_alloc(vm.heap, kAsked) : nullptr;
  const bool is_hardened = block != nullptr && ace_usable_size(block) == kAsked;
  ace_heap_free(vm.heap, block);
  return is_hardened ? 0 : SIZE_MAX;
}

}  // namespace

namespace ace::lua {

void push_mark(ace_lua_vm &vm, lua_State *L, ace_lua_mark &mark) {
  mark.vm = &vm;
  push_block(vm, L, mark);
  vm.api.createtable(L, 0, 1);
  vm.api.pushcclosure(L, vm.api.gc, 0);
  vm.api.setfield(L, -2, "__gc");
  vm.api.setmetatable(L, -2);
}

void arm_mark_again(ace_lua_vm &vm, lua_State *L, ace_lua_mark &mark) {
  int userdata = 1;
  if (vm.api.version <= 501) {
    if (finalize_once_more(vm, mark.block)) return;
    push_block(vm, L, mark);
    userdata = 2;
  }
  // From 5.2 on who sets a metatable anew is finalized anew.
  vm.api.getmetatable(L, 1);
  vm.api.setmetatable(L, userdata);
}

void begin_phases(ace_lua_vm &vm) {
  vm.ends_by_quiet = vm.api.finalizes_in_sweep != 0;
  const bool is_luajit = vm.api.finalizes_in_rounds != 0;
  // Of a state that was taken over the first block is another allocator's.
  const bool is_whole = vm.former == nullptr && vm.first_block != nullptr;
  const uint8_t *collector =
      is_whole ? find_collector(vm.first_block, vm.first_size, &vm, vm.api.version, is_luajit, vm.layout)
               : nullptr;
  if (collector == nullptr) {
    vm.layout = nullptr;
  } else {
    vm.collector = collector;
  }
}

// Before the state is made its first block is still to come; a block of a kind goes to its kind's slabs; and a
// sweep whose end nobody tells is over when enough was allocated.
void update_watch(ace_lua_vm &vm) {
  const bool always = !vm.attached || vm.has_kinds || (vm.sweeping && vm.ends_by_quiet);
  vm.seen = always ? kNoState : *vm.collector;
}

void note_growth(ace_lua_vm &vm, size_t size) {
  if (vm.layout != nullptr) {
    look(vm);
  } else if (vm.sweeping && vm.ends_by_quiet) {
    vm.quiet_bytes += size;
    if (vm.quiet_bytes > kQuietBytes) end_collection(vm);
  }
}

void note_frees(ace_lua_vm &vm) {
  if (vm.layout != nullptr) {
    look(vm);
    // It may begin yet: 5.4 frees a little when it marks.
    if (vm.stage != Stage::kSweeps) vm.frees = 0;
  } else {
    begin_sweep(vm);
  }
}

void note_failure(ace_lua_vm &vm) {
  if (vm.layout != nullptr) return;
  vm.ends_by_quiet = true;
  vm.quiet_bytes = 0;
  update_watch(vm);
}

void end_phases(ace_lua_vm &vm) {
  if (vm.stage != Stage::kRests || vm.sweeping) ace_hint(vm.heap, ACE_HINT_COLLECT_END, 0);
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
  note_sentinel(*vm);
  // An error here would come out of the program's own code, at any place, and leave no sentinel behind: where
  // it takes a few bytes they are exempt from the limit.
  const size_t limit = ace_heap_set_limit(vm->heap, 0);
  arm_mark_again(*vm, L, vm->sentinel);
  ace_heap_set_limit(vm->heap, limit);
  after_collection(*vm);
  vm->frees = kUntouched;
  return 0;
}

void ace_lua_attach(ace_lua_vm *vm, lua_State *L, const ace_lua_api *api) {
  vm->api = *api;
  vm->state = L;
  begin_phases(*vm);
  reserve_small_blocks(vm->heap);
  anchor_end(*vm, L);
  push_mark(*vm, L, vm->sentinel);
  api->settop(L, -2);
  vm->size_mask = size_mask_of(*vm);
  learn_how_it_stops(*vm);
  vm->attached = true;
  update_watch(*vm);
  arm_limit(*vm);
}

}  // extern "C"
