// Rent or buy: costs, and what is learned from intervals.
#include "decide/learn.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

namespace ace {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr Prices kPrices;
const uint64_t kUnit = break_even_ns(kPrices);  // a function of integers alone

Interval interval_of(double units, uint16_t context = 0, uint64_t slack = 64 * kMiB) {
  const auto length = static_cast<uint64_t>(units * static_cast<double>(kUnit));
  return {context, 0, true, false, slack, slack, length, slack, length, 0};
}

// The learner's choice in a context after so many intervals of a length.
uint16_t choice_after(Learner &learner, double units, int times, uint16_t context) {
  for (int i = 0; i < times; ++i) {
    Interval interval = interval_of(units, context);
    interval.chosen = learner.choose(context, true);
    learner.learn(kPrices, interval);
  }
  return learner.choose(context, true);
}

TEST(Cost, AtTheBreakEvenHoldingCostsAsMuchAsReleasingAndTakingAgain) {
  const uint64_t held = holding_cost(kPrices, 64 * kMiB, kUnit);
  const uint64_t bought = release_cost(kPrices, 64 * kMiB) + refault_cost(kPrices, 64 * kMiB);
  EXPECT_NEAR(static_cast<double>(held), static_cast<double>(bought), 1e-6 * static_cast<double>(bought));
}

TEST(Cost, ASecondOfTheDefaultPriceIsASecond) {
  EXPECT_EQ(holding_cost(kPrices, uint64_t{1} << 30, 1'000'000'000), 1'000'000'000u);
}

TEST(Cost, NothingOverflows) {
  EXPECT_EQ(scaled(UINT64_MAX, UINT64_MAX, 1), UINT64_MAX);
  EXPECT_EQ(holding_cost(kPrices, UINT64_MAX / 2, UINT64_MAX / 2), UINT64_MAX);
}

TEST(Cost, OfADelay) {
  const Interval interval = interval_of(2);
  const uint64_t bought = release_cost(kPrices, interval.slack) + refault_cost(kPrices, interval.slack);
  EXPECT_EQ(cost_of(kPrices, interval, 0), bought);
  EXPECT_EQ(cost_of(kPrices, interval, kUnit), bought + holding_cost(kPrices, interval.slack, kUnit));
  EXPECT_EQ(cost_of(kPrices, interval, 4 * kUnit), holding_cost(kPrices, interval.slack, interval.length));
  EXPECT_EQ(least_cost(kPrices, interval), bought);
}

TEST(Cost, OfADelayIsThatOfTheQuietTime) {
  // Needed all along, but for half a unit, from a quarter on.
  Interval interval = interval_of(2);
  interval.quiet = kUnit / 2;
  interval.before_quiet = kUnit / 4;
  const uint64_t bought = release_cost(kPrices, interval.slack) + refault_cost(kPrices, interval.slack);
  const uint64_t held = holding_cost(kPrices, interval.slack, interval.length);
  EXPECT_EQ(cost_of(kPrices, interval, 0), bought) << "at once is at once";
  EXPECT_EQ(cost_of(kPrices, interval, kUnit / 8),
            bought + holding_cost(kPrices, interval.slack, kUnit / 4 + kUnit / 8));
  EXPECT_EQ(cost_of(kPrices, interval, kUnit / 2), held) << "it was never quiet for longer";
  EXPECT_EQ(cost_of(kPrices, interval, kUnit), held);
}

TEST(Cost, WholeSuperslabsCountAsMuchLessAsTheyCost) {
  Prices prices;
  EXPECT_EQ(priced_bytes(prices, 64 * kMiB, 64 * kMiB), 64 * kMiB) << "as any other, where nothing is known";
  prices.whole_ns = (prices.release_ns + prices.refault_ns) / 8;
  EXPECT_EQ(priced_bytes(prices, 64 * kMiB, 0), 64 * kMiB);
  EXPECT_EQ(priced_bytes(prices, 64 * kMiB, 32 * kMiB), 36 * kMiB);
  EXPECT_EQ(priced_bytes(prices, 64 * kMiB, 90 * kMiB), 8 * kMiB);
  EXPECT_EQ(priced_bytes(prices, 0, 0), 0u);

  Interval interval = interval_of(1);
  interval.priced = priced_bytes(prices, interval.slack, interval.slack);
  EXPECT_EQ(break_even_ns(prices, interval), kUnit / 8);
  EXPECT_EQ(cost_of(prices, interval, 0),
            (release_cost(prices, interval.slack) + refault_cost(prices, interval.slack)) / 8);
}

TEST(Cost, WhoHoldsForTheBreakEvenTimeNeverPaysMoreThanTwice) {
  for (double units = 0.01; units < 100; units *= 1.3) {
    const Interval interval = interval_of(units);
    EXPECT_LE(cost_of(kPrices, interval, kUnit), 2 * least_cost(kPrices, interval) + 2) << units;
  }
}

TEST(Learner, BeginsWithThePrior) {
  const Learner learner;
  for (uint16_t c = 0; c < kContexts; ++c) EXPECT_EQ(learner.choose(c, true), prior_of(c)) << name_of(c).text;
}

TEST(Learner, LearnsToHoldAndToRelease) {
  for (uint16_t c = 0; c < kContexts; ++c) {
    Learner learner;
    EXPECT_EQ(choice_after(learner, 50, 20, c), 0) << name_of(c).text;
    const uint16_t held = choice_after(learner, 0.2, 20, c);
    EXPECT_GE(delay_of(kUnit, held, true), interval_of(0.2).length) << name_of(c).text;
    EXPECT_EQ(choice_after(learner, 50, 20, c), 0) << name_of(c).text;
  }
}

TEST(Learner, FollowsAChangeWithinTenIntervals) {
  Learner learner;
  choice_after(learner, 0.3, 1000, 0);
  EXPECT_EQ(choice_after(learner, 50, 10, 0), 0);
}

TEST(Learner, OfEquallyGoodDelaysTheShortestIsChosen) {
  Learner learner;
  const uint16_t partial = learner.context_of(Occasion::kPartial, kMiB, kMiB);
  ASSERT_EQ(prior_of(partial), 4);
  EXPECT_EQ(choice_after(learner, 0.2, 400, partial), 2) << "a quarter of the break-even time is enough";
}

TEST(Learner, AContextThatWasNeverSeenBeginsWithWhatItsGroupHasLearned) {
  Learner learner;
  choice_after(learner, 50, 20, 0);
  ASSERT_EQ(prior_of(1), 2);
  EXPECT_EQ(learner.choose(1, true), 0);
  learner.learn(kPrices, interval_of(2, 1));
  EXPECT_EQ(learner.choose(1, true), 0) << "and goes on from there";
}

TEST(Learner, WhatNobodyCanLearnCostsLittleMoreThanTheBreakEvenDelay) {
  Learner learner;
  uint64_t paid = 0, at_break_even = 0;
  for (int i = 0; i < 2000; ++i) {
    // Needed again just after it has gone back.
    const uint16_t chosen = learner.choose(0, true);
    Interval interval = interval_of(static_cast<double>(kDelayEighths[chosen]) / 8 + 0.02);
    interval.chosen = chosen;
    paid += cost_of(kPrices, interval, delay_of(kUnit, chosen, true));
    at_break_even += cost_of(kPrices, interval, kUnit);
    learner.learn(kPrices, interval);
  }
  EXPECT_LT(paid, at_break_even + at_break_even / 2);
}

TEST(Learner, WeightsAddUp) {
  Learner learner;
  for (int i = 0; i < 5000; ++i) {
    learner.learn(kPrices, interval_of(std::pow(10, i % 7 - 3)));
    const Context &context = learner.context(0);
    const uint64_t sum = std::accumulate(std::begin(context.weights), std::end(context.weights), uint64_t{0});
    ASSERT_NEAR(static_cast<double>(sum), kOne, 0.01 * kOne);
    for (uint32_t weight : context.weights) ASSERT_GT(weight, 0u);
  }
}

TEST(Learner, CountsWhatItGained) {
  Learner learner;
  Interval interval = interval_of(0.1);  // the prior of "full kept" holds for a quarter
  interval.chosen = 0;
  learner.learn(kPrices, interval);
  EXPECT_EQ(learner.context(0).harmful, 1u);
  EXPECT_LT(learner.context(0).gained_ns, 0);
  interval = interval_of(10);
  learner.learn(kPrices, interval);
  EXPECT_EQ(learner.context(0).helpful, 1u);
  EXPECT_EQ(learner.context(0).samples, 2u);
}

TEST(Learner, APinnedContextStays) {
  Learner learner;
  learner.context(0).pinned = true;
  EXPECT_EQ(choice_after(learner, 50, 100, 0), prior_of(0));
  EXPECT_EQ(learner.context(0).samples, 100u);
  std::fill_n(learner.context(0).weights, kExperts, 0);
  learner.context(0).weights[0] = kOne;
  learner.context(0).begun = true;
  EXPECT_EQ(choice_after(learner, 0.01, 100, 0), 0) << "though it loses by it";
}

TEST(Learner, WhereNobodyComesBackItIsNowOrNever) {
  Learner learner;
  const auto live = [&](double units) {
    Interval interval = interval_of(units);
    interval.may_defer = false;
    interval.chosen = learner.choose(0, false);
    learner.learn(kPrices, interval);
  };
  for (int i = 0; i < 20; ++i) live(0.2);
  EXPECT_EQ(learner.choose(0, false), kExperts - 1);
  EXPECT_EQ(delay_of(kUnit, kExperts - 1, false), UINT64_MAX);
  EXPECT_EQ(delay_of(kUnit, 0, false), 0u);
  // Rare long rests cost more than all the short ones: who holds then holds for all of them.
  for (int i = 0; i < 10; ++i) live(i % 5 == 4 ? 500 : 0.2);
  EXPECT_EQ(learner.choose(0, false), 0);
}

TEST(Learner, WhatMemoryForcedIsNotItsDoing) {
  Learner learner;
  Interval interval = interval_of(0.001);
  interval.forced = true;
  for (int i = 0; i < 50; ++i) learner.learn(kPrices, interval);
  EXPECT_EQ(learner.context(0).harmful, 0u);
  EXPECT_EQ(learner.context(0).gained_ns, 0);
  EXPECT_EQ(learner.choose(0, true), prior_of(0)) << "it holds long enough, and is not losing";
}

TEST(Learner, ContextsAreToldApart) {
  const Learner learner;
  std::set<uint16_t> contexts;
  for (Occasion occasion : {Occasion::kFull, Occasion::kPartial, Occasion::kIdle}) {
    contexts.insert(learner.context_of(occasion, 10 * kMiB, 100 * kMiB));
    contexts.insert(learner.context_of(occasion, 100 * kMiB, 10 * kMiB));
  }
  EXPECT_EQ(contexts.size(), 6u);
}

TEST(Learner, TheIntervalBeforeIsAContext) {
  Learner learner;
  const uint16_t before = learner.context_of(Occasion::kFull, kMiB, kMiB);
  learner.learn(kPrices, interval_of(0.01, before));
  const uint16_t soon = learner.context_of(Occasion::kFull, kMiB, kMiB);
  learner.learn(kPrices, interval_of(50, before));
  const uint16_t late = learner.context_of(Occasion::kFull, kMiB, kMiB);
  EXPECT_STREQ(name_of(before).text, "full kept unknown");
  EXPECT_STREQ(name_of(soon).text, "full kept soon");
  EXPECT_STREQ(name_of(late).text, "full kept late");
  const auto name_after = [&](double units) {
    learner.learn(kPrices, interval_of(units, before));
    return std::string(name_of(learner.context_of(Occasion::kFull, kMiB, kMiB)).text);
  };
  EXPECT_EQ(name_after(50), "full kept late 2");
  for (int i = 0; i < 3; ++i) EXPECT_EQ(name_after(50), "full kept late 3+");
  EXPECT_EQ(name_after(0.01), "full kept soon");
  EXPECT_EQ(name_after(0.01), "full kept soon 2");
  for (int i = 0; i < 3; ++i) EXPECT_EQ(name_after(0.01), "full kept soon 3+");
}

TEST(Learner, NonsenseIsNotLearned) {
  Learner learner;
  learner.learn(kPrices, {kContexts, 0, true, false, kMiB, kMiB, 1, 1, 1, 0});
  learner.learn(kPrices, {0, kExperts, true, false, kMiB, kMiB, 1, 1, 1, 0});
  learner.learn(kPrices, {0, 0, true, false, 0, 0, 1, 0, 1, 0});
  EXPECT_EQ(learner.context(0).samples, 0u);
}

TEST(Learner, NamesAreUnique) {
  std::set<std::string> names;
  for (uint16_t c = 0; c < kContexts; ++c) names.insert(name_of(c).text);
  EXPECT_EQ(names.size(), kContexts);
}

}  // namespace
}  // namespace ace
