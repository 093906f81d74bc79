// The rule of mode `static`, as tables: what is seen, and what is decided.
#include "decide/trim.h"

#include <gtest/gtest.h>

namespace ace {
namespace {

constexpr uint64_t kMiB = 1 << 20;
using enum TrimAction;

constexpr uint64_t kDelay = 100'000'000;
constexpr uint64_t kMoment = 1'000 * kDelay;

struct HintCase {
  const char *what;
  ace_hint_code hint;
  bool full, may_defer;
  uint64_t last_collection_end, resident, live;
  TrimAction action;
};

class HintRule : public testing::TestWithParam<HintCase> {};

TEST_P(HintRule, Decides) {
  const HintCase &c = GetParam();
  TrimView view{c.hint, c.full, c.may_defer, kMoment, c.last_collection_end, kDelay, c.resident,
                c.live, 0,      0,           0};
  TrimDecision decision = decide_at_hint(view);
  EXPECT_EQ(decision.action, c.action) << c.what;
  EXPECT_EQ(decision.due, c.action == kLater ? kMoment + kDelay : 0) << c.what;
  if (c.action == kNow) EXPECT_EQ(decision.budget, SIZE_MAX) << c.what;
}

constexpr uint64_t kLong = kMoment - 11 * kDelay, kShort = kMoment - 9 * kDelay;
INSTANTIATE_TEST_SUITE_P(
    Static, HintRule,
    testing::Values(
        HintCase{"idle with slack", ACE_HINT_IDLE_BEGIN, false, true, 0, 10 * kMiB, kMiB, kNow},
        HintCase{"idle without slack", ACE_HINT_IDLE_BEGIN, false, true, 0, 10 * kMiB, 10 * kMiB, kNothing},
        HintCase{"idle, more live than resident", ACE_HINT_IDLE_BEGIN, false, true, 0, kMiB, 2 * kMiB,
                 kNothing},
        HintCase{"slack just below 1 MiB", ACE_HINT_IDLE_BEGIN, false, true, 0, 2 * kMiB - 1, kMiB, kNothing},
        HintCase{"slack of 1 MiB", ACE_HINT_IDLE_BEGIN, false, true, 0, 2 * kMiB, kMiB, kNow},
        HintCase{"slack below a sixteenth", ACE_HINT_IDLE_BEGIN, false, true, 0, 169 * kMiB, 160 * kMiB,
                 kNothing},
        HintCase{"slack of a sixteenth", ACE_HINT_IDLE_BEGIN, false, true, 0, 170 * kMiB, 160 * kMiB, kNow},
        HintCase{"fork with slack", ACE_HINT_FORK_BEFORE, false, false, 0, 10 * kMiB, kMiB, kNow},
        HintCase{"pressure, always", ACE_HINT_PRESSURE, false, true, kShort, kMiB, kMiB, kNow},
        HintCase{"burst", ACE_HINT_BURST_END, true, false, 0, 100 * kMiB, kMiB, kNothing},
        HintCase{"sweep", ACE_HINT_SWEEP, true, false, 0, 100 * kMiB, kMiB, kNothing},
        HintCase{"first full collection", ACE_HINT_COLLECT_END, true, true, 0, 10 * kMiB, kMiB, kNow},
        HintCase{"a full one after long", ACE_HINT_COLLECT_END, true, true, kLong, 10 * kMiB, kMiB, kNow},
        HintCase{"a full one of a busy heap", ACE_HINT_COLLECT_END, true, true, kShort, 30 * kMiB - 1,
                 10 * kMiB, kLater},
        HintCase{"a busy heap that collapsed", ACE_HINT_COLLECT_END, true, true, kShort, 30 * kMiB, 10 * kMiB,
                 kNow},
        HintCase{"a partial one of it", ACE_HINT_COLLECT_END, false, true, kShort, 30 * kMiB, 10 * kMiB,
                 kLater},
        HintCase{"a partial one", ACE_HINT_COLLECT_END, false, true, 0, 10 * kMiB, kMiB, kLater},
        HintCase{"a full one without slack", ACE_HINT_COLLECT_END, true, true, 0, kMiB, kMiB, kNothing},
        HintCase{"no worker, full, busy", ACE_HINT_COLLECT_END, true, false, kShort, 10 * kMiB, kMiB, kNow},
        HintCase{"no worker, partial, little", ACE_HINT_COLLECT_END, false, false, 0, 9 * kMiB - 1, kMiB,
                 kNothing},
        HintCase{"no worker, partial, much", ACE_HINT_COLLECT_END, false, false, 0, 9 * kMiB, kMiB, kNow},
        HintCase{"no worker, partial, much live", ACE_HINT_COLLECT_END, false, false, 0, 30 * kMiB, 20 * kMiB,
                 kNothing},
        HintCase{"no worker, partial, busy", ACE_HINT_COLLECT_END, false, false, kShort, 90 * kMiB, kMiB,
                 kNothing}));

struct DueCase {
  const char *what;
  uint64_t asked, resident, live, carved;
  bool quiet;
  TrimAction action;
  size_t budget;
  uint64_t due;
  bool recount;
};

// A heap that swells and collapses again and again within a second: what the last trim gave back came at once.
TEST(CollapseRule, SparesAHeapWhoseLastTrimWasRefaultedSoon) {
  auto decide = [](uint64_t last_trim, uint64_t given, uint64_t faulted) {
    TrimView view{ACE_HINT_COLLECT_END, true, true,      kMoment, kShort, kDelay,
                  100 * kMiB,           kMiB, last_trim, given,   faulted};
    return decide_at_hint(view).action;
  };
  EXPECT_EQ(decide(0, 0, 0), kNow);
  EXPECT_EQ(decide(kShort, 100 * kMiB, 50 * kMiB), kLater);
  EXPECT_EQ(decide(kShort, 100 * kMiB, 50 * kMiB - 1), kNow) << "less than half of it came back";
  EXPECT_EQ(decide(kShort, 20 * kMiB, 50 * kMiB), kNow) << "it was small beside this one";
  EXPECT_EQ(decide(kLong, 100 * kMiB, 100 * kMiB), kNow) << "it was away for a while";
}

class DueRule : public testing::TestWithParam<DueCase> {};

TEST_P(DueRule, Decides) {
  const DueCase &c = GetParam();
  TrimDecision decision =
      decide_when_due({kMoment, c.asked, kDelay, c.resident, c.live, c.carved, c.quiet, 0, 0});
  EXPECT_EQ(decision.action, c.action) << c.what;
  EXPECT_EQ(decision.budget, c.budget) << c.what;
  EXPECT_EQ(decision.due, c.due) << c.what;
  EXPECT_EQ(decision.recount, c.recount) << c.what;
}

constexpr uint64_t kRecent = kMoment - kDelay, kOld = kMoment - 10 * kDelay;
INSTANTIATE_TEST_SUITE_P(
    Static, DueRule,
    testing::Values(DueCase{"quiet: all", kRecent, 10 * kMiB, kMiB, kMiB, true, kNow, SIZE_MAX, 0, false},
                    DueCase{"no slack any more", kRecent, kMiB, kMiB, 0, true, kNothing, 0, 0, false},
                    DueCase{"busy: wait", kRecent, 10 * kMiB, kMiB, kMiB, false, kLater, 0, kMoment + kDelay,
                            false},
                    DueCase{"busy for long: all but its turnover", kOld, 10 * kMiB, kMiB, 2 * kMiB, false, kNow,
                            7 * kMiB, kMoment + 10 * kDelay, true},
                    DueCase{"busy for long, all turned over", kOld, 10 * kMiB, kMiB, 9 * kMiB, false, kLater, 0,
                            kMoment + 10 * kDelay, true}));

TEST(LearnedDelay, CountsFromWhenSomethingWasNeededLast) {
  constexpr uint64_t kLearned = 1000;
  DeferredView view{kMoment,  kMoment - 1, kDelay,   10 * kMiB,         kMiB,
                    4 * kMiB, false,       kLearned, kMoment - kLearned};
  TrimDecision decision = decide_when_due(view);
  EXPECT_EQ(decision.action, kNow);
  EXPECT_EQ(decision.budget, SIZE_MAX);
  EXPECT_EQ(decision.due, 0u);

  view.needed_last = kMoment - kLearned + 300;
  decision = decide_when_due(view);
  EXPECT_EQ(decision.action, kLater);
  EXPECT_EQ(decision.due, kMoment + 300);

  view.live_bytes = view.resident_bytes;
  EXPECT_EQ(decide_when_due(view).action, TrimAction::kNothing) << "all of it was needed meanwhile";
}

}  // namespace
}  // namespace ace
