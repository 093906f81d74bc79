// churn: a fixed number of live blocks, of which a random one is replaced again and again.
#include "pattern.h"
#include "random.h"
#include "workload.h"

namespace micro {
namespace {

struct State {
  Slot *slots;
  uint32_t length, least, most;
  Random random;
  uint64_t bytes = 0, live = 0, bad = 0;
};

// Sixteen bytes: where, how large and whose, and the same upside down.
[[gnu::always_inline]] inline void write_both(void *p, uint64_t size, uint64_t slot) {
  const uint64_t word = word_of(p, size) ^ slot << 20;
  const uint64_t words[2] = {word, ~word};
  memcpy(p, words, sizeof words);
}

[[gnu::always_inline]] inline uint64_t damage_of_both(const void *p, uint64_t size, uint64_t slot) {
  const uint64_t word = word_of(p, size) ^ slot << 20;
  uint64_t words[2];
  memcpy(words, p, sizeof words);
  return (words[0] ^ word) | (words[1] ^ ~word);
}

template <class Api>
[[gnu::noinline]] void replace(const Api api, State &state, uint64_t ops) {
  Slot *const slots = state.slots;
  const uint32_t length = state.length, least = state.least, most = state.most;
  Random random = state.random;
  uint64_t bytes = 0, freed = 0, bad = 0;
  for (uint64_t i = 0; i < ops; ++i) {
    const uint32_t index = random.below(length);
    Slot &slot = slots[index];
    bad |= damage_of_both(slot.p, slot.size, index);
    freed += slot.size;
    api.release(slot.p, slot.size);
    const uint32_t size = random.between(least, most);
    slot = {checked(api.allocate(size)), size};
    write_both(slot.p, size, index);
    bytes += size;
  }
  state.random = random;
  state.bytes += bytes;
  state.live += bytes - freed;
  state.bad |= bad;
}

void churn(Run &run) {
  const uint64_t ops = run.number(1);
  const auto length = static_cast<uint32_t>(run.number(0));
  const auto least = static_cast<uint32_t>(run.number(2)), most = static_cast<uint32_t>(run.number(3));
  if (least > most) throw UsageError("churn: SIZE_MIN is above SIZE_MAX");
  OwnArray<Slot> slots(length);
  State state{
      .slots = slots.data(), .length = length, .least = least, .most = most, .random = Random(run.number(4))};
  run.allocator().with_api([&](const auto &api) {
    for (uint32_t i = 0; i < length; ++i) {
      const uint32_t size = state.random.between(least, most);
      slots.data()[i] = {checked(api.allocate(size)), size};
      write_both(slots.data()[i].p, size, i);
      state.live += size;
    }
    replace(api, state, ops / 20);
    state.bytes = 0;
    run.start();
    replace(api, state, ops);
    run.stop({.ops = 2 * ops, .bytes = state.bytes, .live = state.live});
    for (uint32_t i = 0; i < length; ++i) {
      state.bad |= damage_of_both(slots.data()[i].p, slots.data()[i].size, i);
      api.release(slots.data()[i].p, slots.data()[i].size);
    }
    Run::verify(state.bad);
  });
}

}  // namespace

const Workload kChurn = {
    .name = "churn",
    .meaning = "LIVE blocks, of which a random one is freed and another allocated, OPS times (two calls each)",
    .parameters = {{"LIVE", "100000", 1, 1'000'000'000},
                   {"OPS", "10000000", 1, 100'000'000'000},
                   {"SIZE_MIN", "16", 16, 1 << 20},
                   {"SIZE_MAX", "128", 16, 1 << 20},
                   {"SEED", "42"}},
    .run = churn};

}  // namespace micro
