// The lists of a number of fixed seeds, and of one that is new in each run: ACE_MODEL_SEED=N takes N instead. A
// list that fails is shrunk and printed as a test; give it a name and paste it at the end of this file.
#include "model/model.h"

#include <cstdio>
#include <cstdlib>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ace::test {
namespace {

void expect_good(uint64_t seed, const Setup &setup) {
  const Ops ops = make_ops(seed, setup, 1200);
  const std::string problem = replay_in_child(setup, ops);
  if (problem.empty()) return;
  const Ops shortest = shrink(ops, [&](const Ops &some) { return !replay_in_child(setup, some).empty(); });
  ADD_FAILURE() << "seed " << seed << ": " << problem << "\n"
                << as_test(setup, shortest, replay_in_child(setup, shortest));
}

Setup setup_of(uint64_t seed, bool fails) { return {static_cast<uint32_t>(1 + seed % 4), fails}; }

class FixedSeeds : public testing::TestWithParam<uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Model, FixedSeeds, testing::Range(uint64_t{1}, uint64_t{17}));

TEST_P(FixedSeeds, Holds) { expect_good(GetParam(), setup_of(GetParam(), false)); }
TEST_P(FixedSeeds, HoldsWhereTheSystemFails) { expect_good(1000 + GetParam(), setup_of(GetParam(), true)); }

TEST(Model, FreshSeed) {
  const char *given = getenv("ACE_MODEL_SEED");
  const uint64_t seed = given != nullptr ? strtoull(given, nullptr, 10) : std::random_device()();
  printf("ACE_MODEL_SEED=%llu\n", static_cast<unsigned long long>(seed));
  expect_good(seed, setup_of(seed, false));
  expect_good(seed + 1, setup_of(seed, true));
}

// ---- the model itself

TEST(ModelItself, TheSameSeedMakesTheSameList) {
  EXPECT_EQ(make_ops(5, {}, 300), make_ops(5, {}, 300));
  EXPECT_NE(make_ops(5, {}, 300), make_ops(6, {}, 300));
}

TEST(ModelItself, FindsAPlantedFaultAndShrinksTheListToIt) {
  Ops ops = make_ops(3, {}, 200);
  ops.insert(ops.begin() + 150, {{Op::kAlloc, 7, 100, 0}, {Op::kOverwrite, 7, 0, 0}});
  EXPECT_THAT(replay_in_child({}, ops), testing::HasSubstr("contents of a block of 100 bytes have changed"));
  const Ops shortest = shrink(ops, [](const Ops &some) { return !replay_in_child({}, some).empty(); });
  EXPECT_EQ(shortest.size(), 2u);
  EXPECT_THAT(as_test({}, shortest, "planted"), testing::HasSubstr("{Op::kOverwrite, 7, 0u, 0u},"));
}

TEST(ModelItself, ShrinksToWhatMatters) {
  Ops ops;
  for (uint32_t i = 0; i < 100; ++i) ops.push_back({Op::kFree, i, 0, 0});
  const Ops shortest = shrink(ops, [](const Ops &some) {
    bool a = false, b = false;
    for (const Op &op : some) a |= op.slot == 17, b |= op.slot == 90;
    return a && b;
  });
  EXPECT_EQ(shortest, (Ops{{Op::kFree, 17, 0, 0}, {Op::kFree, 90, 0, 0}}));
}

// ---- lists that once failed

}  // namespace
}  // namespace ace::test
