// mid-mt: two threads, each with a working set of tiny blocks and blocks of 8 to 32 KiB; half of the blocks are
// freed by the other thread.
#include <thread>

#include "pattern.h"
#include "random.h"
#include "threads.h"
#include "workload.h"

namespace micro {
namespace {

struct Worker {
  Worker(uint32_t working_set, uint64_t seed) : slots(working_set), length(working_set), random(seed) {}

  OwnArray<Slot> slots;
  uint32_t length;
  Random random;
  Ring incoming{256};  // blocks that the other thread allocated
  std::atomic<bool> done{false};
  uint64_t allocated = 0, freed = 0, bad = 0;
};

void drop(const PlainApi &api, Worker &self, void *p, uint64_t size) {
  self.bad |= damage(p, size);
  self.freed += size;
  api.release(p, size);
}

void drop_incoming(const PlainApi &api, Worker &self) {
  if (void *p = self.incoming.pop()) {
    const uint64_t size = size_in(p);
    if (size > 32 * 1024) {
      self.bad = 1;  // and leaks: the size cannot be used
    } else {
      drop(api, self, p, size);
    }
  }
}

// Waits where the other thread lags behind, so that half of the frees stay remote; false if it has ended.
bool pass_on(const PlainApi &api, Worker &self, Worker &other, void *p) {
  Patience patience;
  while (!other.incoming.push(p)) {
    if (other.done) return false;
    drop_incoming(api, self);
    patience.wait();
  }
  return true;
}

[[gnu::noinline]] void pass(const PlainApi api, Worker &self, Worker &other, uint64_t cycles) {
  Random random = self.random;
  self.done = false;
  for (uint64_t i = 0; i < cycles; ++i) {
    drop_incoming(api, self);
    const uint64_t coins = random.next() >> 32;
    Slot &slot = self.slots.data()[random.below(self.length)];
    if (slot.p == nullptr) {
      const uint32_t size = coins & 1 ? random.between(8 * 1024, 32 * 1024) : random.between(16, 1024);
      slot = {checked(api.allocate(size)), size};
      fill_pages(slot.p, size);
      self.allocated += size;
    } else {
      if (!(coins & 1) || !pass_on(api, self, other, slot.p)) drop(api, self, slot.p, slot.size);
      slot.p = nullptr;
    }
  }
  self.random = random;
  self.done = true;
}

void clear(const PlainApi &api, Worker &self) {
  for (uint32_t i = 0; i < self.length; ++i) {
    Slot &slot = self.slots.data()[i];
    if (slot.p != nullptr) drop(api, self, slot.p, slot.size);
  }
  for (uint64_t before = ~self.freed; before != self.freed;) {
    before = self.freed;
    drop_incoming(api, self);
  }
}

void mid_mt(Run &run) {
  const uint64_t cycles = run.number(0);
  const auto length = static_cast<uint32_t>(run.number(1));
  const uint64_t seed = run.number(2);
  const PlainApi api = run.allocator().plain();
  Worker first(length, seed), second(length, seed + 1);
  std::barrier together(3);

  const auto work = [&](unsigned index, Worker &self, Worker &other) {
    pin(index);
    pass(api, self, other, cycles / 20);
    together.arrive_and_wait();
    together.arrive_and_wait();  // meanwhile the clock is started
    pass(api, self, other, cycles);
    together.arrive_and_wait();
    together.arrive_and_wait();  // meanwhile memory is looked at
    clear(api, self);
  };
  std::thread a(work, 0, std::ref(first), std::ref(second));
  std::thread b(work, 1, std::ref(second), std::ref(first));
  together.arrive_and_wait();
  const uint64_t before = first.allocated + second.allocated;
  run.start();
  together.arrive_and_wait();
  together.arrive_and_wait();
  const uint64_t after = first.allocated + second.allocated;
  run.stop({.ops = 2 * cycles, .bytes = after - before, .live = after - first.freed - second.freed});
  together.arrive_and_wait();
  a.join();
  b.join();
  Run::verify(first.bad | second.bad | (first.allocated + second.allocated - first.freed - second.freed));
}

}  // namespace

const Workload kMidMt = {
    .name = "mid-mt",
    .meaning =
        "2 threads, each as random-mixed, half of the blocks 8 to 32 KiB, half freed by the other thread",
    .parameters = {{"CYCLES", "200000", 1, 100'000'000'000}, {"WS", "400", 1, 10'000'000}, {"SEED", "42"}},
    .run = mid_mt,
    .plain_only = true};

}  // namespace micro
