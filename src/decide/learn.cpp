#include "decide/learn.h"

#include <string.h>

#include "decide/trim.h"

namespace ace {
namespace {

// Of the weight so much is spread over all experts after each interval: 1 in 64.
constexpr unsigned kShareShift = 6;
// Losses are counted in sixteenths of a purchase; one of a whole purchase halves the weight so often.
constexpr uint64_t kLossSteps = 16, kLossMax = 4 * kLossSteps;
constexpr uint64_t kHalvings = 3;
// An expert that is nearly as good as the best is preferred when its delay is shorter.
constexpr unsigned kNearlyShift = 4;

// What a weight is multiplied with after a loss of k sixteenths of a purchase, in 16 bits: 2^(-kHalvings k /
// 16).
struct ShrinkTable {
  uint32_t factors[kLossMax + 1];
  constexpr ShrinkTable() : factors{} {
    // 2^(-1/16) * 2^32, by which each step multiplies.
    constexpr uint64_t kStep = 4112874773;
    uint64_t value = uint64_t{1} << 32;
    unsigned steps = 0;
    for (unsigned k = 0; k <= kLossMax; ++k) {
      for (; steps < kHalvings * k; ++steps) value = value * kStep >> 32;
      factors[k] = static_cast<uint32_t>(value >> 16);
    }
  }
};
constexpr ShrinkTable kShrink;

// What was paid of late fades by a sixteenth with each interval.
constexpr unsigned kFadeShift = 4;
constexpr unsigned kBreakEvenExpert = 4;
static_assert(kDelayEighths[kBreakEvenExpert] == 8);

unsigned group_of(unsigned context) { return context / kHistories; }
bool collapsed_of(unsigned context) { return group_of(context) % 2 != 0; }
Occasion occasion_of(unsigned context) { return static_cast<Occasion>(group_of(context) / 2); }

// The history after one more interval. 1 to 3: so many ended soon, in a row; 4 to 6: late.
uint8_t after(uint8_t history, bool soon) {
  const uint8_t first = soon ? 1 : 4;
  if (history < first || history > first + 2) return first;
  return std::min<uint8_t>(static_cast<uint8_t>(history + 1), first + 2);
}

void give_prior(uint32_t (&weights)[kExperts], uint16_t prior) {
  for (uint32_t &weight : weights) weight = kOne / 2 / kExperts;
  weights[prior] += kOne / 2;
}

// Each weight shrinks by what its expert lost, and a share is spread anew.
void update(uint32_t (&weights)[kExperts], const uint64_t (&losses)[kExperts]) {
  uint64_t sum = 0, shrunk[kExperts];
  for (unsigned i = 0; i < kExperts; ++i) {
    shrunk[i] = uint64_t{weights[i]} * kShrink.factors[losses[i]] >> 16;
    sum += shrunk[i];
  }
  for (unsigned i = 0; i < kExperts; ++i) {
    const auto share = static_cast<uint32_t>(sum == 0 ? kOne / kExperts : shrunk[i] * kOne / sum);
    weights[i] = share - (share >> kShareShift) + (kOne >> kShareShift) / kExperts;
  }
}

}  // namespace

// What is known beforehand: a program that says that it waits does; a heap that has collapsed rests most of the
// time; what a partial collection frees is used again soon. Half of the weight is the prior's.
uint16_t prior_of(uint16_t context) {
  switch (occasion_of(context)) {
    case Occasion::kIdle:
      return 0;
    case Occasion::kFull:
      return collapsed_of(context) ? 0 : 2;
    case Occasion::kPartial:
      break;
  }
  return 4;
}

uint64_t delay_of(uint64_t break_even, uint16_t expert, bool may_defer) {
  if (!may_defer) return kDelayEighths[expert] < 8 ? 0 : UINT64_MAX;
  return scaled(break_even, kDelayEighths[expert], 8);
}

uint64_t cost_of(const Prices &prices, const Interval &interval, uint64_t delay) {
  if (interval.slack == 0) return 0;
  if (delay != 0 && interval.quiet <= delay) return holding_cost(prices, interval.slack, interval.length);
  const uint64_t held = delay == 0 ? 0 : std::min(interval.before_quiet + delay, interval.length);
  return holding_cost(prices, interval.slack, held) + release_cost(prices, interval.priced) +
         refault_cost(prices, scaled(interval.priced, interval.reused, interval.slack));
}

uint64_t least_cost(const Prices &prices, const Interval &interval) {
  return std::min(holding_cost(prices, interval.slack, interval.length), cost_of(prices, interval, 0));
}

Learner::Learner() : contexts_{}, groups_{}, history_{} {
  for (uint16_t c = 0; c < kContexts; ++c) give_prior(contexts_[c].weights, prior_of(c));
  for (unsigned g = 0; g < kGroups; ++g) {
    give_prior(groups_[g].weights, prior_of(static_cast<uint16_t>(g * kHistories)));
  }
}

uint16_t Learner::context_of(Occasion occasion, uint64_t slack, uint64_t live) const {
  const auto o = static_cast<unsigned>(occasion);
  const bool collapsed = slack / kCollapse >= live;
  return static_cast<uint16_t>((o * 2 + collapsed) * kHistories + history_[o]);
}

// Whoever holds for the break-even time never pays more than twice the least. Learning that costs clearly more
// than that would have is set aside until it does no longer: so memory that is needed again whenever it has
// just been given back, which nobody can learn, costs little more than twice the least either.
bool Learner::is_losing(const Group &group) const {
  return group.paid > group.paid_at_break_even + group.paid_at_break_even / 4 + 256;
}

uint16_t Learner::choose(uint16_t context, bool may_defer) const {
  const Context &c = contexts_[context];
  const Group &group = groups_[group_of(context)];
  const auto &weights = c.begun ? c.weights : group.weights;
  if (!may_defer) {
    // Now or not at all: what those who would hold for less than the break-even time weigh, against the others.
    uint64_t now = 0, never = 0;
    for (unsigned i = 0; i < kExperts; ++i) (kDelayEighths[i] < 8 ? now : never) += weights[i];
    return now >= never ? 0 : kExperts - 1;
  }
  if (!c.pinned && is_losing(group)) return kBreakEvenExpert;
  uint32_t most = 0;
  for (uint32_t weight : weights) most = std::max(most, weight);
  uint16_t chosen = 0;
  while (weights[chosen] < most - (most >> kNearlyShift)) ++chosen;
  return chosen;
}

void Learner::learn(const Prices &prices, const Interval &interval) {
  const uint64_t price = release_cost(prices, interval.priced) + refault_cost(prices, interval.priced);
  if (price == 0 || interval.slack == 0 || interval.context >= kContexts || interval.chosen >= kExperts) return;
  Context &c = contexts_[interval.context];
  Group &group = groups_[group_of(interval.context)];
  uint8_t &history = history_[static_cast<unsigned>(occasion_of(interval.context))];
  const uint64_t unit = break_even_ns(prices, interval);
  history = after(history, interval.length < unit);

  uint64_t costs[kExperts], least = UINT64_MAX;
  for (uint16_t i = 0; i < kExperts; ++i) {
    costs[i] = cost_of(prices, interval, delay_of(unit, i, interval.may_defer));
    least = std::min(least, costs[i]);
  }
  c.samples += 1;
  if (!interval.forced) {
    const auto gain =
        static_cast<int64_t>(costs[prior_of(interval.context)]) - static_cast<int64_t>(costs[interval.chosen]);
    c.helpful += gain > 0;
    c.harmful += gain < 0;
    if (__builtin_add_overflow(c.gained_ns, gain, &c.gained_ns)) c.gained_ns = gain;
    group.paid += scaled(costs[interval.chosen], 256, price) - (group.paid >> kFadeShift);
    group.paid_at_break_even +=
        scaled(costs[kBreakEvenExpert], 256, price) - (group.paid_at_break_even >> kFadeShift);
  }

  uint64_t losses[kExperts];
  for (unsigned i = 0; i < kExperts; ++i)
    losses[i] = std::min(scaled(costs[i] - least, kLossSteps, price), kLossMax);
  if (!c.begun) std::copy_n(group.weights, kExperts, c.weights);
  c.begun = true;
  if (!c.pinned) update(c.weights, losses);
  update(group.weights, losses);
}

ContextName name_of(uint16_t context) {
  ContextName name{};
  strcpy(name.text, kOccasionNames[static_cast<unsigned>(occasion_of(context))]);
  strcat(name.text, collapsed_of(context) ? " collapsed " : " kept ");
  strcat(name.text, kHistoryNames[context % kHistories]);
  return name;
}

}  // namespace ace
