// Rounding and powers of two.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>

namespace ace {

constexpr bool is_power_of_two(size_t n) { return std::has_single_bit(n); }

// `unit` is a power of two; the caller has made sure that nothing overflows.
constexpr size_t round_up(size_t n, size_t unit) { return (n + unit - 1) & ~(unit - 1); }
constexpr size_t round_down(size_t n, size_t unit) { return n & ~(unit - 1); }

inline uintptr_t address_of(const void *p) { return reinterpret_cast<uintptr_t>(p); }

// The low `n` bits set; n from 0 to 64.
constexpr uint64_t low_bits(unsigned n) { return n >= 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1; }

}  // namespace ace
