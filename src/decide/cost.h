// What memory costs, in nanoseconds of processor time: the one objective that every decision about it has.
// Pure functions of integers, so that a log replays to the same decisions on every machine.
#pragma once
#include <algorithm>
#include <cstdint>

namespace ace {

// What this machine takes for a MiB, as measured, and what the user pays for holding one. None is 0, and
// byte_seconds at least a MiB.
struct Prices {
  uint64_t release_ns = 120'000;              // to give a resident MiB back
  uint64_t refault_ns = 600'000;              // to take an absent one into use again
  uint64_t byte_seconds = uint64_t{1} << 30;  // what one second of processor time buys: option memory_price
  // Both, of memory that goes back as whole superslabs and comes again as huge pages; 0: as any other.
  uint64_t whole_ns = 0;
};

// a * b / c without overflow, at most UINT64_MAX.
constexpr uint64_t scaled(uint64_t a, uint64_t b, uint64_t c) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = Wide{a} * b / c;
  return product > UINT64_MAX ? UINT64_MAX : static_cast<uint64_t>(product);
}

constexpr uint64_t kMiBytes = uint64_t{1} << 20;

// Holding `bytes` for `ns` nanoseconds.
constexpr uint64_t holding_cost(const Prices &prices, uint64_t bytes, uint64_t ns) {
  return scaled(bytes, ns, prices.byte_seconds);
}
constexpr uint64_t release_cost(const Prices &prices, uint64_t bytes) {
  return scaled(bytes, prices.release_ns, kMiBytes);
}
constexpr uint64_t refault_cost(const Prices &prices, uint64_t bytes) {
  return scaled(bytes, prices.refault_ns, kMiBytes);
}

// As how many bytes of ordinary memory `slack` counts when it goes back, `whole` bytes of which are superslabs.
constexpr uint64_t priced_bytes(const Prices &prices, uint64_t slack, uint64_t whole) {
  if (prices.whole_ns == 0 || slack == 0) return slack;
  const uint64_t part = std::min(whole, slack);
  return std::max<uint64_t>(slack - part + scaled(part, prices.whole_ns, prices.release_ns + prices.refault_ns),
                            1);
}

// After so long holding `slack` has cost as much as giving it back and taking it again, which costs as much as
// `priced` bytes of ordinary memory.
constexpr uint64_t break_even_ns(const Prices &prices, uint64_t slack = 1, uint64_t priced = 1) {
  return scaled(scaled(prices.release_ns + prices.refault_ns, prices.byte_seconds, kMiBytes), priced, slack);
}

}  // namespace ace
