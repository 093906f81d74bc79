// When to give memory back, learned: rent or buy with expert weights.
//
// Free memory that is held costs rent; memory given back costs the release, and the faults when it is needed
// again. An expert stands for one delay: hold until nothing was needed for so long, then give back. Once memory
// has been needed again it is known what each expert would have cost (full information), so each one's weight
// shrinks by what it lost, and a fixed share of all weight is spread anew, so that a change is followed within
// a few intervals (M. Herbster and M. Warmuth, "Tracking the best expert", 1998; for a machine that sleeps: D.
// Helmbold and others, "Adaptive disk spin-down for mobile computers", 2000). Delays are multiples of the
// break-even time, at which rent equals price: whoever pays rent for so long and then buys never pays more than
// twice the least.
//
// Pure: no clock, no heap, no globals, and integers alone.
#pragma once
#include <cstdint>

#include "decide/cost.h"

namespace ace {

// What happened when memory fell free: of which kind the next interval probably is.
enum class Occasion : uint8_t { kFull, kPartial, kIdle };
inline constexpr unsigned kOccasions = 3;
inline constexpr const char *kOccasionNames[kOccasions] = {"full", "partial", "idle"};

// How the intervals before ended on the same occasion, and how many in a row: soon, before the break-even time,
// or late. Programs have rhythms.
inline constexpr unsigned kHistories = 7;
inline constexpr const char *kHistoryNames[kHistories] = {"unknown", "soon",   "soon 2", "soon 3+",
                                                          "late",    "late 2", "late 3+"};

// The delays, in eighths of the break-even time.
inline constexpr unsigned kExperts = 8;
inline constexpr uint64_t kDelayEighths[kExperts] = {0, 1, 2, 4, 8, 12, 16, 32};

// What is learned together: a group (one occasion, and whether the heap collapsed: twice as much is free as
// lives) with one history. A context that was never seen begins with what its group has learned.
inline constexpr unsigned kGroups = kOccasions * 2;
inline constexpr unsigned kContexts = kGroups * kHistories;

struct Context {
  uint32_t weights[kExperts];  // they add up to about kOne
  bool begun;                  // the weights are its own
  uint64_t samples;            // intervals that were learned from
  uint64_t helpful, harmful;   // of these, where what was chosen cost less, or more, than the prior would have
  int64_t gained_ns;           // how much less, in all
  bool pinned;                 // by the playbook: not learned
};
inline constexpr uint32_t kOne = uint32_t{1} << 24;

// Free memory from the moment that it fell free.
struct Interval {
  uint16_t context;
  uint16_t chosen;  // the expert
  bool may_defer;   // somebody could come back later; else all delays from the break-even time on are endless
  bool forced;      // memory was short: what was chosen is not the learner's doing
  uint64_t slack;   // bytes
  uint64_t priced;  // as how many bytes it counts when it goes back (priced_bytes)
  uint64_t length;  // until half of it was needed again, or until now
  uint64_t reused;  // bytes that were needed
  // Meanwhile none of it was needed for so long at most, from so long after the beginning on.
  uint64_t quiet, before_quiet;
};

// When holding has cost what giving back and taking again would have.
inline uint64_t break_even_ns(const Prices &prices, const Interval &interval) {
  return break_even_ns(prices, interval.slack, interval.priced);
}

class Learner {
 public:
  Learner();

  // Which context the memory that falls free belongs to.
  uint16_t context_of(Occasion occasion, uint64_t slack, uint64_t live) const;

  // The expert to follow. Where nobody can come back later (`may_defer` false) it is the first or the last.
  uint16_t choose(uint16_t context, bool may_defer) const;

  // An interval is over, and so it is known what each expert would have cost.
  void learn(const Prices &prices, const Interval &interval);

  const Context &context(unsigned index) const { return contexts_[index]; }
  Context &context(unsigned index) { return contexts_[index]; }

 private:
  // Of a group, whatever its history: the weights; and what was paid of late, by what was chosen and by the
  // break-even delay, in 256ths of a purchase.
  struct Group {
    uint32_t weights[kExperts];
    uint64_t paid, paid_at_break_even;
  };

  bool is_losing(const Group &group) const;

  Context contexts_[kContexts];
  Group groups_[kGroups];
  uint8_t history_[kOccasions];
};

// The expert with which a context starts.
uint16_t prior_of(uint16_t context);

// How long an expert holds free memory that breaks even after `break_even`. Without somebody who comes back:
// not at all, or for ever (UINT64_MAX).
uint64_t delay_of(uint64_t break_even, uint16_t expert, bool may_defer);

// What a delay would have cost in an interval, and the least that anyone could have paid, in nanoseconds.
uint64_t cost_of(const Prices &prices, const Interval &interval, uint64_t delay);
uint64_t least_cost(const Prices &prices, const Interval &interval);

// "full collapsed soon", for logs and the playbook.
struct ContextName {
  char text[32];
};
ContextName name_of(uint16_t context);

}  // namespace ace
