// xorshift64*: a few instructions, inline, the same sequence for every allocator.
#pragma once
#include <stdint.h>

namespace micro {

class Random {
 public:
  explicit Random(uint64_t seed) : state_((seed + 1) * 0x9E3779B97F4A7C15u | 1) {}

  [[gnu::always_inline]] uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1Du;
  }

  // Below `n`, without a division.
  [[gnu::always_inline]] uint32_t below(uint32_t n) {
    return static_cast<uint32_t>(((next() >> 32) * n) >> 32);
  }

  [[gnu::always_inline]] uint32_t between(uint32_t least, uint32_t most) {
    return least + below(most - least + 1);
  }

 private:
  uint64_t state_;
};

}  // namespace micro
