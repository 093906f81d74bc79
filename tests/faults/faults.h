// What the fault tests share: how many faults a run injects, and who counts them.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace ace::test {

// Injected faults that each suite goes on for: ACE_FAULTS, else few enough for every day.
inline uint64_t faults_wanted(uint64_t by_default) {
  const char *given = getenv("ACE_FAULTS");
  return given != nullptr ? strtoull(given, nullptr, 10) : by_default;
}

// scripts/faults adds these lines up.
inline void tell_faults(const char *suite, uint64_t faults, uint64_t rounds) {
  printf("FAULTS %s %llu in %llu rounds\n", suite, static_cast<unsigned long long>(faults),
         static_cast<unsigned long long>(rounds));
}

}  // namespace ace::test
