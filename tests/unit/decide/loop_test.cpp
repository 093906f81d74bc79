// The loop of one heap: when intervals open and close, and what is logged.
#include "decide/loop.h"

#include <gtest/gtest.h>

#include <string>

namespace ace {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr Prices kPrices;
const uint64_t kUnit = break_even_ns(kPrices);

class LoopTest : public testing::Test {
 protected:
  LoopStep at(double units, Occasion occasion, uint64_t slack, uint64_t live, uint64_t taken = 0,
              double reused_at = 0) {
    view = {};
    view.quiet = static_cast<uint64_t>(quiet * static_cast<double>(kUnit));
    view.quiet_at = quiet == 0 ? 0 : time(quiet_at);
    view.now = time(units);
    view.occasion = occasion;
    view.may_defer = may_defer;
    view.is_short = is_short;
    view.slack = slack;
    view.live = live;
    view.taken = taken;
    view.reused_at = reused_at == 0 ? 0 : time(reused_at);
    return loop.at(kPrices, view);
  }
  static uint64_t time(double units) {
    return static_cast<uint64_t>((100 + units) * static_cast<double>(kUnit));
  }
  std::string line_of(const LoopStep &step) {
    char line[1024];
    return {line, format_step(line, sizeof line, 7, 3, "lua", view, step)};
  }

  Loop loop;
  LoopView view{};
  bool is_short = false, may_defer = true;
  double quiet = 0, quiet_at = 0;
};

TEST_F(LoopTest, LittleFreeMemoryIsNoInterval) {
  const LoopStep step = at(0, Occasion::kFull, kMiB - 1, kMiB);
  EXPECT_FALSE(step.opened);
  EXPECT_EQ(step.action, TrimAction::kNothing);
}

TEST_F(LoopTest, AnIntervalOpensAndThePriorDecides) {
  LoopStep step = at(0, Occasion::kFull, 60 * kMiB, 30 * kMiB);
  EXPECT_TRUE(step.opened);
  EXPECT_EQ(step.action, TrimAction::kNow) << "the heap has collapsed";
  EXPECT_EQ(step.awaits, 30 * kMiB);

  loop = Loop();
  step = at(0, Occasion::kFull, 30 * kMiB, 60 * kMiB);
  EXPECT_EQ(step.action, TrimAction::kLater);
  EXPECT_EQ(step.due, time(0) + kUnit / 4);
}

TEST_F(LoopTest, ItIsOverWhenHalfWasNeededAgain) {
  at(0, Occasion::kFull, 60 * kMiB, 30 * kMiB, 5);
  const LoopStep step = at(3, Occasion::kFull, 60 * kMiB, 30 * kMiB, 5 + 50 * kMiB, 1);
  ASSERT_TRUE(step.closed);
  EXPECT_EQ(step.interval.slack, 60 * kMiB);
  EXPECT_EQ(step.interval.length, time(1) - time(0));
  EXPECT_EQ(step.interval.reused, 60 * kMiB) << "the rest will be as well";
  EXPECT_TRUE(step.opened) << "and the next has begun";
}

TEST_F(LoopTest, AnotherOccasionMeanwhileLeavesItOpen) {
  at(0, Occasion::kFull, 60 * kMiB, 30 * kMiB);
  LoopStep step = at(1, Occasion::kFull, 10 * kMiB, 31 * kMiB, 10 * kMiB);
  EXPECT_FALSE(step.closed || step.opened);
  EXPECT_EQ(step.action, TrimAction::kNothing) << "what was decided for it still holds";
  step = at(3, Occasion::kFull, 60 * kMiB, 31 * kMiB, 70 * kMiB, 2);
  ASSERT_TRUE(step.closed);
  EXPECT_EQ(step.interval.length, time(2) - time(0)) << "since its beginning";
}

TEST_F(LoopTest, WhatIsFreeOnceMoreAfterItWentBackWasNeeded) {
  EXPECT_EQ(at(0, Occasion::kIdle, 100 * kMiB, 100 * kMiB).action, TrimAction::kNow);
  const LoopStep step = at(0.5, Occasion::kIdle, 45 * kMiB, 102 * kMiB, 45 * kMiB);
  ASSERT_TRUE(step.closed) << "although less than half of it was live at any time";
  EXPECT_EQ(step.interval.reused, 47 * kMiB);
  EXPECT_TRUE(step.opened) << "and what is to be done with it is decided anew";
}

TEST_F(LoopTest, SoWasWhatWentBackOnceItWasQuiet) {
  const auto after = [this](double quiet_for, uint64_t slack) {
    loop = Loop();
    quiet = 0;
    EXPECT_EQ(at(0, Occasion::kFull, 30 * kMiB, 60 * kMiB).action, TrimAction::kLater);  // a quarter of a unit
    quiet = quiet_for;
    return at(1, Occasion::kFull, slack, 65 * kMiB);
  };
  const LoopStep step = after(0.5, 10 * kMiB);
  ASSERT_TRUE(step.closed);
  EXPECT_EQ(step.interval.reused, 15 * kMiB);
  EXPECT_FALSE(after(0.2, 10 * kMiB).closed) << "it was never quiet for long enough";
  EXPECT_FALSE(after(0.5, 7 * kMiB).closed) << "less than a quarter";
}

TEST_F(LoopTest, AnIntervalHasItsLongestQuietTime) {
  at(0, Occasion::kFull, 30 * kMiB, 60 * kMiB);
  quiet = 0.5, quiet_at = 0.25;
  LoopStep step = at(3, Occasion::kFull, 30 * kMiB, 60 * kMiB, 0, 2);
  ASSERT_TRUE(step.closed);
  EXPECT_EQ(step.interval.quiet, kUnit / 2);
  EXPECT_NEAR(static_cast<double>(step.interval.before_quiet), 0.25 * static_cast<double>(kUnit), 1000);
  quiet = 5, quiet_at = 1;  // it began before the interval, and went on behind its end
  step = at(9, Occasion::kFull, 30 * kMiB, 60 * kMiB, 0, 6);
  ASSERT_TRUE(step.closed);
  EXPECT_EQ(step.interval.quiet, step.interval.length);
  EXPECT_EQ(step.interval.before_quiet, 0u);
}

TEST_F(LoopTest, WhatCannotGoBackIsNoReasonToOpenOrToSettleAnew) {
  at(0, Occasion::kPartial, 60 * kMiB, 60 * kMiB);
  const LoopStep step = at(0.1, Occasion::kIdle, 0, 60 * kMiB);
  EXPECT_FALSE(step.opened || step.closed);
  EXPECT_TRUE(at(0.2, Occasion::kPartial, 0, 100 * kMiB, 60 * kMiB, 0.15).closed) << "it was open all the time";
}

TEST_F(LoopTest, WithoutAWorkerItIsNowOrNever) {
  may_defer = false;
  const LoopStep step = at(0, Occasion::kPartial, 60 * kMiB, 60 * kMiB);
  EXPECT_EQ(step.action, TrimAction::kNothing);
  EXPECT_EQ(step.chosen, kExperts - 1);
  const LoopStep closed = at(100, Occasion::kPartial, 60 * kMiB, 60 * kMiB, 60 * kMiB, 100);
  ASSERT_TRUE(closed.closed);
  EXPECT_EQ(closed.cost, holding_cost(kPrices, 60 * kMiB, closed.interval.length)) << "all of it";
}

TEST_F(LoopTest, WhoRestsLongHasRested) {
  at(0, Occasion::kFull, 60 * kMiB, 30 * kMiB);
  const LoopStep step = at(4.1, Occasion::kFull, 0, 40 * kMiB, 15 * kMiB);
  ASSERT_TRUE(step.closed);
  EXPECT_EQ(step.interval.reused, 10 * kMiB) << "as far as is seen";
}

TEST_F(LoopTest, AProgramThatSaysThatItWaitsIsBelieved) {
  at(0, Occasion::kPartial, 60 * kMiB, 60 * kMiB);
  LoopStep step = at(0.1, Occasion::kIdle, 60 * kMiB, 60 * kMiB);
  EXPECT_FALSE(step.closed) << "nothing is known of the interval before";
  EXPECT_TRUE(step.opened);
  EXPECT_EQ(step.action, TrimAction::kNow);
  step = at(0.2, Occasion::kIdle, 2 * kMiB, 60 * kMiB);
  EXPECT_FALSE(step.opened) << "it waits still";
}

TEST_F(LoopTest, AFullCollectionSaysMoreThanAPartialOne) {
  at(0, Occasion::kPartial, 60 * kMiB, 20 * kMiB);
  EXPECT_TRUE(at(0.01, Occasion::kFull, 60 * kMiB, 20 * kMiB).opened);
  EXPECT_FALSE(at(0.02, Occasion::kPartial, 5 * kMiB, 20 * kMiB).opened);
}

TEST_F(LoopTest, MuchMoreFreeMemoryIsAnotherInterval) {
  at(0, Occasion::kFull, 10 * kMiB, 30 * kMiB);
  const LoopStep step = at(0.1, Occasion::kFull, 30 * kMiB, 30 * kMiB);
  EXPECT_TRUE(step.opened && !step.closed);
}

TEST_F(LoopTest, WhereMemoryIsShortItGoesBackAtOnceEachTime) {
  is_short = true;
  for (int i = 0; i < 3; ++i) {
    const LoopStep step = at(0.1 * i, Occasion::kPartial, 60 * kMiB, 60 * kMiB);
    EXPECT_TRUE(step.opened);
    EXPECT_EQ(step.action, TrimAction::kNow);
  }
}

TEST_F(LoopTest, WhatWasHeldGoesBackWhereMemoryIsShortNow) {
  EXPECT_EQ(at(0, Occasion::kPartial, 60 * kMiB, 60 * kMiB).action, TrimAction::kLater);
  is_short = true;
  const LoopStep step = at(0.1, Occasion::kPartial, 60 * kMiB, 60 * kMiB);
  EXPECT_TRUE(step.opened && !step.closed);
  EXPECT_EQ(step.action, TrimAction::kNow);
}

TEST_F(LoopTest, AStepIsALineOfJson) {
  LoopStep step = at(0, Occasion::kFull, 60 * kMiB, 30 * kMiB, 5);
  EXPECT_EQ(line_of(step),
            "{\"t\":" + std::to_string(time(0)) +
                ",\"pid\":7,\"id\":3,\"heap\":\"lua\",\"occasion\":\"full\",\"defer\":1,\"short\":0,\"slack\":"
                "62914560,"
                "\"whole\":0,\"live\":31457280,\"taken\":5,\"reused_at\":0,\"quiet\":0,\"quiet_at\":0,"
                "\"opened\":{\"context\":\"full collapsed "
                "unknown\",\"chosen\":0,\"action\":\"now\",\"due\":0}}\n");
  step = at(3, Occasion::kFull, 0, 90 * kMiB, 5 + 60 * kMiB, 1);
  EXPECT_NE(
      line_of(step).find(
          "\"closed\":{\"context\":\"full collapsed unknown\",\"chosen\":0,\"defer\":1,\"slack\":62914560"),
      std::string::npos)
      << line_of(step);
  char small[64];
  EXPECT_EQ(format_step(small, sizeof small, 1, 1, "lua", view, step), 0u)
      << "a line that does not fit is none";
}

TEST_F(LoopTest, TheSameViewsGiveTheSameSteps) {
  Loop other;
  uint64_t state = 1;
  const auto random = [&](uint64_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % below;
  };
  uint64_t now = kUnit, taken = 0, began = now;
  unsigned logged = 0;
  for (int i = 0; i < 2000; ++i) {
    now += random(kUnit);
    taken += random(100 * kMiB);
    view = {};
    view.now = now;
    view.occasion = static_cast<Occasion>(random(kOccasions));
    view.may_defer = random(2) != 0;
    view.is_short = random(8) == 0;
    view.slack = random(3) == 0 ? 0 : random(200 * kMiB);
    view.live = random(100 * kMiB);
    view.taken = taken;
    view.reused_at = random(4) == 0 ? began + random(now - began) : 0;
    const LoopStep step = loop.at(kPrices, view);
    if (!step.opened && !step.closed) continue;  // and so it is not in the log
    ++logged;
    EXPECT_EQ(line_of(step), line_of(other.at(kPrices, view)));
    began = now;
  }
  EXPECT_GT(logged, 500u);
  EXPECT_LT(logged, 1900u);
}

}  // namespace
}  // namespace ace
