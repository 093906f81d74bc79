// realloc-growth: buffers that grow to a maximum by realloc, side by side; in the first half of the rounds they
// double, in the second they grow by an eighth.
#include "pattern.h"
#include "workload.h"

namespace micro {
namespace {

struct State {
  unsigned char **buffers;
  size_t count, most;
  uint64_t ops = 0, bytes = 0, bad = 0;
};

// Where a buffer moves, its contents cannot say where it is: they say which buffer it is.
[[gnu::always_inline]] inline uint64_t word_of_buffer(size_t i) { return (i + 1) * 0x9E3779B97F4A7C15u; }

// The new part is touched once a page, as a host that fills it would, and at its end.
[[gnu::always_inline]] inline void touch(unsigned char *p, size_t from, size_t to, size_t i) {
  for (size_t at = from; at < to; at += 4096) p[at] = 1;
  p[to - 1] = static_cast<unsigned char>(i);
  const uint64_t word = word_of_buffer(i);
  memcpy(p, &word, sizeof word);
}

[[gnu::always_inline]] inline uint64_t damage_of_buffer(const unsigned char *p, size_t size, size_t i) {
  return (first_word(p) ^ word_of_buffer(i)) | (p[size - 1] ^ static_cast<unsigned char>(i));
}

template <class Api>
[[gnu::noinline]] void round(const Api api, State &state, bool doubling) {
  unsigned char **const buffers = state.buffers;
  const size_t count = state.count, most = state.most;
  uint64_t ops = 2 * count, bytes = 0, bad = 0;
  size_t size = 16;
  for (size_t i = 0; i < count; ++i) {
    buffers[i] = static_cast<unsigned char *>(checked(api.allocate(size)));
    touch(buffers[i], 0, size, i);
    bytes += size;
  }
  while (size < most) {
    size_t larger = doubling ? size * 2 : size + size / 8;
    if (larger > most) larger = most;
    for (size_t i = 0; i < count; ++i) {
      auto *p = static_cast<unsigned char *>(checked(api.resize(buffers[i], larger)));
      bad |= damage_of_buffer(p, size, i);
      touch(p, size, larger, i);
      buffers[i] = p;
    }
    ops += count;
    bytes += count * larger;
    size = larger;
  }
  for (size_t i = 0; i < count; ++i) {
    bad |= damage_of_buffer(buffers[i], size, i);
    api.release(buffers[i], size);
  }
  state.ops += ops;
  state.bytes += bytes;
  state.bad |= bad;
}

void realloc_growth(Run &run) {
  const uint64_t rounds = run.number(2);
  OwnArray<unsigned char *> buffers(run.number(0));
  State state{.buffers = buffers.data(), .count = run.number(0), .most = run.number(1)};
  run.allocator().with_api([&](const auto &api) {
    round(api, state, true);
    state.ops = state.bytes = 0;
    run.start();
    for (uint64_t i = 0; i < rounds; ++i) round(api, state, i < (rounds + 1) / 2);
    run.stop({.ops = state.ops, .bytes = state.bytes});
    Run::verify(state.bad);
  });
}

}  // namespace

const Workload kReallocGrowth = {
    .name = "realloc-growth",
    .meaning = "BUFFERS grow from 16 to MAX bytes by realloc, doubling, later by an eighth, ROUNDS times",
    .parameters = {{"BUFFERS", "64", 1, 1'000'000},
                   {"MAX", "1048576", 16, 1u << 30},
                   {"ROUNDS", "20", 1, 1'000'000}},
    .run = realloc_growth};

}  // namespace micro
