#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "base/bits.h"
#include "base/config.h"
#include "os/lock.h"
#include "os/os.h"
#include "unit/fake_os.h"

namespace ace {
namespace {

size_t resident_pages(void *start, size_t size) {
  std::vector<unsigned char> pages(size / real_os().page_size);
  EXPECT_EQ(mincore(start, size, pages.data()), 0);
  size_t count = 0;
  for (unsigned char page : pages) count += page & 1;
  return count;
}

// The VmFlags line of the mapping that starts at `start`.
std::string flags_of(const void *start) {
  FILE *file = fopen("/proc/self/smaps", "r");
  char line[512], flags[512] = "";
  bool inside = false;
  while (fgets(line, sizeof line, file) != nullptr) {
    unsigned long from, to;
    char rest;
    if (sscanf(line, "%lx-%lx %c", &from, &to, &rest) == 3)
      inside = from <= address_of(start) && address_of(start) < to;
    if (inside && strncmp(line, "VmFlags:", 8) == 0) strcpy(flags, line);
  }
  fclose(file);
  return flags;
}

TEST(LinuxOs, WhatFailsLeavesErrnoAlone) {
  const OsTable &os = real_os();
  const size_t page = os.page_size;
  auto *p = static_cast<char *>(os.map(4 * page, page));
  ASSERT_TRUE(os.unmap(p + page, page) && os.unmap(p + 3 * page, page));
  errno = EDOM;
  EXPECT_EQ(os.map(size_t{1} << 46, kSuperslabSize), nullptr);
  EXPECT_FALSE(os.resize(p, page, size_t{1} << 46));
  EXPECT_FALSE(os.move(p + 1, page, p + 3 * page, page));
  EXPECT_FALSE(os.guard(p + 3 * page, page));
  EXPECT_FALSE(os.fill_huge(p + 3 * page, page));
  EXPECT_EQ(errno, EDOM);
  os.unmap(p, page);
  os.unmap(p + 2 * page, page);
}

TEST(LinuxOs, MapsAlignedZeroedAndNothingResident) {
  for (size_t alignment : {kPage, kSuperslabSize}) {
    for (size_t size : {kSuperslabSize, kSuperslabSize + kPage}) {
      auto *p = static_cast<unsigned char *>(real_os().map(size, alignment));
      ASSERT_NE(p, nullptr);
      EXPECT_EQ(address_of(p) % alignment, 0u);
      EXPECT_EQ(resident_pages(p, size), 0u);
      for (size_t i = 0; i < size; i += 512) ASSERT_EQ(p[i], 0);
      EXPECT_TRUE(real_os().unmap(p, size));
    }
  }
}

// As on aarch64, whose addresses have a bit more than the map of them: here the system would give higher ones.
TEST(LinuxOs, MapsBelowALimit) {
  // A quarter of it, where the search begins, lies above what the address sanitizer keeps for itself.
  constexpr uintptr_t kLimit = 4 * ((uintptr_t{1} << 44) + (uintptr_t{1} << 32));
  void *usual = mmap(nullptr, kSuperslabSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address_of(usual) < kLimit) GTEST_SKIP() << "the system gives such addresses by itself";
  std::set<void *> places;
  for (int i = 0; i < 200; ++i) {
    auto *p = static_cast<unsigned char *>(map_below(kSuperslabSize, kSuperslabSize, kLimit));
    ASSERT_NE(p, nullptr);
    EXPECT_EQ(address_of(p) % kSuperslabSize, 0u);
    EXPECT_LE(address_of(p) + kSuperslabSize, kLimit);
    p[0] = p[kSuperslabSize - 1] = 1;
    places.insert(p);
  }
  EXPECT_EQ(places.size(), 200u);
  for (void *p : places) munmap(p, kSuperslabSize);
  munmap(usual, kSuperslabSize);
  EXPECT_EQ(map_below(kLimit / 2, kSuperslabSize, kLimit), nullptr) << "there is no room for all sizes";
  auto *ordinary = real_os().map(kSuperslabSize, kSuperslabSize);
  ASSERT_NE(ordinary, nullptr);
  EXPECT_LE(address_of(ordinary), uintptr_t{1} << kAddressBits);
  real_os().unmap(ordinary, kSuperslabSize);
}

TEST(LinuxOs, MappingsRefuseHugePages) {
  void *p = real_os().map(kSuperslabSize, kSuperslabSize);
  EXPECT_NE(flags_of(p).find(" nh"), std::string::npos) << flags_of(p);
  real_os().unmap(p, kSuperslabSize);
}

TEST(LinuxOs, SharesAFileThatIsItsOwn) {
  const std::string path = "/dev/shm/ace-test-" + std::to_string(getpid());
  constexpr size_t kReserved = 64 * kPage;
  auto *p = static_cast<unsigned char *>(real_os().share(path.c_str(), kReserved, kPage));
  ASSERT_NE(p, nullptr);
  struct stat info;
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_EQ(info.st_size, static_cast<off_t>(kReserved));
  EXPECT_LE(info.st_blocks * 512, sysconf(_SC_PAGESIZE)) << "what is reserved takes no memory";
  EXPECT_TRUE(real_os().make_resident(p + kReserved / 2, kReserved / 2));
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_GE(info.st_blocks * 512, static_cast<off_t>(kReserved / 2));
  p[0] = 7, p[kReserved - 1] = 8;
  const int file = open(path.c_str(), O_RDONLY);
  unsigned char byte = 0;
  EXPECT_EQ(pread(file, &byte, 1, kReserved - 1), 1);
  EXPECT_EQ(byte, 8);
  close(file);
  EXPECT_EQ(real_os().share(path.c_str(), kReserved, kPage), nullptr);
  EXPECT_EQ(errno, EEXIST);
  real_os().unmap(p, kReserved);
  unlink(path.c_str());
  EXPECT_EQ(real_os().share("/nowhere/page", kReserved, kPage), nullptr);
  EXPECT_EQ(errno, ENOENT);
}

TEST(LinuxOs, AbsurdSizesAreRefused) {
  EXPECT_EQ(real_os().map(SIZE_MAX - kSuperslabSize + 1, kSuperslabSize), nullptr);
  EXPECT_EQ(real_os().map(size_t{1} << 60, kSuperslabSize), nullptr);
}

// The system gives it and ends the process when it is used, unless it was asked for in the way that has it
// checked.
TEST(LinuxOs, MoreThanTheMachineHasIsRefused) {
  std::ifstream file("/proc/sys/vm/overcommit_memory");
  int overcommit = 1;
  if (!(file >> overcommit) || overcommit == 1) GTEST_SKIP() << "here the system gives any amount";
  EXPECT_EQ(real_os().map(size_t{1} << 45, kSuperslabSize), nullptr);
}

TEST(LinuxOs, PurgedPagesAreGoneAndReadAsZero) {
  constexpr size_t kSize = 8 * kPage;
  auto *p = static_cast<unsigned char *>(real_os().map(kSize, kPage));
  memset(p, 7, kSize);
  EXPECT_EQ(resident_pages(p, kSize), 8u);
  EXPECT_TRUE(real_os().purge(p + 2 * kPage, 3 * kPage));
  EXPECT_EQ(resident_pages(p, kSize), 5u);
  for (size_t i = 0; i < kSize; ++i) ASSERT_EQ(p[i], i >= 2 * kPage && i < 5 * kPage ? 0 : 7);
  real_os().unmap(p, kSize);
}

TEST(LinuxOs, PurgeOfUnmappedMemoryFails) {
  void *p = real_os().map(kPage, kPage);
  real_os().unmap(p, kPage);
  EXPECT_FALSE(real_os().purge(p, kPage));
}

TEST(LinuxOs, UnmapsAllOfALargeMappingAndNothingElse) {
  constexpr size_t kSize = 2 * kSuperslabSize + 3 * kPage;
  auto *p = static_cast<unsigned char *>(real_os().map(kSize + 2 * kPage, kPage));
  memset(p, 7, kSize + 2 * kPage);
  EXPECT_TRUE(real_os().unmap(p + kPage, kSize));
  for (size_t i = 0; i < kSize; i += 64 * kPage) ASSERT_EQ(flags_of(p + kPage + i), "") << i;
  EXPECT_EQ(p[kPage - 1], 7);
  EXPECT_EQ(p[kPage + kSize], 7);
  real_os().unmap(p, kPage);
  real_os().unmap(p + kPage + kSize, kPage);
}

TEST(LinuxOs, ResizeAndMoveKeepTheContents) {
  constexpr size_t kSize = 4 * kPage;
  auto *p = static_cast<unsigned char *>(real_os().map(2 * kSize, kPage));
  memset(p, 9, kSize);
  ASSERT_TRUE(real_os().resize(p, 2 * kSize, kSize));
  EXPECT_EQ(resident_pages(p, kSize), 4u);
  auto *target = static_cast<unsigned char *>(real_os().map(2 * kSize, kPage));
  ASSERT_TRUE(real_os().move(p, kSize, target, 2 * kSize));
  for (size_t i = 0; i < 2 * kSize; ++i) ASSERT_EQ(target[i], i < kSize ? 9 : 0);
  real_os().unmap(target, 2 * kSize);
}

TEST(LinuxOs, ResizeFailsWhereSomethingIsInTheWay) {
  auto *p = static_cast<unsigned char *>(real_os().map(4 * kPage, kPage));
  p[0] = 1;
  // The first two pages cannot grow over the page with other protection behind them.
  ASSERT_EQ(mprotect(p + 2 * kPage, kPage, PROT_NONE), 0);
  EXPECT_FALSE(real_os().resize(p, 2 * kPage, 3 * kPage));
  EXPECT_EQ(p[0], 1);
  real_os().unmap(p, 4 * kPage);
}

TEST(LinuxOs, ClockDoesNotGoBack) {
  uint64_t a = real_os().now();
  usleep(2000);
  EXPECT_GE(real_os().now() - a, 2'000'000u);
  EXPECT_EQ(real_os().page_size, static_cast<size_t>(sysconf(_SC_PAGESIZE)));
}

TEST(LinuxOs, ThreadTimeStandsStillWhileTheThreadSleeps) {
  const uint64_t begin = real_os().thread_time(), clock = real_os().now();
  usleep(20000);
  const uint64_t asleep = real_os().thread_time() - begin;
  EXPECT_LT(asleep, (real_os().now() - clock) / 2);
  while (real_os().thread_time() - begin <= asleep) {
  }
}

TEST(FakeOsTable, FailsTheNthCallAndRecordsPurges) {
  test::FakeOs fake;
  fake.fail(test::OsCall::kMap, 2);
  auto *p = static_cast<std::byte *>(os().map(4 * kPage, kPage));
  ASSERT_NE(p, nullptr);
  EXPECT_EQ(os().map(kPage, kPage), nullptr);
  EXPECT_EQ(fake.calls(test::OsCall::kMap), 2u);
  EXPECT_TRUE(os().purge(p + kPage, 2 * kPage));
  EXPECT_EQ(fake.take_purged(), (std::vector<test::Range>{{address_of(p) + kPage, address_of(p) + 3 * kPage}}));
  fake.fail_always(test::OsCall::kUnmap);
  EXPECT_FALSE(os().unmap(p, 4 * kPage));
  fake.fail_never();
  EXPECT_TRUE(os().unmap(p, 4 * kPage));
  uint64_t now = os().now();
  EXPECT_EQ(os().now(), now);
  fake.advance(5);
  EXPECT_EQ(os().now(), now + 5);
}

TEST(Lock, ResetUnlocks) {
  Lock lock;
  lock.lock();
  lock.reset();
  lock.lock();
  lock.unlock();
}

}  // namespace
}  // namespace ace
