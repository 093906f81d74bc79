// Numbers out of the fuzzer's bytes; zeros where they are used up.
#pragma once
#include <cstddef>
#include <cstdint>

namespace ace::test {

class Bytes {
 public:
  Bytes(const uint8_t *data, size_t size) : at_(data), end_(data + size) {}
  bool is_over() const { return at_ == end_; }
  unsigned byte() { return is_over() ? 0 : *at_++; }
  unsigned word() {
    const unsigned low = byte();
    return low | byte() << 8;
  }
  const uint8_t *rest() const { return at_; }
  size_t left() const { return static_cast<size_t>(end_ - at_); }

 private:
  const uint8_t *at_, *end_;
};

}  // namespace ace::test
