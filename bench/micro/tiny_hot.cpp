// tiny-hot: a batch of blocks of one size is allocated, touched and freed, again and again.
#include "pattern.h"
#include "workload.h"

namespace micro {
namespace {

enum class Order { kLifo, kFifo, kAlternate };

template <class Api>
[[gnu::noinline]] uint64_t pass(const Api api, void **blocks, size_t size, size_t batch, uint64_t cycles,
                                Order order) {
  uint64_t bad = 0;
  for (uint64_t cycle = 0; cycle < cycles; ++cycle) {
    for (size_t i = 0; i < batch; ++i) {
      void *p = checked(api.allocate(size));
      const uint64_t word = word_of(p, cycle + i);
      memcpy(p, &word, sizeof word);
      blocks[i] = p;
    }
    if (order == Order::kFifo || (order == Order::kAlternate && cycle % 2 == 0)) {
      for (size_t i = 0; i < batch; ++i) {
        bad |= first_word(blocks[i]) ^ word_of(blocks[i], cycle + i);
        api.release(blocks[i], size);
      }
    } else {
      for (size_t i = batch; i-- > 0;) {
        bad |= first_word(blocks[i]) ^ word_of(blocks[i], cycle + i);
        api.release(blocks[i], size);
      }
    }
  }
  return bad;
}

void tiny_hot(Run &run) {
  const size_t size = run.number(0), batch = run.number(1);
  const uint64_t cycles = run.number(2);
  const Order order = run.word(3) == "lifo"   ? Order::kLifo
                      : run.word(3) == "fifo" ? Order::kFifo
                                              : Order::kAlternate;
  OwnArray<void *> blocks(batch);
  run.allocator().with_api([&](const auto &api) {
    uint64_t bad = pass(api, blocks.data(), size, batch, cycles / 20 + 1, order);
    run.start();
    bad |= pass(api, blocks.data(), size, batch, cycles, order);
    run.stop({.ops = 2 * batch * cycles, .bytes = size * batch * cycles});
    Run::verify(bad);
  });
}

}  // namespace

const Workload kTinyHot = {
    .name = "tiny-hot",
    .meaning = "allocates BATCH blocks of SIZE, touches and frees them, CYCLES times; an op is a call",
    .parameters = {{"SIZE", "64", 8, 1 << 20},
                   {"BATCH", "100", 1, 10'000'000},
                   {"CYCLES", "60000", 1, 1'000'000'000},
                   {"ORDER", "lifo", 0, 0, {"lifo", "fifo", "alternate"}}},
    .run = tiny_hot};

}  // namespace micro
