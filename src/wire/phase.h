// What the runtime is doing, as the hints tell it, and what each phase cost.
#pragma once
#include "ace/stats.h"
#include "wire/counter.h"

namespace ace {

enum class Phase : uint8_t { kRun, kMark, kSweep, kCollect, kIdle, kBurst };
inline constexpr unsigned kPhases = ACE_PHASES;
static_assert(static_cast<unsigned>(Phase::kBurst) + 1 == kPhases);
inline constexpr const char *kPhaseNames[kPhases] = {"run", "mark", "sweep", "collect", "idle", "burst"};

// Written by the holder; the numbers and the phase, any thread reads.
struct PhaseLog {
  Setting<Phase> phase;  // kRun, at first
  // Collections inside a burst return to the burst, bursts inside one another to the outermost.
  uint32_t burst_depth = 0;
  bool collection_is_partial = false;  // nor where its beginning was not announced
  Counter since;                       // when `phase` began
  uint64_t faulted_before = 0;         // the heap's counters then
  uint64_t returned_before = 0;
  Counter entries[kPhases], ns[kPhases], faulted_bytes[kPhases], returned_bytes[kPhases];
};

}  // namespace ace
