#include "control/hints.h"

#include "unit/fake_os.h"
#include "unit/heap_test.h"

namespace ace {
namespace {

using test::FakeOs;
using test::HeapTest;
using test::kMillisecond;
using test::OptionGuard;

constexpr size_t kMiB = size_t{1} << 20;

class Hints : public HeapTest {
 protected:
  Hints() { make(); }  // with the fake clock from the beginning

  void hint(ace_hint_code code, uint64_t value = 0) { EXPECT_EQ(ace_hint(heap, code, value), 0); }
  std::string phase() { return ace_phase_name(static_cast<unsigned>(stats().phase)); }

  // 8 MiB of blocks, of which one in a hundred stays.
  void swell_and_free() {
    auto blocks = fill(8 * kMiB / 64, 64);
    for (size_t i = 0; i < blocks.size(); ++i) {
      if (i % 6400 != 0) ace_heap_free(heap, blocks[i]);
    }
  }
  bool gave_back() { return stats().resident_bytes < 2 * kMiB; }

  FakeOs fake;
};

TEST_F(Hints, PhasesFollowTheRuntime) {
  EXPECT_EQ(phase(), "run");
  const std::pair<ace_hint_code, const char *> steps[] = {
      {ACE_HINT_COLLECT_BEGIN, "collect"}, {ACE_HINT_MARK, "mark"},         {ACE_HINT_SWEEP, "sweep"},
      {ACE_HINT_COLLECTED, "sweep"},       {ACE_HINT_COLLECT_END, "run"},   {ACE_HINT_IDLE_BEGIN, "idle"},
      {ACE_HINT_IDLE_END, "run"},          {ACE_HINT_BURST_BEGIN, "burst"}, {ACE_HINT_BURST_BEGIN, "burst"},
      {ACE_HINT_COLLECT_BEGIN, "collect"}, {ACE_HINT_COLLECT_END, "burst"}, {ACE_HINT_BURST_END, "burst"},
      {ACE_HINT_IDLE_BEGIN, "idle"},       {ACE_HINT_IDLE_END, "burst"},    {ACE_HINT_BURST_END, "run"},
      {ACE_HINT_BURST_END, "run"},         {ACE_HINT_PRESSURE, "run"},      {ACE_HINT_FORK_BEFORE, "run"},
      {ACE_HINT_FORK_CHILD, "run"}};
  uint64_t count = 0;
  for (auto [code, expected] : steps) {
    hint(code);
    EXPECT_EQ(phase(), expected) << "after hint " << code;
    EXPECT_EQ(stats().hints, ++count);
  }
}

TEST_F(Hints, UnknownCodesAreRefusedAndNotCounted) {
  for (int code : {0, -1, 13, 1000}) EXPECT_EQ(ace_hint(heap, static_cast<ace_hint_code>(code), 0), -1);
  EXPECT_EQ(stats().hints, 0u);
}

TEST_F(Hints, CollectionsAreCounted) {
  hint(ACE_HINT_COLLECT_BEGIN, 0);
  hint(ACE_HINT_COLLECTED, 17);
  hint(ACE_HINT_COLLECT_END, 12'345);
  for (uint64_t generation : {1, 2, 1}) {
    hint(ACE_HINT_COLLECT_BEGIN, generation);
    hint(ACE_HINT_COLLECTED, 5);
    hint(ACE_HINT_COLLECT_END);
  }
  EXPECT_EQ(stats().collections_full, 1u);
  EXPECT_EQ(stats().collections_partial, 3u);
  EXPECT_EQ(stats().collected_objects, 32u);
}

TEST_F(Hints, HostsLiveBytes) {
  hint(ACE_HINT_COLLECT_END, 12'345);
  EXPECT_EQ(stats().host_live_bytes, 12'345u);
}

TEST_F(Hints, TimeAndPagesGoToTheirPhase) {
  fake.advance(3);
  hint(ACE_HINT_COLLECT_BEGIN);
  fake.advance(50);
  fill(1, 5 * kPage);
  hint(ACE_HINT_COLLECT_END);
  fake.advance(700);
  hint(ACE_HINT_BURST_BEGIN);
  fake.advance(11);
  fill(1, 7 * kPage);
  const ace_stats s = stats();
  const auto run = static_cast<unsigned>(Phase::kRun), collect = static_cast<unsigned>(Phase::kCollect),
             burst = static_cast<unsigned>(Phase::kBurst);
  EXPECT_EQ(s.phase_ns[run], 703u);
  EXPECT_EQ(s.phase_ns[collect], 50u);
  EXPECT_EQ(s.phase_ns[burst], 11u) << "the present phase counts too";
  EXPECT_EQ(s.phase_entries[run], 2u);
  EXPECT_EQ(s.phase_entries[collect], 1u);
  EXPECT_EQ(s.phase_faulted_bytes[collect], 5 * kPage);
  EXPECT_EQ(s.phase_faulted_bytes[burst], 7 * kPage);
  EXPECT_EQ(s.phase_faulted_bytes[run], 0u);
}

TEST_F(Hints, WhatACollectionGivesBackIsTheCollections) {
  swell_and_free();
  hint(ACE_HINT_COLLECT_BEGIN);
  hint(ACE_HINT_COLLECT_END);
  const ace_stats s = stats();
  EXPECT_EQ(s.phase_returned_bytes[static_cast<unsigned>(Phase::kCollect)], s.returned_bytes);
  EXPECT_GT(s.returned_bytes, 0u);
}

TEST_F(Hints, ACollectionWhoseBeginningNobodyToldIsFull) {
  swell_and_free();
  hint(ACE_HINT_COLLECT_END);
  EXPECT_TRUE(gave_back()) << "by the first hint of all";
}

TEST_F(Hints, WhichHintsGiveBack) {
  const struct {
    ace_hint_code code;
    bool gives_back;
  } cases[] = {{ACE_HINT_MARK, false},       {ACE_HINT_SWEEP, false},      {ACE_HINT_COLLECTED, false},
               {ACE_HINT_COLLECT_END, true}, {ACE_HINT_IDLE_BEGIN, true},  {ACE_HINT_IDLE_END, false},
               {ACE_HINT_BURST_END, false},  {ACE_HINT_FORK_BEFORE, true}, {ACE_HINT_FORK_CHILD, false},
               {ACE_HINT_PRESSURE, true}};
  for (auto [code, gives_back] : cases) {
    make();
    hint(ACE_HINT_COLLECT_BEGIN);
    swell_and_free();
    hint(code);
    EXPECT_EQ(gave_back(), gives_back) << "hint " << code;
    EXPECT_EQ(test::audit(heap), "");
  }
}

TEST_F(Hints, ModeOffGivesNothingBackButCounts) {
  OptionGuard off("mode", "off");
  swell_and_free();
  const uint64_t resident = stats().resident_bytes;
  for (ace_hint_code code : {ACE_HINT_COLLECT_BEGIN, ACE_HINT_COLLECT_END, ACE_HINT_IDLE_BEGIN,
                             ACE_HINT_PRESSURE, ACE_HINT_FORK_BEFORE}) {
    hint(code);
  }
  EXPECT_EQ(stats().resident_bytes, resident);
  EXPECT_EQ(stats().hints, 5u);
  EXPECT_EQ(stats().collections_full, 1u);
  EXPECT_GT(ace_trim(heap, SIZE_MAX), 6 * kMiB) << "by ace_trim alone";
}

TEST_F(Hints, PartialCollectionsOfHeapsWithoutWorkerKeepALittle) {
  swell_and_free();
  hint(ACE_HINT_COLLECT_BEGIN, 1);
  hint(ACE_HINT_COLLECT_END);
  EXPECT_FALSE(gave_back()) << "below 8 MiB a young collection gives nothing back";
  hint(ACE_HINT_COLLECT_BEGIN, 0);
  hint(ACE_HINT_COLLECT_END);
  EXPECT_TRUE(gave_back());
}

// A runtime that collects twice in a row, as Lua programs do: the second trim is next to nothing, and the first
// is remembered all the same.
TEST_F(Hints, ASmallTrimDoesNotHideThatALargeOneWasRefaulted) {
  OptionGuard mode("mode", "static");
  OptionGuard delay("idle_delay", "100ms");
  make(0, 0, nullptr, nullptr, 0);
  auto collect = [&] {
    hint(ACE_HINT_COLLECT_BEGIN);
    hint(ACE_HINT_COLLECT_END);
  };
  swell_and_free();
  collect();
  EXPECT_TRUE(gave_back());
  auto some = fill(kMiB / 64 * 3 / 2, 64);
  for (size_t i = 0; i < some.size(); ++i) {
    if (i % 6400 != 0) ace_heap_free(heap, some[i]);
  }
  collect();  // gives back what little there is
  swell_and_free();
  collect();
  EXPECT_FALSE(gave_back()) << "what was given back was needed at once";
}

TEST_F(Hints, WhatWasNeededOfALargeTrimHidesNoLaterOne) {
  OptionGuard mode("mode", "static");
  hint(ACE_HINT_PRESSURE);
  EXPECT_EQ(heap->last_trim, 0u) << "nothing was there to give back";
  swell_and_free();
  hint(ACE_HINT_PRESSURE);
  const uint64_t large = heap->last_trim_bytes;
  EXPECT_GT(large, 7 * kMiB);
  auto some = fill(5 * kMiB / 64, 64);
  for (void *block : some) ace_heap_free(heap, block);
  hint(ACE_HINT_PRESSURE);
  EXPECT_LT(heap->last_trim_bytes, large);
}

TEST_F(Hints, RemoteFreesAreTakenOverAtTheEndOfACollection) {
  auto blocks = fill(100, 20'000);
  for (void *block : blocks) ace_free(block);  // the calling thread's way: by the queue
  hint(ACE_HINT_COLLECT_END);
  EXPECT_EQ(stats().live_blocks, 0u);
}

}  // namespace
}  // namespace ace
