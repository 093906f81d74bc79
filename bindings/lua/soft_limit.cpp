// LuaJIT and Lua 5.1 do not collect before they fail: at its limit a state would get "not enough memory" while
// it is full of garbage. For them the heap's limit lies below the one that was asked for. Who reaches it gets
// the rest, and the collector is told to do a whole cycle at its next step, which the VM takes where that is
// safe.
//
// A limit that is lowered may lie below what the state holds already, garbage included. It counts from the end
// of the next whole cycle on.
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

bool is_collecting(const ace_lua_vm &vm) {
  Stage stage;
  return vm.layout != nullptr && stage_of(*vm.layout, vm.collector, stage) && stage != Stage::kRests;
}

// Has the collector do a whole cycle at its next step.
void urge(ace_lua_vm &vm) {
  vm.urged = true;
  vm.urged_midway = is_collecting(vm);
  vm.step_multiplier = vm.api.control(vm.state, kSetStepMultiplier, kUnbounded);
  vm.api.control(vm.state, kRestart, 0);
}

void give(ace_lua_vm &vm, size_t limit) {
  ace_heap_set_limit(vm.heap, limit);
  vm.armed = limit;
}

size_t reserve_beside(const ace_lua_vm &vm, size_t used) {
  const size_t left = vm.cap > used ? vm.cap - used : 0;
  // A state that is full of live data comes closer step by step.
  return left / 2 < vm.cap / kReserveShare ? left / 2 : vm.cap / kReserveShare;
}

// Gives the heap the cap less the reserve, where there is one of at least `least` bytes. Returns what is
// resident.
size_t arm(ace_lua_vm &vm, size_t least) {
  ace_stats stats;
  ace_heap_stats(vm.heap, &stats, sizeof stats);
  size_t reserve = reserve_beside(vm, stats.resident_bytes);
  // Free blocks count as resident. Who needs another page has filled them, with garbage perhaps.
  if (reserve < least) reserve = reserve_beside(vm, stats.live_bytes);
  give(vm, reserve < least ? vm.cap : vm.cap - reserve);
  return stats.resident_bytes;
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
    vm.stopped = &state[word];
    vm.stopped_value = stopped[word];
    state[word] = running[word];  // when it would have collected next
  }
  free(running);
}

void arm_limit(ace_lua_vm &vm) {
  if (vm.shares) return;
  vm.cap = vm.limit;
  if (!collects_late(vm) || vm.limit == 0) return give(vm, vm.limit);
  const auto is_tight = [&] { return arm(vm, kReserveMin) + 2 * kReserveMin > vm.limit; };
  if (!is_tight() || is_stopped(vm)) return;
  ace_trim(vm.heap, SIZE_MAX);
  if (!is_tight()) return;
  // The new limit lies within what the state holds, garbage included. A collection here would call finalizers,
  // and throw their errors, where nothing need catch them: the next step does it, and has to be reached.
  ace_stats stats;
  ace_heap_stats(vm.heap, &stats, sizeof stats);
  if (stats.resident_bytes > vm.limit) vm.cap = stats.resident_bytes + kReserveMin;
  if (!vm.urged) urge(vm);
  give(vm, vm.cap);
}

int near_limit(ace_heap *heap, size_t, void *context) {
  auto &vm = *static_cast<ace_lua_vm *>(context);
  if (!vm.attached || vm.closing || !collects_late(vm)) return 0;
  const size_t present = ace_heap_set_limit(heap, vm.cap);
  if (present != vm.armed) {
    ace_heap_set_limit(heap, present);  // the host's own
    return 0;
  }
  vm.armed = vm.cap;
  if (!vm.urged && !is_stopped(vm)) urge(vm);
  return present < vm.cap;
}

void after_collection(ace_lua_vm &vm) {
  if (!collects_late(vm) || vm.limit == 0) return;
  // A cycle that had begun before we asked for it leaves what died since: there is to be another one, however
  // little is left.
  const bool again = vm.urged && vm.urged_midway;
  if (!again) vm.cap = vm.limit;
  if (vm.urged) {
    vm.urged = false;
    const int present = vm.api.control(vm.state, kSetStepMultiplier, vm.step_multiplier);
    // The program may have set another since.
    if (present != kUnbounded) vm.api.control(vm.state, kSetStepMultiplier, present);
    ace_trim(vm.heap, SIZE_MAX);  // so that what is resident tells what is live
  }
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
