// When to give memory back, and how much: pure functions of what was observed. No clock, no heap, no globals.
#pragma once
#include <cstddef>
#include <cstdint>

#include "ace/ace.h"
#include "wire/phase.h"

namespace ace {

// What the heap looks like when a trim may be due.
struct TrimView {
  ace_hint_code hint;
  bool full_collection;  // the collection that ends was a full one
  bool may_defer;        // a worker can trim later, and will even if the program falls silent
  uint64_t now;
  uint64_t last_collection_end;  // 0: none yet
  uint64_t idle_delay;
  uint64_t resident_bytes;
  uint64_t live_bytes;  // blocks kept for re-issue count as live
  // The last trim at a hint: when (0: none yet), what it gave back, and what was taken into use since.
  uint64_t last_trim, last_trim_bytes, faulted_since;
};

// A trim, or a collection, is recent for so many idle delays.
inline constexpr uint64_t kBusyDelays = 10;

// A collector that lets its heap double between two collections leaves about as much free as lives; a heap of
// which so many times as much is free has collapsed: next to nothing survived.
inline constexpr uint64_t kCollapse = 2;

enum class TrimAction : uint8_t { kNothing, kNow, kLater };

struct TrimDecision {
  TrimAction action;
  size_t budget;  // kNow: the most bytes to give back
  uint64_t due;   // when to decide again, 0 for not; always set for kLater
  bool recount;   // from here on taken_bytes counts anew
};

// The rule of mode `static` at a hint.
TrimDecision decide_at_hint(const TrimView &view);

// Is there so much free memory that looking for it pays?
bool is_worth_it(uint64_t slack, uint64_t live);

// What a deferred trim finds when it is due.
struct DeferredView {
  uint64_t now;
  uint64_t asked;  // when the hint came, or when taken_bytes was last counted from zero
  uint64_t idle_delay;
  uint64_t resident_bytes;
  uint64_t live_bytes;
  uint64_t taken_bytes;  // free memory that was taken into use since the hint: what the program turns over
  bool quiet;            // nothing was taken since the last look
  uint64_t delay;        // as was learned: so long nothing must have been needed; 0: the rules here say when
  uint64_t needed_last;  // when something was needed last, for that
};

TrimDecision decide_when_due(const DeferredView &view);

}  // namespace ace
