// Modes observe and learn in a heap: what is seen, what is done, what is written.
#include "control/controller.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "control/container.h"
#include "control/playbook.h"
#include "unit/fake_os.h"
#include "unit/heap_test.h"
#include "unit/superslab_pool.h"
#include "wire/options.h"

namespace ace {
namespace {

using test::FakeOs;
using test::HeapTest;
using test::kMillisecond;
using test::OptionGuard;

constexpr size_t kMiB = size_t{1} << 20;

class Controlled : public HeapTest {
 protected:
  Controlled() {
    set_container_root_for_tests("/nowhere");  // this machine's memory may be short
    make(0, 0, nullptr, nullptr, 0);
  }
  ~Controlled() override { set_container_root_for_tests(""); }

  void collect() {
    EXPECT_EQ(ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 0), 0);
    EXPECT_EQ(ace_hint(heap, ACE_HINT_COLLECT_END, 0), 0);
  }
  void swell() { blocks = fill(32 * kMiB / 64, 64); }
  // Next to nothing stays.
  void shrink() { shrink_to(100000); }
  // One of so many stays.
  void shrink_to(size_t share) {
    for (size_t i = 0; i < blocks.size(); ++i) {
      if (i % share == 0) {
        kept.push_back(blocks[i]);
      } else {
        ace_heap_free(heap, blocks[i]);
      }
    }
    blocks.clear();
  }
  static uint64_t unit() { return break_even_ns(prices()); }
  void advance(double units) { fake.advance(static_cast<uint64_t>(units * static_cast<double>(unit()))); }

  FakeOs fake;
  OptionGuard learn{"mode", "learn"};
  std::vector<void *> blocks, kept;
};

TEST_F(Controlled, TheFirstCollapseIsGivenBackAtOnce) {
  swell();
  shrink();
  collect();
  EXPECT_NE(learner_of(*heap), nullptr);
  EXPECT_LT(stats().resident_bytes, 4 * kMiB);
}

TEST_F(Controlled, WhatFallsFreeLaterGoesBackOnceItIsQuiet) {
  swell();
  auto some = fill(4 * kMiB / 64, 64);
  shrink();
  collect();
  const uint64_t purges = stats().purges;
  free_all(some);
  collect();
  EXPECT_EQ(stats().purges, purges) << "the interval of the large one is open";
  for (int i = 0; i < 3; ++i) {
    fake.advance(100 * kMillisecond);
    ace_tick(UINT64_MAX);
  }
  EXPECT_GT(stats().purges, purges);
  EXPECT_LT(stats().resident_bytes, kMiB);
}

TEST_F(Controlled, ASmallHeapIsLeftToTheFixedRules) {
  blocks = fill(12 * kMiB / 64, 64);
  shrink();
  collect();
  EXPECT_EQ(learner_of(*heap), nullptr);
  EXPECT_LT(stats().resident_bytes, 2 * kMiB);
}

TEST_F(Controlled, AHeapThatIsKeptGivesBackOnceItIsQuiet) {
  swell();
  std::vector<void *> dropped(blocks.begin() + static_cast<ptrdiff_t>(blocks.size() * 5 / 8), blocks.end());
  free_all(dropped);
  collect();
  const uint64_t before = stats().resident_bytes;
  advance(0.15);
  auto some = fill(2 * kMiB / 64, 64);
  free_all(some);  // an eighth of what is free: a quarter of the break-even time counts anew
  advance(0.15);
  ace_tick(UINT64_MAX);
  EXPECT_GE(stats().resident_bytes, before);
  advance(0.15);
  ace_tick(UINT64_MAX);
  EXPECT_LT(stats().resident_bytes, before - 8 * kMiB);
}

TEST_F(Controlled, AProgramThatSwellsAgainAtOnceIsSoonLeftAlone) {
  for (int i = 0; i < 12; ++i) {
    swell();
    shrink();
    collect();
    advance(0.01);
  }
  swell();
  shrink();
  collect();
  EXPECT_GT(stats().resident_bytes, 24 * kMiB);
  advance(1);
  ace_tick(UINT64_MAX);
  EXPECT_LT(stats().resident_bytes, 4 * kMiB) << "but not for ever";
}

TEST_F(Controlled, AProgramThatRestsIsGivenBackSoonAgain) {
  for (int i = 0; i < 12; ++i) {
    swell();
    shrink();
    collect();
    advance(0.01);
  }
  for (int i = 0; i < 24; ++i) {
    swell();
    shrink();
    collect();
    advance(3);
    ace_tick(UINT64_MAX);
  }
  swell();
  shrink();
  collect();
  advance(0.13);
  ace_tick(UINT64_MAX);
  EXPECT_LT(stats().resident_bytes, 4 * kMiB);
}

TEST_F(Controlled, PagesThatSurvivorsShareAreNotFree) {
  swell();
  shrink_to(64);  // one on each page
  collect();
  const uint64_t purges = stats().purges;
  for (int i = 0; i < 10; ++i) {
    advance(0.01);
    collect();
  }
  EXPECT_EQ(stats().purges, purges) << "looking again and again is of no use";
}

TEST_F(Controlled, WhatSurvivorsSharedIsFreeOnceTheyAreDead) {
  make();  // without a worker, which would come later in any case
  swell();
  shrink_to(64);  // one on each page
  collect();
  advance(5);
  std::vector<void *> last = std::exchange(kept, {});
  for (size_t i = 0; i < last.size(); ++i) {
    if (i % 512 != 0) ace_heap_free(heap, last[i]);  // one in each superslab stays
  }
  collect();
  EXPECT_LT(stats().resident_bytes, 4 * kMiB);
}

TEST_F(Controlled, ObserveActsAsStatic) {
  OptionGuard observe("mode", "observe");
  for (int i = 0; i < 12; ++i) {
    swell();
    shrink();
    collect();
    advance(0.01);
  }
  EXPECT_NE(learner_of(*heap), nullptr);
  const uint64_t returned = stats().returned_bytes + stats().released_bytes;
  make(0, 0, nullptr, nullptr, 0);
  OptionGuard fixed("mode", "static");
  kept.clear();
  for (int i = 0; i < 12; ++i) {
    swell();
    shrink();
    collect();
    advance(0.01);
  }
  EXPECT_EQ(stats().returned_bytes + stats().released_bytes, returned);
  EXPECT_EQ(learner_of(*heap), nullptr) << "and static has no loop";
}

TEST_F(Controlled, PlacesBlocksAsModeOffDoes) {
  const auto places = [this](const char *mode) {
    OptionGuard guard("mode", mode);
    make(0, 0, nullptr, nullptr, 0);
    keep_what_is_free();
    std::vector<uintptr_t> found;
    for (int round = 0; round < 3; ++round) {
      auto some = fill(2000, 48 + 16 * static_cast<size_t>(round));
      for (void *block : some) found.push_back(address_of(block) % kSuperslabSize);
      for (size_t i = 0; i < some.size(); i += 2) ace_heap_free(heap, some[i]);
    }
    return found;
  };
  EXPECT_EQ(places("learn"), places("off")) << "without an occasion the loop is not there";
}

TEST_F(Controlled, TheWatchSeesWhenHalfIsLiveAgain) {
  swell();
  watch_reuse(*heap, os().now(), 8 * kMiB);
  EXPECT_EQ(heap->reuse.at, 0u);
  auto more = fill(4 * kMiB / 64, 64);
  EXPECT_EQ(heap->reuse.at, 0u);
  for (int i = 0; i < 20; ++i) {  // what comes and goes is not needed again
    auto some = fill(kMiB / 64, 64);
    free_all(some);
  }
  EXPECT_EQ(heap->reuse.at, 0u);
  fake.advance(5);
  const uint64_t now = os().now();
  auto rest = fill(5 * kMiB / 64, 64);
  EXPECT_EQ(heap->reuse.at, now);
}

TEST_F(Controlled, AnIntervalThatIsOverLeavesTheRestToTheFixedRules) {
  swell();
  std::vector<void *> dropped(blocks.begin() + static_cast<ptrdiff_t>(blocks.size() * 5 / 8), blocks.end());
  free_all(dropped);
  collect();
  EXPECT_NE(heap->trim_delay, 0u);
  auto again = fill(11 * kMiB / 64, 64);
  collect();
  EXPECT_NE(heap->trim_due, 0u);
  EXPECT_EQ(heap->trim_delay, 0u);
}

TEST_F(Controlled, WhatWasDecidedIsKnownToOthers) {
  for (uint64_t n = 0; n < 2; ++n) {
    swell();
    shrink();
    collect();
    const Decisions decisions = decisions_of(*heap);
    EXPECT_EQ(decisions.count, n + 1);
    EXPECT_EQ(decisions.recent[n].at, os().now());
    EXPECT_GT(decisions.recent[n].slack, 16 * kMiB);
    advance(0.01);
  }
}

TEST_F(Controlled, TheWatchKnowsTheLongestTimeForWhichNothingWasNeeded) {
  const uint64_t begin = os().now();
  watch_reuse(*heap, begin, 16 * kMiB);
  const auto take_after = [this](uint64_t ns) {
    fake.advance(ns);
    fill(3 * kMiB / 64, 64);  // more than an eighth of what is waited for
  };
  take_after(10);
  EXPECT_EQ(heap->reuse.quiet, 10u);
  EXPECT_EQ(heap->reuse.quiet_at, begin);
  take_after(3);
  EXPECT_EQ(heap->reuse.quiet, 10u);
  take_after(20);
  EXPECT_EQ(heap->reuse.quiet, 20u);
  EXPECT_EQ(heap->reuse.quiet_at, begin + 13);
  watch_reuse(*heap, os().now(), 16 * kMiB);
  EXPECT_EQ(heap->reuse.quiet, 0u) << "it begins anew";
}

TEST_F(Controlled, NothingIsWatchedWhereNoIntervalIsOpen) {
  swell();
  shrink();
  collect();
  EXPECT_NE(heap->reuse.look_at, UINT64_MAX);
  advance(5);
  collect();  // it has rested, and little is free
  EXPECT_EQ(heap->reuse.look_at, UINT64_MAX);
}

TEST_F(Controlled, WhereMemoryIsShortItGoesBackWhateverWasLearned) {
  for (int i = 0; i < 12; ++i) {
    swell();
    shrink();
    collect();
    advance(0.01);
  }
  EXPECT_GT(stats().resident_bytes, 16 * kMiB) << "it was needed again at once";
  char root[] = "/tmp/ace-short-XXXXXX";
  ASSERT_NE(mkdtemp(root), nullptr);
  std::filesystem::create_directories(std::string(root) + "/proc/pressure");
  std::ofstream(std::string(root) + "/proc/pressure/memory") << "some avg10=90.00 avg60=0.00\n";
  set_container_root_for_tests(root);
  swell();
  shrink();
  collect();
  EXPECT_LT(stats().resident_bytes, 16 * kMiB);
  std::filesystem::remove_all(root);
  set_container_root_for_tests("/nowhere");
}

TEST_F(Controlled, WhatTheLoopTookGoesWithItsHeap) {
  ace_heap_destroy(std::exchange(heap, nullptr));
  test::empty_superslab_pool(fake);
  const int64_t before = fake.mapped();
  make(0, 0, nullptr, nullptr, 0);
  swell();
  shrink();
  collect();
  ASSERT_NE(heap->controller, nullptr);
  ace_heap_destroy(std::exchange(heap, nullptr));
  test::empty_superslab_pool(fake);
  EXPECT_EQ(fake.mapped(), before);
}

// In a process that has not measured yet.
TEST(PricesDeathTest, AHugePageIsPricedByTheMiBAndWhatWasTouchedGoesBack) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto measures = [] {
    FakeOs fake;
    fake.give_huge_pages();
    fake.slow_purges(6 * kMillisecond);
    const uint64_t whole = prices().whole_ns;
    OptionGuard off("huge_pages", "off");
    return whole == 3 * kMillisecond && prices().whole_ns == 0 && fake.mapped() == 0;
  };
  EXPECT_EXIT(_exit(measures() ? 0 : 1), testing::ExitedWithCode(0), "");
}

std::string contents(const std::string &path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

class Files : public Controlled {
 protected:
  Files() {
    char name[] = "/tmp/ace-files-XXXXXX";
    folder = mkdtemp(name);
  }
  ~Files() override { std::filesystem::remove_all(folder); }
  // From so many collections, each of what has swelled.
  void learn(int collections) {
    for (; collections != 0; --collections) {
      swell();
      shrink();
      collect();
      advance(0.01);
    }
  }
  std::string folder;
};

TEST_F(Files, ThePlaybookIsWrittenAndKeepsWhatHeapsHaveLearned) {
  OptionGuard option("playbook", (folder + "/playbook").c_str());
  learn(12);
  EXPECT_TRUE(write_playbook());
  const std::string text = contents(folder + "/playbook");
  EXPECT_EQ(text.find("ace-playbook 1 page="), 0u) << text;
  EXPECT_NE(text.find("full collapsed soon: hold="), std::string::npos) << text;
  ace_heap_destroy(std::exchange(heap, nullptr));
  EXPECT_TRUE(write_playbook());
  EXPECT_NE(contents(folder + "/playbook").find("full collapsed soon: hold="), std::string::npos);
}

TEST_F(Files, WhatAnEndedHeapHasLearnedIsWritten) {
  OptionGuard option("playbook", (folder + "/playbook").c_str());
  learn(12);
  ace_heap_destroy(std::exchange(heap, nullptr));
  EXPECT_TRUE(write_playbook());
  EXPECT_NE(contents(folder + "/playbook").find("full collapsed soon: hold="), std::string::npos);
}

TEST_F(Files, ThePlaybookIsFollowed) {
  OptionGuard option("playbook", (folder + "/playbook").c_str());
  std::ofstream(folder + "/playbook") << "ace-playbook 1 page=" << os().page_size
                                      << " byte_seconds=" << options().memory_price
                                      << "\npin full collapsed unknown: hold=32\n";
  swell();
  shrink();
  collect();
  EXPECT_GT(stats().resident_bytes, 16 * kMiB) << "without it this would go back at once";
  const std::string before = contents(folder + "/playbook");
  EXPECT_TRUE(write_playbook());
  EXPECT_EQ(contents(folder + "/playbook"), before) << "nothing was learned yet";
}

TEST_F(Files, OnlyModeLearnWritesAPlaybook) {
  OptionGuard option("playbook", (folder + "/playbook").c_str());
  learn(12);
  OptionGuard fixed("mode", "static");
  EXPECT_TRUE(write_playbook());
  EXPECT_FALSE(std::filesystem::exists(folder + "/playbook"));
}

TEST_F(Files, WhatWasLearnedForOnePlaybookIsNotForAnother) {
  OptionGuard log("log", (folder + "/log").c_str());
  {
    OptionGuard option("playbook", (folder + "/former").c_str());
    learn(12);
    ace_heap_destroy(std::exchange(heap, nullptr));
  }
  OptionGuard option("playbook", (folder + "/playbook").c_str());
  EXPECT_TRUE(write_playbook());
  EXPECT_FALSE(std::filesystem::exists(folder + "/playbook"));
  make(0, 0, nullptr, nullptr, 0);
  learn(1);
  const std::string text = contents(folder + "/log");
  EXPECT_EQ(text.find("\"playbook\":\"ace"), std::string::npos) << text;
}

TEST_F(Files, APipeIsNoPlaybookAndStaysOne) {
  const std::string path = folder + "/playbook";
  OptionGuard option("playbook", path.c_str());
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  testing::internal::CaptureStderr();
  learn(3);
  EXPECT_FALSE(write_playbook());
  EXPECT_NE(testing::internal::GetCapturedStderr().find("cannot be read: it is no file"), std::string::npos);
  EXPECT_TRUE(std::filesystem::is_fifo(path));
}

TEST_F(Files, AWriteThatFailsLeavesNoFileBehind) {
  const std::string path = folder + "/playbook";
  OptionGuard option("playbook", path.c_str());
  learn(3);
  std::filesystem::create_directories(path);  // another program's, meanwhile
  testing::internal::CaptureStderr();
  EXPECT_FALSE(write_playbook());
  EXPECT_NE(testing::internal::GetCapturedStderr().find("cannot be written"), std::string::npos);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 1);
}

TEST_F(Files, WhatIsTooLongIsNoPlaybook) {
  const std::string path = folder + "/playbook", other(kPlaybookMax + 1, 'x');
  OptionGuard option("playbook", path.c_str());
  std::ofstream(path) << other;
  testing::internal::CaptureStderr();
  learn(3);
  EXPECT_FALSE(write_playbook());
  EXPECT_NE(testing::internal::GetCapturedStderr().find("/playbook is none: it is ignored"), std::string::npos);
  EXPECT_EQ(contents(path), other);
}

TEST_F(Files, WhatIsNoTextIsNoPlaybookAndIsNotLost) {
  const std::string other("ace-playbook 1\0", 15), path = folder + "/playbook";
  OptionGuard option("playbook", path.c_str());
  std::ofstream(path) << other;
  testing::internal::CaptureStderr();
  learn(3);
  EXPECT_FALSE(write_playbook());
  EXPECT_NE(testing::internal::GetCapturedStderr().find("/playbook is none: it is ignored"), std::string::npos);
  EXPECT_EQ(contents(path), other);
}

TEST_F(Files, ThePlaybookIsWrittenByTwoThreadsAtOnce) {
  OptionGuard option("playbook", (folder + "/playbook").c_str());
  learn(3);
  std::atomic<int> failures{0};
  auto write_often = [&] {
    for (int i = 0; i < 200; ++i) failures += !write_playbook();
  };
  std::thread other(write_often);
  write_often();
  other.join();
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(contents(folder + "/playbook").find("ace-playbook 1 page="), 0u);
}

TEST_F(Files, AnotherPlaybookIsWrittenWhereTheFirstIsSomethingElse) {
  {
    OptionGuard option("playbook", "/dev/full");
    swell();
    shrink();
    collect();
    testing::internal::CaptureStderr();
    EXPECT_FALSE(write_playbook());
    EXPECT_NE(testing::internal::GetCapturedStderr().find("the playbook /dev/full is not written"),
              std::string::npos);
  }
  OptionGuard option("playbook", (folder + "/playbook").c_str());
  learn(3);
  EXPECT_TRUE(write_playbook());
  EXPECT_EQ(contents(folder + "/playbook").find("ace-playbook 1 page="), 0u);
}

TEST_F(Files, TheLogHasALineForEachStep) {
  OptionGuard option("log", (folder + "/log").c_str());
  learn(5);
  std::istringstream lines(contents(folder + "/log"));
  std::vector<std::string> all;
  for (std::string line; std::getline(lines, line);) all.push_back(line);
  ASSERT_EQ(all.size(), 2u + 5u);
  EXPECT_EQ(all[0].find("{\"ace_log\":2,"), 0u);
  EXPECT_NE(all[1].find("\"playbook\":\"\""), std::string::npos);
  for (size_t i = 2; i < all.size(); ++i) {
    EXPECT_NE(all[i].find("\"opened\""), std::string::npos);
    EXPECT_EQ(all[i].find("\"closed\"") != std::string::npos, i > 2) << all[i];
  }
}

TEST_F(Files, ALogThatBeginsAfterALoopSaysItsPrices) {
  learn(2);
  OptionGuard option("log", (folder + "/log").c_str());
  learn(2);
  const std::string text = contents(folder + "/log");
  EXPECT_LT(text.find("\"release_ns\":"), text.find('\n')) << text;
  EXPECT_EQ(text.find("\"playbook\""), std::string::npos);
  const std::string first = "\"first_id\":" + std::to_string(next_loop_id());
  EXPECT_NE(text.find(first), std::string::npos) << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
}

TEST_F(Files, AnIntervalInWhichNothingWasNeededWasQuiet) {
  OptionGuard option("log", (folder + "/log").c_str());
  swell();
  shrink();
  collect();
  advance(5);
  collect();
  const std::string text = contents(folder + "/log");
  EXPECT_NE(text.find("\"closed\""), std::string::npos);
  EXPECT_EQ(text.find("\"quiet\":0,\"before_quiet\""), std::string::npos) << text;
}

TEST_F(Files, ALogThatCannotBeWrittenIsToldOnce) {
  OptionGuard option("log", "/dev/full");
  testing::internal::CaptureStderr();
  for (int i = 0; i < 3; ++i) {
    swell();
    shrink();
    errno = EDOM;
    collect();
    EXPECT_EQ(errno, EDOM);
    advance(0.01);
  }
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("the decision log /dev/full cannot be written (No space left on device)"),
            std::string::npos);
  EXPECT_EQ(said.find("cannot be written"), said.rfind("cannot be written"));
  OptionGuard another("log", (folder + "/log").c_str());
  learn(1);
  EXPECT_NE(contents(folder + "/log"), "") << "another file may do";
}

TEST_F(Files, APlaybookThatCannotBeWrittenIsTold) {
  OptionGuard option("playbook", "/nowhere/at/all");
  learn(3);
  testing::internal::CaptureStderr();
  EXPECT_FALSE(write_playbook());
  EXPECT_NE(testing::internal::GetCapturedStderr().find("the playbook /nowhere/at/all cannot be written"),
            std::string::npos);
}

}  // namespace
}  // namespace ace
