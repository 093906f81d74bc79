// remote: producers allocate, one consumer frees all their blocks.
#include <memory>
#include <thread>

#include "pattern.h"
#include "threads.h"
#include "workload.h"

namespace micro {
namespace {

[[gnu::noinline]] void produce(const PlainApi api, Ring &ring, uint64_t count, size_t size) {
  Patience patience;
  for (uint64_t i = 0; i < count; ++i) {
    void *p = checked(api.allocate(size));
    // The number tells blocks of one size apart that were handed out at the same address.
    const uint64_t word = word_of(p, i);
    memcpy(p, &word, sizeof word);
    while (!ring.push(p)) patience.wait();
    patience.reset();
  }
}

using Rings = std::vector<std::unique_ptr<Ring>>;

[[gnu::noinline]] uint64_t consume(const PlainApi api, const Rings &rings, uint64_t count, size_t size) {
  Patience patience;
  uint64_t bad = 0;
  std::vector<uint64_t> numbers(rings.size());
  while (count > 0) {
    bool found = false;
    for (size_t r = 0; r < rings.size(); ++r) {
      uint64_t number = numbers[r];
      while (void *p = rings[r]->pop()) {
        bad |= first_word(p) ^ word_of(p, number++);
        api.release(p, size);
        found = true;
      }
      count -= number - numbers[r];
      numbers[r] = number;
    }
    if (found) {
      patience.reset();
    } else {
      patience.wait();
    }
  }
  return bad;
}

void remote(Run &run) {
  const uint64_t producers = run.number(0), ops = run.number(1), warm_up = ops / 20;
  const size_t size = run.number(2);
  const PlainApi api = run.allocator().plain();
  Rings rings;
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < producers; ++i) rings.push_back(std::make_unique<Ring>(1024));
  std::barrier together(static_cast<std::ptrdiff_t>(producers) + 1);
  pin(0);
  for (unsigned i = 0; i < producers; ++i) {
    threads.emplace_back([&, i] {
      pin(i + 1);
      produce(api, *rings[i], warm_up, size);
      together.arrive_and_wait();
      together.arrive_and_wait();  // meanwhile the clock is started
      produce(api, *rings[i], ops, size);
      together.arrive_and_wait();  // a heap ends with its thread: not before memory was looked at
    });
  }
  uint64_t bad = consume(api, rings, producers * warm_up, size);
  together.arrive_and_wait();
  run.start();
  together.arrive_and_wait();
  bad |= consume(api, rings, producers * ops, size);
  run.stop({.ops = 2 * producers * ops, .bytes = producers * ops * size});
  together.arrive_and_wait();
  for (std::thread &thread : threads) thread.join();
  Run::verify(bad);
}

}  // namespace

const Workload kRemote = {
    .name = "remote",
    .meaning = "each of PRODUCERS threads allocates OPS blocks of SIZE, one consumer frees them all",
    .parameters = {{"PRODUCERS", "1", 1, 64},
                   {"OPS", "2000000", 1, 100'000'000'000},
                   {"SIZE", "64", 8, 1 << 16}},
    .run = remote,
    .plain_only = true};

}  // namespace micro
