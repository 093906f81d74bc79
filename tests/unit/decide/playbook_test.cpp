// The playbook's text: written, read again, edited, damaged.
#include "decide/playbook.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string.h>

#include <string>

namespace ace {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr PlaybookFit kFit{4096, uint64_t{8} << 30};
constexpr char kHead[] = "ace-playbook 1 page=4096 byte_seconds=8589934592\n";

class Playbook : public testing::Test {
 protected:
  Playbook() {
    const Learner fresh;
    for (unsigned c = 0; c < kContexts; ++c) contexts[c] = fresh.context(c);
  }
  std::string text() {
    char buffer[kPlaybookMax];
    return {buffer, format_playbook(buffer, sizeof buffer, kFit, contexts)};
  }
  // "" or what is wrong.
  std::string parse(const std::string &given, const PlaybookFit &fit = kFit) {
    const char *wrong = parse_playbook(given.c_str(), fit, contexts, &line);
    return wrong == nullptr ? "" : wrong;
  }

  Context contexts[kContexts];
  unsigned line = 0;
};

TEST_F(Playbook, OfNothingLearnedIsItsFirstLine) { EXPECT_EQ(text(), kHead); }

TEST_F(Playbook, ComesBackAsItWas) {
  Learner learner;
  for (int i = 0; i < 100; ++i)
    learner.learn(Prices{}, {7, 1, true, false, 1 << 26, 1 << 26, uint64_t{1} << (i % 40), 1 << 26,
                             uint64_t{1} << (i % 40), 0});
  contexts[7] = learner.context(7);
  const std::string written = text();
  EXPECT_THAT(written, StartsWith(kHead));
  EXPECT_THAT(written, HasSubstr("\nfull collapsed unknown: hold="));
  contexts[7] = Learner().context(7);
  EXPECT_EQ(text(), kHead);
  EXPECT_EQ(parse(written), "");
  EXPECT_EQ(text(), written);
  EXPECT_EQ(contexts[7].samples, 100u);
}

TEST_F(Playbook, MayBeEdited) {
  EXPECT_EQ(parse(std::string(kHead) + "# by hand\n\npin idle kept late: hold=8\n"), "");
  EXPECT_TRUE(contexts[kContexts - 3 - kHistories].pinned);
  EXPECT_STREQ(name_of(kContexts - 3 - kHistories).text, "idle kept late");
  EXPECT_EQ(contexts[kContexts - 3 - kHistories].weights[4], kOne);
  EXPECT_THAT(text(), HasSubstr("pin idle kept late: hold=8 "));
}

TEST_F(Playbook, OfAnotherMachineOrPriceDoesNotFit) {
  EXPECT_EQ(parse(kHead, {16384, kFit.byte_seconds}), "was learned with another page size");
  EXPECT_EQ(parse(kHead, {4096, 1 << 20}), "was learned with another price of memory");
  EXPECT_EQ(parse("ace-playbook 1 page=16384 byte_seconds=8589934592\n"), "was learned with another page size");
  EXPECT_EQ(parse("ace-playbook 2 page=4096 byte_seconds=8589934592\n"), "is of another version");
}

TEST_F(Playbook, DamageIsToldAndNothingIsTaken) {
  const std::string good =
      "full kept soon: hold=0 samples=9 helpful=1 harmful=0 gained_us=-5 weights=9,0,0,0,0,0,0,0\n";
  const struct {
    std::string text, wrong;
    unsigned line;
  } cases[] = {
      {"", "does not begin with 'ace-playbook 1'", 1},
      {"hello\n", "does not begin with 'ace-playbook 1'", 1},
      {"ace-playbook 1 page=4096\n", "has a damaged first line", 1},
      {"ace-playbook 1 page=4096 byte_seconds=99999999999999999999\n", "has a damaged first line", 1},
      {kHead + good + "full kept soon: hold=0 samp", "is cut off", 3},
      {kHead + good + "full kept never: hold=0\n", "has a line of an unknown context", 3},
      {kHead + good + "full kept late: hold=3 samples=1\n", "has a hold that is no delay", 3},
      {kHead + good + "full kept late: hold=x\n", "has a line without hold=NUMBER", 3},
      {kHead + good + "full kept late: hold=0 samples=1\n", "has a line that is damaged", 3},
      {kHead + good +
           "full kept late: hold=0 samples=1 helpful=0 harmful=0 gained_us=0 weights=0,0,0,0,0,0,0,0\n",
       "has a line that is damaged", 3},
      {kHead + good +
           "full kept late: hold=0 samples=1 helpful=0 harmful=0 gained_us=0 weights=99999999,0,0,0,0,0,0,0\n",
       "has a line that is damaged", 3},
      {kHead + good + std::string(600, 'x') + "\n", "has a line that is damaged", 3},
  };
  for (const auto &c : cases) {
    EXPECT_THAT(parse(c.text), StartsWith(c.wrong)) << c.text;
    EXPECT_EQ(line, c.line) << c.text;
    EXPECT_EQ(text(), kHead) << "nothing of it";
  }
  EXPECT_EQ(parse(kHead + good), "");
}

TEST_F(Playbook, AnyPrefixAndAnyChangedByteIsReadOrRefused) {
  Learner learner;
  for (uint16_t c = 0; c < kContexts; ++c)
    learner.learn(Prices{}, {c, 1, true, false, 1 << 26, 1 << 26, 1 << 30, 1 << 26, 1 << 30, 0});
  for (unsigned c = 0; c < kContexts; ++c) contexts[c] = learner.context(c);
  const std::string whole = text();
  const auto check = [&](const std::string &given) {
    Context before[kContexts];
    memcpy(before, contexts, sizeof before);
    if (parse(given) != "")
      EXPECT_EQ(memcmp(contexts, before, sizeof before), 0) << "nothing is taken of a text that is refused";
  };
  for (size_t i = 0; i < whole.size(); ++i) {
    check(whole.substr(0, i));
    for (char byte : {'\0', '\n', '9', '-', ' ', '\xff'}) {
      std::string changed = whole;
      changed[i] = byte;
      check(changed);
    }
  }
}

TEST_F(Playbook, ExperienceAddsUpBySamples) {
  Context few{}, many{};
  few.samples = 1, many.samples = 3;
  few.weights[0] = many.weights[1] = kOne;
  add_context(few, many);
  EXPECT_EQ(few.samples, 4u);
  EXPECT_EQ(few.weights[0], kOne / 4);
  EXPECT_EQ(few.weights[1], kOne / 4 * 3);
  Context old{}, fresh{};
  old.samples = 1'000'000, fresh.samples = 100;
  old.weights[0] = fresh.weights[1] = kOne;
  add_context(old, fresh);
  EXPECT_EQ(old.weights[1], kOne / 2) << "much of it weighs no more than a hundred";
}

TEST_F(Playbook, APinnedContextIsFollowedAsItStands) {
  Context pinned{}, fresh{}, other{};
  pinned.pinned = true;
  pinned.weights[4] = fresh.weights[0] = other.weights[7] = kOne;
  other.samples = 50;
  add_context(pinned, other);
  EXPECT_EQ(pinned.weights[4], kOne);
  start_from(fresh, pinned);
  EXPECT_TRUE(fresh.pinned);
  EXPECT_EQ(fresh.weights[4], kOne);
  EXPECT_EQ(fresh.weights[0], 0u);
}

TEST_F(Playbook, AnEighthStaysThePriors) {
  Context known{}, fresh{};
  known.samples = 1;
  known.weights[0] = fresh.weights[7] = kOne;
  start_from(fresh, known);
  EXPECT_EQ(fresh.weights[0], kOne / 8 * 7);
  EXPECT_EQ(fresh.weights[7], kOne / 8);
  EXPECT_TRUE(fresh.begun) << "its group has nothing to say any more";
}

}  // namespace
}  // namespace ace
