// aligned: random replacement of blocks with alignments from 16 to 4096.
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
[[gnu::always_inline]] inline uint64_t put(const Api &api, Slot &slot, Random &random) {
  const size_t alignment = size_t{16} << random.below(9);
  const uint32_t size = random.between(16, 2048);
  slot = {checked(api.allocate_aligned(alignment, size)), size};
  fill(slot.p, size);
  return reinterpret_cast<uintptr_t>(slot.p) & (alignment - 1);
}

template <class Api>
[[gnu::noinline]] void replace(const Api api, State &state, uint64_t ops) {
  Slot *const slots = state.slots;
  const uint32_t length = state.length;
  Random random = state.random;
  uint64_t bytes = 0, freed = 0, bad = 0;
  for (uint64_t i = 0; i < ops; ++i) {
    Slot &slot = slots[random.below(length)];
    bad |= damage(slot.p, slot.size);
    freed += slot.size;
    api.release(slot.p, slot.size);
    bad |= put(api, slot, random);
    bytes += slot.size;
  }
  state.random = random;
  state.bytes += bytes;
  state.live += bytes - freed;
  state.bad |= bad;
}

void aligned(Run &run) {
  const uint64_t ops = run.number(1);
  const auto length = static_cast<uint32_t>(run.number(0));
  OwnArray<Slot> slots(length);
  State state{.slots = slots.data(), .length = length, .random = Random(run.number(2))};
  run.allocator().with_api([&](const auto &api) {
    for (uint32_t i = 0; i < length; ++i) {
      state.bad |= put(api, slots.data()[i], state.random);
      state.live += slots.data()[i].size;
    }
    replace(api, state, ops / 20);
    state.bytes = 0;
    run.start();
    replace(api, state, ops);
    run.stop({.ops = 2 * ops, .bytes = state.bytes, .live = state.live});
    for (uint32_t i = 0; i < length; ++i) {
      state.bad |= damage(slots.data()[i].p, slots.data()[i].size);
      api.release(slots.data()[i].p, slots.data()[i].size);
    }
    Run::verify(state.bad);
  });
}

}  // namespace

const Workload kAligned = {
    .name = "aligned",
    .meaning = "as churn, with alignments from 16 to 4096 and sizes from 16 to 2048",
    .parameters = {{"LIVE", "10000", 1, 100'000'000}, {"OPS", "2000000", 1, 100'000'000'000}, {"SEED", "42"}},
    .run = aligned};

}  // namespace micro
