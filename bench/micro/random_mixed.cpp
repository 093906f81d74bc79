// random-mixed: a small working set; each cycle fills or empties a random slot.
#include "pattern.h"
#include "random.h"
#include "workload.h"

namespace micro {
namespace {

struct State {
  Slot *slots;
  uint32_t length;
  Random random;
  uint64_t bytes = 0, live = 0, bad = 0;
};

template <class Api>
[[gnu::noinline]] void pass(const Api api, State &state, uint64_t cycles) {
  Slot *const slots = state.slots;
  const uint32_t length = state.length;
  Random random = state.random;
  uint64_t bytes = 0, freed = 0, bad = 0;
  for (uint64_t i = 0; i < cycles; ++i) {
    Slot &slot = slots[random.below(length)];
    if (slot.p == nullptr) {
      const uint32_t size = random.between(16, 1024);
      slot = {checked(api.allocate(size)), size};
      fill(slot.p, size);
      bytes += size;
    } else {
      bad |= damage(slot.p, slot.size);
      api.release(slot.p, slot.size);
      freed += slot.size;
      slot.p = nullptr;
    }
  }
  state.random = random;
  state.bytes += bytes;
  state.live += bytes - freed;
  state.bad |= bad;
}

void random_mixed(Run &run) {
  const uint64_t cycles = run.number(0);
  const auto length = static_cast<uint32_t>(run.number(1));
  OwnArray<Slot> slots(length);
  State state{.slots = slots.data(), .length = length, .random = Random(run.number(2))};
  run.allocator().with_api([&](const auto &api) {
    pass(api, state, cycles / 20);
    state.bytes = 0;
    run.start();
    pass(api, state, cycles);
    run.stop({.ops = cycles, .bytes = state.bytes, .live = state.live});
    for (uint32_t i = 0; i < length; ++i) {
      if (slots.data()[i].p == nullptr) continue;
      state.bad |= damage(slots.data()[i].p, slots.data()[i].size);
      api.release(slots.data()[i].p, slots.data()[i].size);
    }
    Run::verify(state.bad);
  });
}

}  // namespace

const Workload kRandomMixed = {
    .name = "random-mixed",
    .meaning = "each of CYCLES picks one of WS slots: an empty one is filled with 16 to 1024 bytes, else freed",
    .parameters = {{"CYCLES", "2000000", 1, 100'000'000'000}, {"WS", "400", 1, 100'000'000}, {"SEED", "42"}},
    .run = random_mixed};

}  // namespace micro
