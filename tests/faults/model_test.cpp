// The model's lists of operations, with each single call of the system failing in turn, and with calls that
// fail at random. A list that fails is shrunk and printed as a test; give it a name and paste it at the end of
// this file.
#include "model/model.h"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "faults/faults.h"

namespace ace::test {
namespace {

// False where the list does not hold; it is shrunk and told then.
bool expect_good(const Setup &setup, const Ops &ops, Asked *asked) {
  const std::string problem = replay(setup, ops, asked);
  if (problem.empty()) return true;
  fprintf(stderr, "call %llu, permille %u, seed %llu: %s; shrinking\n",
          static_cast<unsigned long long>(setup.failing_call), setup.failing_permille,
          static_cast<unsigned long long>(setup.failing_seed), problem.c_str());
  const Ops shortest = shrink(ops, [&](const Ops &some) { return !replay_in_child(setup, some).empty(); });
  ADD_FAILURE() << problem << "\n" << as_test(setup, shortest, replay_in_child(setup, shortest));
  return false;
}

// GoogleTest hides the name Setup inside of its tests.
Setup setup_for(uint64_t seed) {
  Setup setup;
  setup.kind_groups = static_cast<uint32_t>(1 + seed % 4);
  setup.hardened = seed % 3 == 2;
  return setup;
}

// The list as often as it makes calls, with one more of them in order each time; false where that goes wrong.
bool fail_each_call(uint64_t seed, unsigned length, uint64_t *faults) {
  Setup setup = setup_for(seed);
  const Ops ops = make_ops(seed, setup, length);
  Asked all;
  if (!expect_good(setup, ops, &all)) return false;
  EXPECT_GT(all.calls, 0u);
  for (setup.failing_call = 1;; ++setup.failing_call) {
    Asked asked;
    if (!expect_good(setup, ops, &asked)) return false;
    if (asked.failed == 0) break;  // it made fewer calls
    *faults += asked.failed;
  }
  // What a failed call changes may change how many there are; none is passed over.
  EXPECT_GE(setup.failing_call, all.calls / 2);
  return true;
}

TEST(ModelFaults, EachCallFailsInTurn) {
  const uint64_t wanted = faults_wanted(100);
  uint64_t faults = 0, lists = 0;
  for (uint64_t seed = 1; faults < wanted; ++seed, ++lists) {
    if (!fail_each_call(seed, 120, &faults)) return;
  }
  tell_faults("model, each call in turn", faults, lists);
}

TEST(ModelFaults, CallsFailAtRandom) {
  const uint64_t wanted = faults_wanted(1500);
  constexpr unsigned kPermille[] = {5, 50, 300, 700};
  uint64_t faults = 0, lists = 0;
  for (uint64_t seed = 1; faults < wanted; ++seed, ++lists) {
    auto setup = setup_for(seed);
    setup.failing_permille = kPermille[seed / 4 % 4];
    setup.failing_seed = seed;
    Asked asked;
    if (!expect_good(setup, make_ops(seed, setup, 600), &asked)) return;
    faults += asked.failed;
  }
  tell_faults("model, at random", faults, lists);
}

// ---- lists that once failed, or inputs that the fuzzer found; "" where the list holds

std::string hold(unsigned permille, uint64_t seed, const Ops &ops) {
  auto setup = setup_for(0);
  setup.failing_permille = permille;
  setup.failing_seed = seed;
  return replay_in_child(setup, ops);
}

// 9 MB stayed mapped.
TEST(FaultRegression, UnmapsThatAreRefusedAreTriedAgain) { EXPECT_EQ(hold(300, 8, make_ops(8, {}, 600)), ""); }

// The memory of the loop that decides when to trim stayed mapped.
TEST(FaultRegression, AHeapsControllerGoesBackLaterAsWell) {
  Ops ops;
  for (uint32_t i = 0; i < 12; ++i) ops.push_back({Op::kAlloc, i, 4u << 20, 0});
  ops.push_back({Op::kHint, 4, 2, 0});
  for (uint64_t seed = 1; seed <= 20; ++seed) EXPECT_EQ(hold(400, seed, ops), "") << seed;
}

// The fuzzer found it: the guard behind a hardened heap's large block stayed mapped, where that had grown.
TEST(FaultRegression, AGuardGoesBackLaterAsWell) {
  Ops ops;
  for (uint32_t i = 0; i < 12; ++i) {
    ops.push_back({Op::kAlloc, i, 2u << 20, 0});
    ops.push_back({Op::kRealloc, i, 4u << 20, 0});
    ops.push_back({Op::kRealloc, i, 1u << 20, 0});
  }
  auto setup = setup_for(0);
  setup.hardened = true;
  setup.failing_permille = 200;
  for (setup.failing_seed = 1; setup.failing_seed <= 20; ++setup.failing_seed)
    EXPECT_EQ(replay_in_child(setup, ops), "") << setup.failing_seed;
}

}  // namespace
}  // namespace ace::test
