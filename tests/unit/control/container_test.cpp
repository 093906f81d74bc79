// Container limits and memory pressure, from files as the kernel writes them.
#include "control/container.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

namespace ace {
namespace {

namespace fs = std::filesystem;
constexpr uint64_t kSecond = 1'000'000'000;

class Container : public testing::Test {
 protected:
  Container() {
    char name[] = "/tmp/ace-container-XXXXXX";
    root = mkdtemp(name);
    set_container_root_for_tests(root.c_str());
  }
  ~Container() override {
    set_container_root_for_tests("");
    fs::remove_all(root);
  }
  void write(const std::string &path, const std::string &text) {
    fs::create_directories(fs::path(root + path).parent_path());
    std::ofstream(root + path) << text;
  }
  // Long after the last look.
  bool is_short() { return is_memory_short(now += 2 * kSecond); }

  std::string root;
  uint64_t now = 0;
};

TEST_F(Container, WhereTheSystemSaysNothingMemoryIsNotShort) {
  errno = EDOM;
  EXPECT_FALSE(is_short());
  EXPECT_EQ(errno, EDOM);
}

TEST_F(Container, VersionTwo) {
  write("/proc/self/cgroup", "0::/system.slice/app\n");
  write("/sys/fs/cgroup/system.slice/app/memory.max", "1000\n");
  write("/sys/fs/cgroup/system.slice/app/memory.current", "899\n");
  EXPECT_FALSE(is_short());
  write("/sys/fs/cgroup/system.slice/app/memory.current", "900\n");
  EXPECT_TRUE(is_short());
  write("/sys/fs/cgroup/system.slice/app/memory.max", "max\n");
  EXPECT_FALSE(is_short());
}

TEST_F(Container, ALimitOfAGroupAroundItCounts) {
  write("/proc/self/cgroup", "0::/job/step/task\n");
  write("/sys/fs/cgroup/job/step/task/memory.max", "max\n");
  write("/sys/fs/cgroup/job/step/task/memory.current", "500\n");
  write("/sys/fs/cgroup/job/step/memory.max", "2000\n");
  write("/sys/fs/cgroup/job/step/memory.current", "900\n");
  write("/sys/fs/cgroup/job/memory.max", "1000\n");
  write("/sys/fs/cgroup/job/memory.current", "899\n");
  EXPECT_FALSE(is_short());
  write("/sys/fs/cgroup/job/memory.current", "950\n");
  EXPECT_TRUE(is_short());
  write("/sys/fs/cgroup/job/memory.stat", "anon 500\ninactive_file 400\n");
  EXPECT_FALSE(is_short());
}

TEST_F(Container, SoDoesWhereItIsThrottled) {
  write("/proc/self/cgroup", "0::/app\n");
  write("/sys/fs/cgroup/app/memory.max", "2000\n");
  write("/sys/fs/cgroup/app/memory.high", "1000\n");
  write("/sys/fs/cgroup/app/memory.current", "899\n");
  EXPECT_FALSE(is_short());
  write("/sys/fs/cgroup/app/memory.current", "900\n");
  EXPECT_TRUE(is_short());
  write("/sys/fs/cgroup/app/memory.high", "max\n");
  EXPECT_FALSE(is_short());
  write("/sys/fs/cgroup/app/memory.high", "4000\n");
  write("/sys/fs/cgroup/app/memory.current", "1900\n");
  EXPECT_TRUE(is_short()) << "the least of them counts";
}

TEST_F(Container, VersionTwoInsideItsNamespace) {
  write("/proc/self/cgroup", "0::/../outside\n");
  write("/sys/fs/cgroup/memory.max", "1000\n");
  write("/sys/fs/cgroup/memory.current", "950\n");
  EXPECT_TRUE(is_short());
}

TEST_F(Container, VersionOne) {
  write("/proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/docker/x\n");
  write("/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "1000\n");
  write("/sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes", "950\n");
  write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "950\n");  // of the machine
  EXPECT_TRUE(is_short());
}

TEST_F(Container, ALimitOfAGroupAroundItCountsInVersionOne) {
  write("/proc/self/cgroup", "4:memory:/docker/x\n");
  for (const char *group : {"/docker/x", "/docker"}) {
    const std::string folder = std::string("/sys/fs/cgroup/memory") + group;
    write(folder + "/memory.limit_in_bytes", "9223372036854771712\n");
    write(folder + "/memory.usage_in_bytes", "950\n");
  }
  EXPECT_FALSE(is_short());
  write("/sys/fs/cgroup/memory/docker/memory.limit_in_bytes", "1000\n");
  EXPECT_TRUE(is_short());
}

TEST_F(Container, PressureOfTheGroupOrOfTheMachine) {
  write("/proc/pressure/memory", "some avg10=9.99 avg60=50.00 avg300=0.00 total=1\nfull avg10=99.00\n");
  EXPECT_FALSE(is_short());
  write("/proc/pressure/memory", "some avg10=10.00 avg60=0.00 avg300=0.00 total=1\n");
  EXPECT_TRUE(is_short());
}

TEST_F(Container, FilePagesThatCanBeDroppedAreNotInUse) {
  write("/proc/self/cgroup", "0::/app\n");
  write("/sys/fs/cgroup/app/memory.max", "1000\n");
  write("/sys/fs/cgroup/app/memory.current", "990\n");
  write("/sys/fs/cgroup/app/memory.stat", "anon 500\ninactive_file 400\nactive_file 90\n");
  EXPECT_FALSE(is_short());
  write("/sys/fs/cgroup/app/memory.stat", "anon 900\ninactive_file 10\n");
  EXPECT_TRUE(is_short());
}

TEST_F(Container, OfVersionOneThoseOfTheWholeGroup) {
  write("/proc/self/cgroup", "4:memory:/docker/x\n");
  write("/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "1000\n");
  write("/sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes", "990\n");
  write("/sys/fs/cgroup/memory/docker/x/memory.stat", "cache 500\ninactive_file 0\ntotal_inactive_file 400\n");
  EXPECT_FALSE(is_short());
}

TEST_F(Container, ItLooksOnceASecond) {
  write("/proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n");
  EXPECT_FALSE(is_memory_short(kSecond));
  write("/proc/pressure/memory", "some avg10=90.00 avg60=0.00 avg300=0.00 total=1\n");
  EXPECT_FALSE(is_memory_short(kSecond + kSecond / 2));
  EXPECT_TRUE(is_memory_short(2 * kSecond));
}

TEST_F(Container, DamagedFilesSayNothing) {
  write("/proc/self/cgroup", "\n:\nhello\n0:\n0::/app");
  write("/sys/fs/cgroup/app/memory.max", "");
  write("/sys/fs/cgroup/app/memory.current", "many\n");
  write("/proc/pressure/memory", "some avg10=\n");
  EXPECT_FALSE(is_short());
}

}  // namespace
}  // namespace ace
