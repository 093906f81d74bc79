// LuaJIT and Lua 5.1 do not collect before they fail: at its limit a state would get "not enough memory" while
// it is full of garbage. For them the heap's limit lies below the one that was asked for. Who reaches it gets
// the rest, and the collector is told to do a whole cycle at its next step, which the VM takes where that is
// safe.
//
// A collector that the program has stopped stays so. 5.1 has no function that tells, so we look at how it is
// done: `collectgarbage "stop"` sets a threshold beyond all memory, and that word lies in the state's own
// block.
#include <stdlib.h>
#include <string.h>

#include "lua/vm.h"

namespace ace::lua {
namespace {

// The same numbers in LuaJIT and 5.1.
enum : int { kStop = 0, kRestart = 1, kSetStepMultiplier = 7 };
constexpr int kUnbounded = 0;  // a step with this multiplier ends with the cycle

// What a VM may take beyond, between our word to its collector and the step that hears it.
constexpr size_t kReserveShare = 4;
// With less than this to go it is not worth a cycle.
constexpr size_t kReserveMin = size_t{64} << 10;

bool collects_late(const ace_lua_vm &vm) { return vm.stopped != nullptr; }
bool is_stopped(const ace_lua_vm &vm) { return *vm.stopped == vm.stopped_value; }

}  // namespace

void learn_how_it_stops(ace_lua_vm &vm) {
  // Of a state that was taken over the block is another allocator's; and its program may have stopped it
  // already.
  if (vm.api.control == nullptr || vm.first_size == 0) return;
  const size_t words = vm.first_size / sizeof(uintptr_t);
  auto *state = static_cast<uintptr_t *>(vm.first_block);
  auto *running = static_cast<uintptr_t *>(malloc(3 * words * sizeof(uintptr_t)));
  if (running == nullptr) return;
  uintptr_t *stopped = running + words, *again = stopped + words;
  const auto copy_to = [&](uintptr_t *copy) { memcpy(copy, state, words * sizeof(uintptr_t)); };
  copy_to(running);
  vm.api.control(vm.state, kStop, 0);
  copy_to(stopped);
  vm.api.control(vm.state, kRestart, 0);
  copy_to(again);
  size_t found = 0, word = 0;
  for (size_t i = 0; i < words; ++i) {
    if (stopped[i] == running[i] || stopped[i] == again[i]) continue;
    ++found;
    word = i;
  }
  if (found == 1) {  // else it is none of the VMs that we know
    vm.stopped = &state[word];
    vm.stopped_value = stopped[word];
    state[word] = running[word];  // when it would have collected next
  }
  free(running);
}

void arm_limit(ace_lua_vm &vm) {
  if (vm.shares) return;
  size_t soft = vm.limit;
  if (collects_late(vm) && vm.limit != 0) {
    ace_stats stats;
    ace_heap_stats(vm.heap, &stats, sizeof stats);
    const size_t left = vm.limit > stats.resident_bytes ? vm.limit - stats.resident_bytes : 0;
    // A state that is full of live data comes closer step by step.
    const size_t reserve = left / 2 < vm.limit / kReserveShare ? left / 2 : vm.limit / kReserveShare;
    if (reserve >= kReserveMin) soft -= reserve;
  }
  ace_heap_set_limit(vm.heap, soft);
  vm.armed = soft;
}

int near_limit(ace_heap *heap, size_t, void *context) {
  auto &vm = *static_cast<ace_lua_vm *>(context);
  if (!vm.attached || vm.closing || !collects_late(vm)) return 0;
  const size_t present = ace_heap_set_limit(heap, vm.limit);
  if (present != vm.armed) {
    ace_heap_set_limit(heap, present);  // the host's own
    return 0;
  }
  const bool has_reserve = present != vm.limit;
  vm.armed = vm.limit;
  if (!vm.urged && !is_stopped(vm)) {
    vm.urged = true;
    vm.step_multiplier = vm.api.control(vm.state, kSetStepMultiplier, kUnbounded);
    vm.api.control(vm.state, kRestart, 0);
  }
  return has_reserve;
}

void after_collection(ace_lua_vm &vm) {
  if (!collects_late(vm) || vm.limit == 0) return;
  if (vm.urged) {
    vm.urged = false;
    const int present = vm.api.control(vm.state, kSetStepMultiplier, vm.step_multiplier);
    // The program may have set another since.
    if (present != kUnbounded) vm.api.control(vm.state, kSetStepMultiplier, present);
    ace_trim(vm.heap, SIZE_MAX);  // so that what is resident tells what is live
  }
  arm_limit(vm);
}

}  // namespace ace::lua

extern "C" size_t ace_lua_vm_set_limit(ace_lua_vm *vm, size_t limit) noexcept {
  if (vm->shares) return 0;
  const size_t former = vm->limit;
  vm->limit = limit;
  if (vm->attached) ace::lua::arm_limit(*vm);
  return former;
}
