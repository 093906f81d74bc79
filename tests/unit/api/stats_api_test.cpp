// The statistics: lines that add up, structs of other sizes, the field list.
#include <algorithm>
#include <numeric>
#include <random>
#include <set>

#include "unit/heap_test.h"

namespace ace {
namespace {

using test::HeapTest;

class Stats : public HeapTest {
 protected:
  void expect_sums(const ace_stats &s) {
    EXPECT_EQ(s.live_bytes, s.tiny_live_bytes + s.mid_live_bytes + s.large_live_bytes);
    EXPECT_EQ(s.live_blocks, s.tiny_live_blocks + s.mid_live_blocks + s.large_live_blocks);
    EXPECT_EQ(s.resident_bytes, s.faulted_bytes - s.returned_bytes - s.released_bytes);
    EXPECT_GE(s.peak_resident_bytes, s.resident_bytes);
    EXPECT_GE(s.mapped_bytes, s.resident_bytes);
    const auto *bytes = s.kind_live_bytes, *blocks = s.kind_live_blocks;
    EXPECT_EQ(std::accumulate(bytes, bytes + ACE_KIND_GROUPS_MAX, uint64_t{0}), s.tiny_live_bytes);
    EXPECT_EQ(std::accumulate(blocks, blocks + ACE_KIND_GROUPS_MAX, uint64_t{0}), s.tiny_live_blocks);
  }
};

TEST_F(Stats, TheLinesAddUpAndAreWhatAWalkFinds) {
  make(3);
  std::mt19937 random(5);
  std::vector<void *> blocks;
  for (int i = 0; i < 5000; ++i) {
    if (random() % 3 != 0 || blocks.empty()) {
      const size_t size = random() % 100 == 0 ? random() % 1'000'000 : random() % 4000;
      blocks.push_back(ace_heap_alloc_kind(heap, size, random() % 5));
    } else {
      std::swap(blocks[random() % blocks.size()], blocks.back());
      ace_heap_free(heap, blocks.back());
      blocks.pop_back();
    }
    if (i % 500 != 0) continue;
    const ace_stats s = stats();
    expect_sums(s);
    uint64_t bytes = 0, count = 0;
    for (const test::Seen &seen : test::walk(heap)) {
      bytes += seen.usable;
      ++count;
    }
    EXPECT_EQ(s.live_bytes, bytes);
    EXPECT_EQ(s.live_blocks, count);
    if (i % 1000 == 0) ace_trim(heap, SIZE_MAX);
  }
}

TEST_F(Stats, KindsAreCountedExactly) {
  make(2);
  fill(7, 64, 0);
  fill(5, 64, 1);
  fill(3, 1000, 9);
  const ace_stats s = stats();
  EXPECT_EQ(s.kind_groups, 2u);
  EXPECT_EQ(s.kind_live_blocks[0], 7u);
  EXPECT_EQ(s.kind_live_bytes[0], 7u * 64);
  EXPECT_EQ(s.kind_live_blocks[1], 8u);
  EXPECT_EQ(s.kind_live_bytes[1], 5u * 64 + 3 * 1024);
}

TEST_F(Stats, ResidentIsWhatTheSystemSees) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the tool gives back what other tests have freed, whenever it likes";
#endif
  // 40 MiB more or less is far above what else this process does meanwhile.
  auto rss = [] {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    EXPECT_EQ(fscanf(file, "%*d %ld", &pages), 1);
    fclose(file);
    return static_cast<uint64_t>(pages) * 4096;
  };
  const uint64_t before = rss();
  auto blocks = fill(40'000, 1024);
  const uint64_t grown = rss() - before;
  const uint64_t resident = stats().resident_bytes;
  EXPECT_GT(grown, resident * 9 / 10);
  free_all(blocks);
  ace_trim(heap, SIZE_MAX);
  EXPECT_EQ(stats().resident_bytes, 0u);
  EXPECT_LT(rss(), before + grown / 3);
}

TEST_F(Stats, TrimsSayWhatTheyLookedAtAndGaveBack) {
  keep_what_is_free();
  auto blocks = fill(4096, 1024);
  const uint64_t resident = stats().resident_bytes, metadata = stats().metadata_bytes;
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (i % 16 != 0) ace_heap_free(heap, blocks[i]);
  }
  const size_t given = ace_trim(heap, SIZE_MAX);
  ace_stats s = stats();
  EXPECT_GT(given, resident / 2);
  EXPECT_EQ(s.trimmed_bytes, given);
  EXPECT_EQ(s.trimmed_bytes, s.returned_bytes + s.released_bytes);
  EXPECT_EQ(s.walked_bytes, resident);
  EXPECT_LE(s.purge_call_ns, s.purge_ns);
  ace_trim_shared(heap, SIZE_MAX);
  EXPECT_EQ(stats().walked_bytes, resident + s.resident_bytes);
  for (size_t i = 0; i < blocks.size(); i += 16) ace_heap_free(heap, blocks[i]);
  ace_trim(heap, SIZE_MAX);
  EXPECT_LT(stats().metadata_bytes, metadata);
  EXPECT_EQ(stats().peak_metadata_bytes, metadata) << "the most that it ever was";
}

TEST_F(Stats, StructsOfOtherSizes) {
  fill(3, 64);
  struct {
    ace_stats stats;
    uint64_t later[4];
  } both;
  memset(&both, 0xff, sizeof both);
  EXPECT_EQ(ace_heap_stats(heap, &both.stats, sizeof both), 0);
  EXPECT_EQ(both.stats.live_blocks, 3u);
  for (uint64_t field : both.later) EXPECT_EQ(field, 0u) << "fields that this library does not know";
  memset(&both, 0xff, sizeof both);
  EXPECT_EQ(ace_heap_stats(heap, &both.stats, 2 * sizeof(uint64_t)), 0);
  EXPECT_EQ(both.stats.live_blocks, 3u);
  EXPECT_EQ(both.stats.tiny_live_bytes, UINT64_MAX) << "beyond the caller's struct nothing is written";
  EXPECT_EQ(ace_heap_stats(heap, &both.stats, 0), -1);
  EXPECT_EQ(ace_heap_stats_shared(heap, &both.stats, 0), -1);
}

TEST_F(Stats, SharedCountsListedBlocksAsLive) {
  auto blocks = fill(10, 64);
  for (void *block : blocks) ace_heap_free(heap, block);
  ace_stats shared;
  EXPECT_EQ(ace_heap_stats_shared(heap, &shared, sizeof shared), 0);
  EXPECT_EQ(shared.live_blocks, 64u) << "the page that was carved";
  EXPECT_EQ(stats().live_blocks, 0u);
}

TEST_F(Stats, FieldsAreListedOnceInOrder) {
  std::set<std::string> names;
  ace_field_info info;
  unsigned count = 0;
  for (; ace_stats_field(count, &info) == 0; ++count) {
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    EXPECT_EQ(info.offset, count * sizeof(uint64_t));
    EXPECT_GT(strlen(info.description), 5u);
    EXPECT_THAT(info.unit,
                testing::AnyOf(testing::StrEq("bytes"), testing::StrEq("count"), testing::StrEq("ns")));
    EXPECT_THAT(info.type, testing::AnyOf(testing::StrEq("gauge"), testing::StrEq("counter")));
  }
  EXPECT_EQ(count * sizeof(uint64_t), offsetof(ace_stats, phase_entries));
  EXPECT_EQ(ace_stats_field(count + 100, &info), -1);
}

TEST_F(Stats, PhaseNames) {
  std::set<std::string> names;
  for (unsigned i = 0; i < ACE_PHASES; ++i) names.insert(ace_phase_name(i));
  EXPECT_EQ(names.size(), size_t{ACE_PHASES});
  EXPECT_EQ(ace_phase_name(ACE_PHASES), nullptr);
}

}  // namespace
}  // namespace ace
