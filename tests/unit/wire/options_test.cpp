// The table of options. Tests that need options as they are at the start of a process run in one of their own
// (GoogleTest's death tests of style "threadsafe").
#include "wire/options.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <thread>

#include "unit/heap_test.h"

namespace ace {
namespace {

using test::OptionGuard;

std::vector<ace_option_info> all_rows() {
  std::vector<ace_option_info> rows;
  ace_option_info info;
  for (unsigned i = 0; ace_option_describe(i, &info) == 0; ++i) rows.push_back(info);
  return rows;
}

TEST(Options, AtMostTwentyRowsEachDescribed) {
  std::set<std::string> names;
  for (const ace_option_info &row : all_rows()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    std::string environment = "ACE_";
    for (const char *c = row.name; *c != '\0'; ++c) environment += static_cast<char>(toupper(*c));
    EXPECT_EQ(row.environment, environment);
    EXPECT_GT(strlen(row.values), 0u) << row.name;
    EXPECT_GT(strlen(row.description), 10u) << row.name;
  }
  EXPECT_GE(names.size(), 5u);
  EXPECT_LE(names.size(), 20u);
}

TEST(Options, EveryDefaultParses) {
  for (const ace_option_info &row : all_rows()) {
    OptionGuard guard(row.name, row.default_value);
    EXPECT_STREQ(ace_option_get(row.name), row.default_value) << row.name;
  }
}

TEST(Options, EveryRowRefusesBadValuesAndKeepsItsOwn) {
  const std::string long_text(10'000, 'x');
  for (const ace_option_info &row : all_rows()) {
    const std::string before = ace_option_get(row.name);
    const uint64_t number = ace_option_number(row.name);
    EXPECT_EQ(ace_option_set(row.name, ""), -2) << row.name;
    EXPECT_EQ(ace_option_set(row.name, long_text.c_str()), -2) << row.name;
    // A file's path may be any text.
    const bool is_path = strstr(row.values, "a file's path") != nullptr;
    if (!is_path) EXPECT_EQ(ace_option_set(row.name, "no such value"), -2) << row.name;
    EXPECT_EQ(before, ace_option_get(row.name));
    EXPECT_EQ(number, ace_option_number(row.name));
  }
}

TEST(Options, BadValuesByParser) {
  const struct {
    const char *name, *value;
  } bad[] = {{"limit", "-1"},
             {"limit", "1.5g"},
             {"limit", "12x"},
             {"limit", "99999999999999999999"},
             {"limit", "18446744073709551615g"},
             {"limit", " 1"},
             {"limit", "k"},
             {"idle_delay", "100"},
             {"idle_delay", "ms"},
             {"idle_delay", "-1ms"},
             {"idle_delay", "1h"},
             {"idle_delay", "18446744073s"},
             {"worker", "yes"},
             {"worker", "ON "},
             {"mode", "learned"},
             {"memory_price", "0"},
             {"memory_price", "1023k"},
             {"memory_price", "half"},
             {"bad_pointer", "ask"},
             {"domains", "raw,"},
             {"domains", ","},
             {"domains", "raw,ram"},
             {"domains", "ra"}};
  for (const auto &[name, value] : bad) EXPECT_EQ(ace_option_set(name, value), -2) << name << "=" << value;
}

TEST(Options, GoodValuesAndTheirNumbers) {
  const struct {
    const char *name, *value;
    uint64_t number;
  } good[] = {{"limit", "0", 0},
              {"limit", "4097", 4097},
              {"limit", "64k", 64u << 10},
              {"limit", "3M", 3u << 20},
              {"limit", "2g", 2ull << 30},
              {"idle_delay", "250us", 250'000},
              {"idle_delay", "5ms", 5'000'000},
              {"idle_delay", "2s", 2'000'000'000},
              {"worker", "off", 0},
              {"worker", "1", 1},
              {"worker", "tick", 2},
              {"mode", "off", 0},
              {"mode", "static", 1},
              {"mode", "learn", 3},
              {"memory_price", "512m", 512u << 20},
              {"memory_price", "full", 8ull << 30},
              {"memory_price", "conservative", 128u << 20},
              {"domains", "obj", 4},
              {"domains", "mem,raw", 1 | 2},
              {"report", "/some/file", 0}};
  for (const auto &[name, value, number] : good) {
    OptionGuard guard(name, value);
    EXPECT_STREQ(ace_option_get(name), value);
    EXPECT_EQ(ace_option_number(name), number) << name << "=" << value;
  }
}

TEST(Options, UnknownNames) {
  EXPECT_EQ(ace_option_set("mod", "off"), -1);
  EXPECT_EQ(ace_option_set("", "off"), -1);
  EXPECT_EQ(ace_option_get("mod"), nullptr);
  EXPECT_EQ(ace_option_number("mod"), 0u);
  ace_option_info info;
  EXPECT_EQ(ace_option_describe(1000, &info), -1);
}

TEST(Options, SettingActsAtOnce) {
  OptionGuard mode("mode", "off");
  EXPECT_EQ(options().mode, Mode::kOff);
  OptionGuard again("mode", "static");
  EXPECT_EQ(options().mode, Mode::kStatic);
}

TEST(Options, AFilesNameIsNotReadWhileItIsSet) {
  OptionGuard guard("log", "/some/file");
  std::atomic<bool> copied{false};
  char path[kOptionTextMax] = "";
  lock_options();  // as whoever sets one has it
  std::thread reader([&] {
    EXPECT_TRUE(copy_file_option("log", path));
    copied = true;
  });
  usleep(50'000);
  EXPECT_FALSE(copied);
  unlock_options();
  reader.join();
  EXPECT_STREQ(path, "/some/file");
  OptionGuard none("log", "none");
  EXPECT_FALSE(copy_file_option("log", path));
}

// Exits with 0 where option `name` reads `value` in a process whose environment was set before.
void exit_with_option(const char *name, const char *value) {
  exit(strcmp(ace_option_get(name), value) == 0 ? 0 : 1);
}

class OptionsAtStart : public testing::Test {
 protected:
  OptionsAtStart() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};
using OptionsAtStartDeathTest = OptionsAtStart;

TEST_F(OptionsAtStartDeathTest, TheEnvironmentIsRead) {
  setenv("ACE_IDLE_DELAY", "7ms", 1);
  EXPECT_EXIT(exit_with_option("idle_delay", "7ms"), testing::ExitedWithCode(0), "^$");
  unsetenv("ACE_IDLE_DELAY");
}

TEST_F(OptionsAtStartDeathTest, RelativePathsAreThoseOfTheFirstFolder) {
  char folder[200];
  ASSERT_NE(getcwd(folder, sizeof folder), nullptr);
  const std::string path = std::string(folder) + "/some.file", too_long(kOptionTextMax - 1, 'x');
  setenv("ACE_RECORD", "some.file", 1);
  EXPECT_EXIT(exit_with_option("record", path.c_str()), testing::ExitedWithCode(0), "^$");
  setenv("ACE_RECORD", too_long.c_str(), 1);
  EXPECT_EXIT(exit_with_option("record", too_long.c_str()), testing::ExitedWithCode(0), "^$");
  setenv("ACE_RECORD", "/some.file", 1);
  EXPECT_EXIT(exit_with_option("record", "/some.file"), testing::ExitedWithCode(0), "^$");
  unsetenv("ACE_RECORD");
  for (const char *word : {"none", "stderr"}) {
    setenv("ACE_REPORT", word, 1);
    EXPECT_EXIT(exit_with_option("report", word), testing::ExitedWithCode(0), "^$");
  }
  unsetenv("ACE_REPORT");
}

TEST_F(OptionsAtStartDeathTest, ABadValueIsSaidAndTheDefaultUsed) {
  setenv("ACE_IDLE_DELAY", "soon", 1);
  EXPECT_EXIT(exit_with_option("idle_delay", "100ms"), testing::ExitedWithCode(0),
              "ACE_IDLE_DELAY=soon is no value of this option.*using 100ms");
  unsetenv("ACE_IDLE_DELAY");
}

TEST_F(OptionsAtStartDeathTest, UnknownNamesAreSaidWhereVerbose) {
  setenv("ACE_LIMITS", "1", 1);
  EXPECT_EXIT(exit_with_option("limit", "0"), testing::ExitedWithCode(0), "^$");
  setenv("ACE_VERBOSE", "on", 1);
  EXPECT_EXIT(exit_with_option("limit", "0"), testing::ExitedWithCode(0), "no option ACE_LIMITS");
  unsetenv("ACE_VERBOSE");
  unsetenv("ACE_LIMITS");
}

}  // namespace
}  // namespace ace
