// LuaJIT and Lua 5.1 do not collect before they fail: at its limit a state would get "not enough memory" while
// it is full of garbage. For them the heap's limit lies below the one that was asked for. Who reaches it gets a
// part of the rest, and the collector is told to do a whole cycle at its next step, which the VM takes where
// that is safe.
//
// A limit that is lowered may lie below what the state holds already, garbage included. It counts from the end
// of the next whole cycle on.
//
// A collector that the program has stopped stays so. 5.1 has no function that tells, so we look at how it is
// done: `collectgarbage "stop"` sets a threshold beyond all memory, and that word lies in the state's own
// block.
#include <stdlib.h>
#include <string.h>

#include <algorithm>

#include "lua/vm.h"

namespace ace::lua {
namespace {

// The same numbers in LuaJIT and 5.1.
enum : int { kStop = 0, kRestart = 1, kSetStepMultiplier = 7 };
constexpr int kUnbounded = 0;  // a step with this multiplier ends with the cycle

// What a VM may take beyond, between our word to its collector and the step that hears it.
constexpr size_t kReserveShare = 4;
// With less than this to go it is not worth a cycle.
constexpr size_t kReserveMin = size_t{16} << 10;
// So much may be taken beyond a limit that is less than what is held, for the step to be reached.
constexpr size_t kGrace = size_t{64} << 10;

bool collects_late(const ace_lua_vm &vm) { return vm.threshold != nullptr; }
bool is_stopped(const ace_lua_vm &vm) { return *vm.threshold == vm.stopped_threshold; }

// What it finalizes was found dead before, so that it counts as a part of the cycle here.
bool is_collecting(const ace_lua_vm &vm) { return vm.layout != nullptr && *vm.collector != 0; }

// Has the collector do a whole cycle at its next step. Again and again, where something came between: VMs put a
// former threshold back after a finalizer, and programs set a multiplier of their own.
void urge(ace_lua_vm &vm) {
  const int former = vm.api.control(vm.state, kSetStepMultiplier, kUnbounded);
  if (!vm.urged || former != kUnbounded) vm.step_multiplier = former;
  vm.urged = true;
  vm.urged_midway = is_collecting(vm);
  *vm.threshold = 0;  // `restart` would set the present size, and what is freed first would put the step off
}

void end_urge(ace_lua_vm &vm) {
  if (!vm.urged) return;
  vm.urged = false;
  const int present = vm.api.control(vm.state, kSetStepMultiplier, vm.step_multiplier);
  // The program may have set another since.
  if (present != kUnbounded) vm.api.control(vm.state, kSetStepMultiplier, present);
}

void give(ace_lua_vm &vm, size_t limit) {
  ace_heap_set_limit(vm.heap, limit);
  vm.armed = limit;
}

size_t reserve_beside(const ace_lua_vm &vm, size_t used) {
  const size_t left = vm.cap > used ? vm.cap - used : 0;
  // A state that is full of live data comes closer step by step.
  return std::min(left / 2, vm.cap / kReserveShare);
}

size_t resident_bytes(const ace_lua_vm &vm) {
  ace_stats stats;
  ace_heap_stats(vm.heap, &stats, sizeof stats);
  return stats.resident_bytes;
}

// Gives the heap the cap less the reserve, where there is one of at least `least` bytes.
void arm(ace_lua_vm &vm, size_t least) {
  ace_stats stats;
  ace_heap_stats(vm.heap, &stats, sizeof stats);
  size_t reserve = reserve_beside(vm, stats.resident_bytes);
  // Free blocks count as resident. Who needs another page has filled them, with garbage perhaps.
  if (reserve < least) reserve = reserve_beside(vm, stats.live_bytes);
  give(vm, reserve < least ? vm.cap : vm.cap - reserve);
}

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
    vm.threshold = &state[word];
    vm.stopped_threshold = stopped[word];
    state[word] = running[word];  // when it would have collected next
  }
  free(running);
}

void arm_limit(ace_lua_vm &vm) {
  if (vm.shares) return;
  vm.cap = vm.limit;
  if (!collects_late(vm)) return give(vm, vm.limit);
  if (vm.limit == 0) {
    end_urge(vm);
    return give(vm, 0);
  }
  const auto is_tight = [&] { return resident_bytes(vm) + 2 * kReserveMin > vm.limit; };
  if (is_tight() && !is_stopped(vm)) {
    ace_trim(vm.heap, SIZE_MAX);
    if (is_tight()) {
      // The new limit lies within what the state holds, garbage included. A collection here would call
      // finalizers, and throw their errors, where nothing need catch them: the next step does it, and has to be
      // reached.
      const size_t resident = resident_bytes(vm);
      if (resident > vm.limit) vm.cap = resident + kGrace;
      urge(vm);
      return give(vm, vm.cap);
    }
  }
  arm(vm, kReserveMin);
}

int near_limit(ace_heap *heap, size_t missing, void *context) {
  auto &vm = *static_cast<ace_lua_vm *>(context);
  if (!vm.attached || !collects_late(vm)) return 0;
  const size_t present = ace_heap_set_limit(heap, vm.armed);
  if (present != vm.armed) {
    ace_heap_set_limit(heap, present);  // the host's own
    return 0;
  }
  if (!vm.closing && !is_stopped(vm)) urge(vm);
  // What is too large for the rest fails, and leaves it as it is. Where the collector was not heard yet there
  // is another part of it for who comes next.
  if (missing > vm.cap - vm.armed) return 0;
  give(vm, vm.armed + missing + (vm.cap - vm.armed - missing) / 2);
  return 1;
}

void after_collection(ace_lua_vm &vm) {
  if (!collects_late(vm)) return;
  // A cycle that had begun before we asked for it leaves what died since: there is to be another one, however
  // little is left.
  const bool was_urged = vm.urged, again = vm.urged && vm.urged_midway;
  end_urge(vm);
  if (vm.limit == 0) return;
  if (was_urged) ace_trim(vm.heap, SIZE_MAX);  // so that what is resident tells what is live
  vm.cap = again ? std::max(vm.limit, std::min(vm.cap, resident_bytes(vm) + kGrace)) : vm.limit;
  arm(vm, again ? 1 : kReserveMin);
}

}  // namespace ace::lua

extern "C" size_t ace_lua_vm_set_limit(ace_lua_vm *vm, size_t limit) noexcept {
  if (vm->shares) return 0;
  const size_t former = vm->limit;
  vm->limit = limit;
  if (vm->attached) ace::lua::arm_limit(*vm);
  return former;
}
