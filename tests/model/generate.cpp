// Makes lists of operations, and prints them.
#include <algorithm>
#include <cstdio>
#include <iterator>
#include <random>

#include "base/size_class.h"
#include "model/model.h"
#include "unit/fake_os.h"

namespace ace::test {
namespace {

class Generator {
 public:
  Generator(uint64_t seed, const Setup &setup) : random_(seed), setup_(setup), taste_(below(4)) {}

  Op next() {
    const unsigned dice = below(1000);
    const uint32_t slot = below(kSlots);
    if (dice < 330) return {Op::kAlloc, slot, size(), below(6)};
    if (dice < 360) return {Op::kCalloc, slot, size(), below(6)};
    if (dice < 390) return {Op::kAligned, slot, size(), below(21)};
    if (dice < 500) return {Op::kRealloc, slot, size(), below(6)};
    if (dice < 640) return {Op::kFree, slot, 0, 0};
    if (dice < 760) return {Op::kFreeSized, slot, 0, 0};
    if (dice < 800) return {Op::kFreeElsewhere, slot, 1 + below(20), 0};
    if (dice < 840) return {Op::kFill, slot, 20 + below(400), 1 + below(kTinyMax >> below(8))};
    if (dice < 870) return {Op::kFreeMost, slot, 20 + below(1000), 1 + below(50)};
    if (dice < 880) return {Op::kFreeTwice, 0, size(), 0};
    if (dice < 930) return {Op::kHint, 1 + below(12), below(3), 0};
    if (dice < 945) return {Op::kTrim, 0, budget(), 0};
    if (dice < 965) return {Op::kTrimShared, 0, budget(), 0};
    if (dice < 975) return {Op::kLimit, 0, below(3) == 0 ? (uint64_t{1} << 20) * below(24) : 0, 0};
    if (dice < 995) return {Op::kAdvance, 0, 1 + below(500), 0};
    if (dice < 998 || !setup_.fails) return {Op::kDestroy, 0, 0, 0};
    return {Op::kFailOs, below(kOsCalls), 1 + below(3), below(4)};
  }
  Op failure() { return {Op::kFailOs, below(kOsCalls), 1 + below(3), below(4)}; }
  bool one_in(unsigned n) { return below(n) == 0; }

 private:
  unsigned below(unsigned n) { return static_cast<unsigned>(random_() % n); }
  uint64_t budget() { return one_in(2) ? UINT64_MAX : below(1 << 22); }

  // Around the edges of classes and pools as well as anywhere.
  uint64_t size() {
    const unsigned dice = below(100);
    if (dice < 35) return kClassSize[below(kClasses)] + below(3) - 1;
    if (dice < 60) return below(600);
    if (dice < 75) return below(kTinyMax + 2);
    if (dice < 80) return kTinyMax - 2 + below(5);
    if (taste_ == 0) return below(200);  // a heap that never leaves the slabs
    if (dice < 90) return kPage * (2 + below(20)) + below(3) - 1;
    if (dice < 96) return below(kMidMax + 1);
    if (dice < 98) return kMidMax - 2 + below(5);
    if (dice < 99 || taste_ == 1) return below(3 << 20);
    constexpr uint64_t kOdd[] = {0, UINT64_MAX, UINT64_MAX - 4096, PTRDIFF_MAX, uint64_t{1} << 50};
    return kOdd[below(std::size(kOdd))];
  }

  std::mt19937_64 random_;
  Setup setup_;
  unsigned taste_;
};

constexpr const char *kNames[] = {"kAlloc",     "kCalloc",        "kAligned",    "kRealloc",  "kFree",
                                  "kFreeSized", "kFreeElsewhere", "kFill",       "kFreeMost", "kFreeTwice",
                                  "kHint",      "kTrim",          "kTrimShared", "kLimit",    "kAdvance",
                                  "kFailOs",    "kDestroy",       "kOverwrite"};
static_assert(std::size(kNames) == Op::kOverwrite + 1);

}  // namespace

Ops make_ops(uint64_t seed, const Setup &setup, unsigned length) {
  Generator generator(seed, setup);
  Ops ops;
  while (ops.size() < length) {
    if (setup.fails && generator.one_in(20)) ops.push_back(generator.failure());
    ops.push_back(generator.next());
  }
  return ops;
}

std::string as_test(const Setup &setup, const Ops &ops, const std::string &problem) {
  char line[160];
  snprintf(line, sizeof line, "  EXPECT_EQ(replay_in_child(test::Setup{%u, %s, %llu, %u, %llu, %s}, {\n",
           setup.kind_groups, setup.fails ? "true" : "false",
           static_cast<unsigned long long>(setup.failing_call), setup.failing_permille,
           static_cast<unsigned long long>(setup.failing_seed), setup.hardened ? "true" : "false");
  std::string text = "// " + problem + "\nTEST(ModelRegression, GiveItAName) {\n" + line;
  for (const Op &op : ops) {
    snprintf(line, sizeof line, "      {Op::%s, %u, %lluu, %lluu},\n", kNames[op.kind], op.slot,
             static_cast<unsigned long long>(op.a), static_cast<unsigned long long>(op.b));
    text += line;
  }
  return text + "  }), \"\");\n}\n";
}

}  // namespace ace::test
