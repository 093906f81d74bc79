// The loop of modes observe and learn beside its heap: what it sees there, and where it writes.
#pragma once
#include "decide/loop.h"
#include "heap/heap.h"

namespace ace {

// What the loop decides at an occasion. In mode observe nobody follows it, but it is logged as if. False where
// there is no memory for a loop, or the heap never held 16 MiB at an occasion. The holder's.
bool step_loop(Heap &heap, Occasion occasion, bool may_defer, uint64_t now, LoopStep &step);

// The heap ends: what it learned stays for the playbook. The holder's.
void end_loop(Heap &heap);

// A decision of a loop: to hold the memory that fell free, or to give it back.
struct Decision {
  uint64_t at;
  uint64_t slack;  // bytes that had fallen free
  uint64_t delay;  // kLater: so long nothing must have been needed
  uint16_t context;
  TrimAction action;  // kNothing: it is held until it is needed
};
inline constexpr unsigned kRecentDecisions = 4;
struct Decisions {
  uint64_t count;
  Decision recent[kRecentDecisions];  // by count % kRecentDecisions
};

// What the heap's loop has decided; none where it has no loop. Any thread.
Decisions decisions_of(const Heap &heap);

// What it has learned so far; nullptr where it has no loop. Under lock_playbook.
const Learner *learner_of(const Heap &heap);

// What a MiB costs here, measured when it is first asked for, at the user's present price.
Prices prices();

// What the next loop of the process will be called in the log.
unsigned next_loop_id();

}  // namespace ace
