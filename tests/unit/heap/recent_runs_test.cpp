#include "heap/recent_runs.h"

#include <gtest/gtest.h>

namespace ace {
namespace {

class RecentRunsTest : public testing::Test {
 protected:
  std::byte *run(size_t n) { return memory_ + n; }
  RecentRuns runs_;

 private:
  std::byte memory_[100];
};

TEST_F(RecentRunsTest, TheLatestOfALengthComesFirst) {
  runs_.push(run(1), 3);
  runs_.push(run(2), 4);
  runs_.push(run(3), 3);
  EXPECT_EQ(runs_.pop(3), run(3));
  EXPECT_EQ(runs_.pop(3), run(1));
  EXPECT_EQ(runs_.pop(3), nullptr);
  EXPECT_EQ(runs_.pop(4), run(2));
  EXPECT_EQ(runs_.pop(1), nullptr);
}

TEST_F(RecentRunsTest, TheOldestAreForgotten) {
  for (size_t i = 0; i < 20; ++i) runs_.push(run(i), 1);
  size_t kept = 0;
  while (std::byte *latest = runs_.pop(1)) EXPECT_EQ(latest, run(19 - kept++));
  EXPECT_EQ(kept, 8u);
  runs_.push(run(5), 1);
  EXPECT_EQ(runs_.pop(1), run(5));
}

TEST_F(RecentRunsTest, LongRunsAreNotKept) {
  runs_.push(run(0), RecentRuns::kLongest);
  runs_.push(run(1), RecentRuns::kLongest + 1);
  EXPECT_EQ(runs_.pop(RecentRuns::kLongest + 1), nullptr);
  EXPECT_EQ(runs_.pop(RecentRuns::kLongest), run(0));
}

TEST_F(RecentRunsTest, ClearForgetsAll) {
  runs_.push(run(0), 1);
  runs_.clear();
  EXPECT_EQ(runs_.pop(1), nullptr);
}

}  // namespace
}  // namespace ace
