// Random lists of operations, replayed against a heap and a shadow model that knows every block and its
// contents. Any sublist of a list is a list too: what makes no sense at its turn is passed over.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ace::test {

// Blocks are named by slots. `slot`, `a` and `b` mean:
struct Op {
  enum Kind : uint8_t {
    kAlloc,          // slot; a: size, b: kind
    kCalloc,         // the same
    kAligned,        // slot; a: size, b: log2 of the alignment
    kRealloc,        // slot; a: size, b: kind
    kFree,           // slot
    kFreeSized,      // slot
    kFreeElsewhere,  // from slot, a slots: by another thread
    kFill,           // from slot, a slots: allocates size b in each
    kFreeMost,       // from slot, a slots: all but one in b
    kFreeTwice,      // a: size; a block of its own, whose second free must be reported
    kHint,           // slot: the hint, a: its value
    kTrim,           // a: budget
    kTrimShared,     // a: budget
    kLimit,          // a: bytes, 0: none
    kAdvance,        // a: milliseconds
    kFailOs,         // slot: which call (OsCall), a: the how manieth from now, b: how many more
    kDestroy,        // the heap with all its blocks; a new one follows
    kOverwrite,      // slot: a byte changes; for tests of the model itself
  };
  Kind kind;
  uint32_t slot;
  uint64_t a, b;
  bool operator==(const Op &) const = default;
};
using Ops = std::vector<Op>;

inline constexpr unsigned kSlots = 2048;

// What a run begins with, and may do.
struct Setup {
  uint32_t kind_groups = 1;
  bool fails = false;  // the system's calls fail now and then
  // Beside what the list says: that one of all the system's calls fails (0: none), or each with a probability.
  uint64_t failing_call = 0;
  unsigned failing_permille = 0;
  uint64_t failing_seed = 0;
  bool hardened = false;  // so it is as well by the option
};

// What a replay asked of the system.
struct Asked {
  uint64_t calls = 0, failed = 0;
};

// A list of `length` operations; the same for the same seed.
Ops make_ops(uint64_t seed, const Setup &setup, unsigned length);

// Replays the list in this process. "" where the heap did what the model expects, every invariant held after
// each step and at the end nothing is mapped but what the pool keeps; otherwise the first step that went wrong,
// and what.
std::string replay(const Setup &setup, const Ops &ops, Asked *asked = nullptr);

// The same in a process of its own: a crash or a hang is a failure like any other.
std::string replay_in_child(const Setup &setup, const Ops &ops);

// The shortest list found from which `fails` still says true, by leaving out ever smaller parts.
template <typename Fails>
Ops shrink(Ops ops, Fails fails) {
  for (size_t part = ops.size() / 2; part >= 1;) {
    bool shorter = false;
    for (size_t from = 0; from < ops.size();) {
      Ops rest(ops.begin(), ops.begin() + static_cast<ptrdiff_t>(from));
      if (from + part < ops.size())
        rest.insert(rest.end(), ops.begin() + static_cast<ptrdiff_t>(from + part), ops.end());
      if (fails(rest)) {
        ops = rest;
        shorter = true;
      } else {
        from += part;
      }
    }
    if (part == 1 && !shorter) break;
    if (part > 1) part /= 2;
  }
  return ops;
}

// The list as a test, to be pasted into model_test.cpp.
std::string as_test(const Setup &setup, const Ops &ops, const std::string &problem);

}  // namespace ace::test
