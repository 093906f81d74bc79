// A state ends by calling its finalizers and then freeing every block; the second takes nearly all of the time,
// and is for nothing where the heap goes with the state. So we leave lua_close between the two: the userdata
// that was made first is finalized last, and its finalizer jumps out.
//
// LuaJIT calls finalizers in rounds, each for what the one before has made, the newest first. There the mark is
// made anew in each round, and from the second on a round begins with it: the last is over where the mark finds
// that nothing was allocated since the mark of the round before.
#include "lua/vm.h"

using namespace ace::lua;

namespace ace::lua {

void anchor_end(ace_lua_vm &vm, lua_State *L) {
  push_mark(vm, L, vm.end);
  vm.api.setfield(L, vm.api.registry_index, "ACE-Alloc");
}

void reach_end(ace_lua_vm &vm, lua_State *L) {
  const bool was_closing = vm.closing;
  vm.closing = true;  // where the host called lua_close itself that was not known before
  if (!was_closing || !vm.jumps) return;
  vm.calm_rounds = vm.frees == kUntouched ? vm.calm_rounds + 1 : 0;
  if (!vm.api.finalizes_in_rounds || vm.calm_rounds == 2) _longjmp(vm.out, 1);
  arm_mark_again(vm, L, vm.end);
  vm.frees = kUntouched;
}

}  // namespace ace::lua

extern "C" void ace_lua_vm_close(ace_lua_vm *vm, lua_State *L, void (*lua_close)(lua_State *)) {
  if (vm->shares) {
    vm->closing = true;
    lua_close(L);
    return;
  }
  // Its machine code does not lie in the heap.
  if (vm->api.setmode != nullptr) vm->api.setmode(L, 0, ACE_LUA_JIT_FLUSH);
  vm->closing = vm->jumps = true;
  vm->frees = 0;
  if (_setjmp(vm->out) == 0) {
    // Comes back by itself where the program took our mark away; the heap has ended then.
    lua_close(L);
    return;
  }
  end_heap(*vm);
}
