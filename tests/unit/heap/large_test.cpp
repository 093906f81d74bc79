#include "heap/large.h"

#include <sys/mman.h>

#include <fstream>
#include <string>
#include <thread>

#include "heap/address_map.h"
#include "unit/fake_os.h"
#include "unit/heap_test.h"

namespace ace {
namespace {

using test::FakeOs;
using test::HeapTest;
using test::OsCall;

constexpr size_t kMiB = size_t{1} << 20;

class Large : public HeapTest {
 protected:
  unsigned char *alloc(size_t size) {
    auto *p = static_cast<unsigned char *>(ace_heap_alloc(heap, size));
    if (p != nullptr) write(p, size);
    return p;
  }
  unsigned char *realloc(void *p, size_t size) {
    return static_cast<unsigned char *>(ace_heap_realloc(heap, p, size, 0));
  }
  static void write(unsigned char *p, size_t size) {
    for (size_t i = 0; i < size; ++i) p[i] = static_cast<unsigned char>(i * 7 + (i >> 12));
  }
  static bool intact(const unsigned char *p, size_t size) {
    for (size_t i = 0; i < size; ++i) {
      if (p[i] != static_cast<unsigned char>(i * 7 + (i >> 12))) return false;
    }
    return true;
  }
};

TEST_F(Large, EachBlockIsAMappingOfItsOwn) {
  unsigned char *p = alloc(kMidMax + 1), *q = alloc(3 * kMiB);
  EXPECT_EQ(ace_usable_size(p), round_up(kMidMax + 1, kPage));
  EXPECT_EQ(ace_usable_size(q), 3 * kMiB);
  EXPECT_NE(superslab_of(p), superslab_of(q));
  EXPECT_EQ(stats().large_live_blocks, 2u);
  EXPECT_EQ(stats().large_live_bytes, ace_usable_size(p) + ace_usable_size(q));
  ace_heap_free(heap, p);
  EXPECT_TRUE(intact(q, 3 * kMiB));
  ace_heap_free(heap, q);
  EXPECT_EQ(stats().large_live_blocks, 0u);
  ace_trim(heap, SIZE_MAX);
  EXPECT_TRUE(is_foreign(p));
  EXPECT_EQ(stats().mapped_bytes, kSuperslabSize);
}

// Within a block's first 2 MiB, where others may have what lies behind its end.
TEST_F(Large, WhatLiesBehindItsEndIsNotOurs) {
  unsigned char *p = alloc(600'000);
  const auto at = [&](size_t offset) { return reinterpret_cast<unsigned char *>(superslab_of(p)) + offset; };
  const auto expect_end = [&](size_t size) {
    const size_t end = kPage + round_up(size, kPage);
    EXPECT_EQ(superslab_of(p)->head.mapped, end);
    for (size_t offset : {size_t{0}, kPage, end - 1}) EXPECT_FALSE(is_foreign(at(offset % kSuperslabSize)));
    if (end < kSuperslabSize) {
      for (size_t offset : {end, kSuperslabSize - 1}) EXPECT_TRUE(is_foreign(at(offset)));
    }
    EXPECT_EQ(is_ours(p), end >= kSuperslabSize);
  };
  expect_end(600'000);
  for (size_t size : {1'000'000, 5'000'000, 2'000'000, 3'000'000, 700'000}) {
    p = realloc(p, size);
    expect_end(size);
  }
  FakeOs fake;
  fake.fail_always(OsCall::kResize);
  EXPECT_EQ(realloc(p, 600'000), p);
  expect_end(700'000);
  ace_heap_free(heap, p);
  ace_trim(heap, SIZE_MAX);
  EXPECT_TRUE(is_foreign(p));
}

// ---- kept blocks

TEST_F(Large, AFreedBlockServesTheNextOfItsSize) {
  keep_what_is_free();
  unsigned char *p = alloc(3 * kMiB);
  const auto before = stats();
  ace_heap_free(heap, p);
  EXPECT_EQ(stats().resident_bytes, before.resident_bytes);
  EXPECT_EQ(test::audit(heap), "");
  EXPECT_EQ(alloc(2 * kMiB), p) << "up to twice as large will do";
  EXPECT_EQ(stats().faulted_bytes, before.faulted_bytes);
  EXPECT_EQ(stats().resident_bytes, before.resident_bytes);
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(Large, OfAMuchLargerFreedBlockTheRestGoesBack) {
  keep_what_is_free();
  unsigned char *p = alloc(3 * kMiB);
  const auto before = stats();
  ace_heap_free(heap, p);
  EXPECT_EQ(alloc(kMiB), p);
  EXPECT_EQ(stats().faulted_bytes, before.faulted_bytes);
  EXPECT_EQ(stats().resident_bytes, before.resident_bytes - 2 * kMiB);
  EXPECT_EQ(stats().mapped_bytes, before.mapped_bytes - 2 * kMiB);
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(Large, FreedBlocksMakeRoomForWhatTheyDoNotFit) {
  keep_what_is_free();
  unsigned char *a = alloc(kMiB), *b = alloc(kMiB);
  const auto before = stats();
  ace_heap_free(heap, a);
  ace_heap_free(heap, b);
  EXPECT_EQ(stats().resident_bytes, before.resident_bytes);
  auto *c = alloc(2 * kMiB);
  EXPECT_EQ(stats().resident_bytes, before.resident_bytes);
  unsigned char *d = alloc(kMiB);
  ace_heap_free(heap, d);
  EXPECT_NE(ace_heap_realloc(heap, c, 3 * kMiB, 0), nullptr) << "a buffer that grows as well";
  EXPECT_EQ(stats().resident_bytes, before.resident_bytes + kMiB);
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(Large, OfSeveralFreedBlocksOneThatFitsIsTaken) {
  keep_what_is_free();
  unsigned char *small = alloc(kMiB), *large = alloc(3 * kMiB);
  const auto before = stats();
  ace_heap_free(heap, small);
  ace_heap_free(heap, large);
  EXPECT_EQ(alloc(kMiB), small);
  EXPECT_EQ(stats().resident_bytes, before.resident_bytes);
}

TEST_F(Large, AKeptBlockIsClearedForCalloc) {
  unsigned char *p = alloc(2 * kMiB);
  ace_heap_free(heap, p);
  auto *q = static_cast<unsigned char *>(ace_heap_calloc(heap, 2, kMiB, 0));
  ASSERT_EQ(q, p);
  for (size_t i = 0; i < 2 * kMiB; ++i) ASSERT_EQ(q[i], 0);
}

TEST_F(Large, LittleIsKept) {
  std::vector<void *> blocks;
  for (int i = 0; i < 10; ++i) blocks.push_back(alloc(kMiB));
  free_all(blocks);
  EXPECT_LE(stats().resident_bytes, 4 * kMiB);
  EXPECT_GE(stats().resident_bytes, 3 * kMiB);
  ace_heap_free(heap, alloc(40 * kMiB));
  EXPECT_LE(stats().resident_bytes, 4 * kMiB);
  ace_trim(heap, SIZE_MAX);
  std::vector<void *> many;
  for (int i = 0; i < 80; ++i) many.push_back(alloc(kMiB));
  free_all(many);
  EXPECT_LE(stats().resident_bytes, 21 * kMiB) << "a quarter of the peak";
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(Large, WhatWasMissedIsKeptUntilTheNextTrim) {
  auto round = [this] {
    std::vector<void *> blocks;
    for (int i = 0; i < 32; ++i) blocks.push_back(alloc(kMiB));
    free_all(blocks);
  };
  round();
  EXPECT_EQ(stats().resident_bytes, 8 * kMiB);
  round();
  EXPECT_EQ(stats().resident_bytes, 32 * kMiB);
  const uint64_t faulted = stats().faulted_bytes;
  round();
  EXPECT_EQ(stats().faulted_bytes, faulted);
  EXPECT_EQ(test::audit(heap), "");
  ace_trim(heap, SIZE_MAX);
  EXPECT_EQ(stats().resident_bytes, 0u);
  round();
  EXPECT_EQ(stats().resident_bytes, 8 * kMiB);
}

TEST_F(Large, WhatWasMissedCountsOnce) {
  auto round = [this](int count) {
    std::vector<void *> blocks;
    for (int i = 0; i < count; ++i) blocks.push_back(alloc(kMiB));
    free_all(blocks);
  };
  round(32);
  round(80);
  EXPECT_EQ(stats().resident_bytes, 44 * kMiB) << "a quarter of the peak, and the 24 that were dropped before";
}

TEST_F(Large, WhatMadeRoomAndIsMissedIsKeptToo) {
  keep_what_is_free();
  std::vector<void *> blocks;
  for (int i = 0; i < 4; ++i) blocks.push_back(alloc(kMiB));
  free_all(blocks);
  unsigned char *p = alloc(6 * kMiB);  // in their place
  EXPECT_EQ(stats().resident_bytes, 6 * kMiB);
  ace_heap_free(heap, p);
  EXPECT_EQ(stats().resident_bytes, 6 * kMiB);
}

TEST_F(Large, WhatIsTakenIsCounted) {
  const uint64_t before = stats().taken_bytes;
  unsigned char *p = alloc(2 * kMiB);
  EXPECT_EQ(stats().taken_bytes - before, 2 * kMiB);
  p = realloc(p, 3 * kMiB);
  ace_heap_free(heap, p);
  EXPECT_EQ(alloc(3 * kMiB), p);
  EXPECT_EQ(stats().taken_bytes - before, 6 * kMiB) << "resident or not";
}

TEST_F(Large, ABlockGrowsIntoAKeptOneThatIsLarger) {
  unsigned char *p = alloc(2 * kMiB);
  ace_heap_free(heap, p);
  ASSERT_EQ(alloc(kMiB), p);
  EXPECT_EQ(realloc(p, kMiB + kMiB / 2), p);
  EXPECT_EQ(ace_usable_size(p), 2 * kMiB);
  EXPECT_TRUE(intact(p, kMiB));
  EXPECT_EQ(test::audit(heap), "");
  EXPECT_EQ(realloc(p, kMiB + kMiB / 4), p) << "smaller than it was asked for: what is over goes back";
  EXPECT_EQ(ace_usable_size(p), kMiB + kMiB / 4);
  EXPECT_EQ(stats().resident_bytes, kMiB + kMiB / 4);
}

TEST_F(Large, KeptBlocksArePurgedByAnyThread) {
  keep_what_is_free();
  unsigned char *other = alloc(kMiB), *p = alloc(2 * kMiB);
  ace_heap_free(heap, other);
  ace_heap_free(heap, p);
  const auto before = stats();
  EXPECT_EQ(ace_trim_shared(heap, kMiB + kMiB / 2), kMiB + kMiB / 2);
  EXPECT_EQ(test::audit(heap), "");
  EXPECT_EQ(alloc(2 * kMiB), p);
  EXPECT_EQ(stats().resident_bytes, 3 * kMiB) << "the other block, and this one whole again";
  EXPECT_EQ(stats().mapped_bytes, before.mapped_bytes);
  ace_trim_shared(heap, SIZE_MAX);
  EXPECT_EQ(test::audit(heap), "");
  EXPECT_TRUE(intact(p, 2 * kMiB));
}

TEST_F(Large, KeptBlocksGiveWayAtTheLimit) {
  make(0, 6 * kMiB);
  ace_heap_free(heap, alloc(4 * kMiB));
  EXPECT_NE(alloc(5 * kMiB), nullptr);
  EXPECT_EQ(stats().limit_failures, 0u);
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(Large, WhatIsNotResidentOfAKeptBlockMayBeTooMuchForTheLimit) {
  make(0, 6 * kMiB);
  keep_what_is_free();
  ace_heap_free(heap, alloc(4 * kMiB));
  EXPECT_EQ(ace_trim_shared(heap, SIZE_MAX), 4 * kMiB);
  fill(3 * kMiB / kTinyMax, kTinyMax);
  EXPECT_EQ(alloc(4 * kMiB), nullptr);
  EXPECT_LE(stats().resident_bytes, 6 * kMiB);
}

TEST_F(Large, RemoteFreesAreTakenOverBeforeTheHeapGrows) {
  for (int i = 0; i < 10; ++i) {
    unsigned char *p = alloc(2 * kMiB);
    std::thread([&] { ace_free(p); }).join();
  }
  EXPECT_EQ(stats().resident_bytes, 2 * kMiB);
}

TEST_F(Large, OfWhatOthersFreedATrimGivesBackItsBudget) {
  for (uint32_t hardened : {uint32_t{0}, uint32_t{ACE_HEAP_HARDENED}}) {
    make(0, 0, nullptr, nullptr, ACE_HEAP_NO_WORKER | hardened);
    std::vector<void *> blocks;
    for (int i = 0; i < 10; ++i) blocks.push_back(alloc(2 * kMiB));
    std::thread([&] {
      for (void *block : blocks) ace_free(block);
    }).join();
    const uint64_t before = stats().resident_bytes;
    const size_t given = ace_trim(heap, 16 * kPage);
    EXPECT_EQ(given, hardened ? 0 : 16 * kPage);
    EXPECT_EQ(stats().resident_bytes, hardened ? 0 : before - given) << "a hardened heap keeps none";
    EXPECT_EQ(test::audit(heap), "");
  }
}

TEST_F(Large, Alignment) {
  for (size_t alignment = 16; alignment <= ACE_ALIGNMENT_MAX; alignment *= 2) {
    void *p = ace_heap_aligned_alloc(heap, alignment, 700'000, 0);
    ASSERT_NE(p, nullptr);
    EXPECT_EQ(address_of(p) % alignment, 0u);
    EXPECT_GE(ace_usable_size(p), 700'000u);
    memset(p, 1, 700'000);
    ace_heap_free(heap, p);
  }
}

TEST_F(Large, FreshMemoryIsZero) {
  auto *p = static_cast<unsigned char *>(ace_heap_calloc(heap, 3, kMiB, 0));
  for (size_t i = 0; i < 3 * kMiB; ++i) ASSERT_EQ(p[i], 0);
}

TEST_F(Large, GrowsAndShrinksWithItsContents) {
  unsigned char *p = alloc(kMiB);
  size_t kept = kMiB;
  for (size_t size : {2 * kMiB, 5 * kMiB, 9 * kMiB, 3 * kMiB, 4 * kMiB, size_t{600'000}}) {
    p = realloc(p, size);
    ASSERT_NE(p, nullptr);
    kept = std::min(kept, size);
    ASSERT_TRUE(intact(p, kept)) << size;
    ASSERT_EQ(ace_usable_size(p), round_up(size, kPage));
    ASSERT_EQ(stats().live_blocks, 1u);
    ASSERT_EQ(test::audit(heap), "") << size;
    write(p, size);
    kept = size;
  }
}

TEST_F(Large, WhatGrewInPlaceIsCutAgain) {
  unsigned char *behind = alloc(20 * kMiB), *p = alloc(kMiB);
  ace_heap_free(heap, behind);  // its addresses are free then, most likely those behind the other
  ace_trim(heap, SIZE_MAX);
  p = realloc(p, 4 * kMiB);
  p = realloc(p, 2 * kMiB);
  EXPECT_EQ(ace_usable_size(p), 2 * kMiB);
}

TEST_F(Large, MovesWhereItCannotGrowInPlace) {
  unsigned char *p = alloc(kMiB);
  FakeOs fake;
  fake.fail_always(OsCall::kResize);
  unsigned char *q = realloc(p, 4 * kMiB);
  ASSERT_NE(q, nullptr);
  EXPECT_NE(q, p);
  EXPECT_TRUE(is_foreign(p));
  EXPECT_TRUE(intact(q, kMiB));
  for (size_t i = kMiB; i < 4 * kMiB; ++i) ASSERT_EQ(q[i], 0);
}

// Does one mapping of the process hold all of it?
bool is_one_mapping(const void *start, size_t size) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    uintptr_t first = 0, end = 0;
    sscanf(line.c_str(), "%zx-%zx", &first, &end);
    if (first <= address_of(start) && address_of(start) < end) return address_of(start) + size <= end;
  }
  return false;
}

TEST_F(Large, WhatHasMovedCanMoveAndGrowAgain) {
  unsigned char *p = alloc(kMiB);
  OsTable table = real_os();
  table.resize = [](void *, size_t, size_t) { return false; };
  for (size_t size : {3 * kMiB, 4 * kMiB, 9 * kMiB}) {
    replace_os(&table);
    p = realloc(p, size);
    replace_os(&real_os());
    ASSERT_NE(p, nullptr);
    memset(p, 7, size);
    EXPECT_TRUE(is_one_mapping(p, size)) << size;
  }
  EXPECT_EQ(realloc(p, 2 * kMiB), p);
  EXPECT_EQ(realloc(p, 3 * kMiB), p) << "where it was";
  EXPECT_TRUE(is_one_mapping(p, 3 * kMiB));
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(Large, WhatItMovesFromIsNotOursAtAnyMoment) {
  static bool was_ours;
  for (size_t size : {kMiB, 3 * kMiB}) {
    unsigned char *p = alloc(size);
    OsTable table = real_os();
    table.resize = [](void *, size_t, size_t) { return false; };
    table.move = [](void *start, size_t moved, void *target, size_t size) {
      const bool done = real_os().move(start, moved, target, size);
      was_ours = !is_foreign(start);  // others may have got it by now
      return done;
    };
    replace_os(&table);
    was_ours = true;
    unsigned char *q = realloc(p, 8 * kMiB);
    replace_os(&real_os());
    EXPECT_FALSE(was_ours);
    EXPECT_TRUE(intact(q, size));
  }
}

TEST_F(Large, AFailedGrowthLeavesTheBlockAsItWas) {
  unsigned char *p = alloc(kMiB);
  FakeOs fake;
  fake.fail_always(OsCall::kResize);
  fake.fail_always(OsCall::kMap);
  EXPECT_EQ(realloc(p, 4 * kMiB), nullptr);
  EXPECT_EQ(ace_usable_size(p), kMiB);
  EXPECT_TRUE(intact(p, kMiB));
  EXPECT_EQ(test::audit(heap), "");
  fake.fail_never();
  EXPECT_NE(realloc(p, 4 * kMiB), nullptr);
}

// A mapping that an advice has divided can neither grow nor move in one piece.
TEST_F(Large, WhatTheSystemWillNotMoveIsCopied) {
  unsigned char *p = alloc(4 * kMiB);
  ASSERT_EQ(madvise(reinterpret_cast<void *>(round_up(address_of(p) + 2 * kMiB, kPage)), kMiB, MADV_DONTDUMP),
            0);
  unsigned char *q = realloc(p, 9 * kMiB);
  ASSERT_NE(q, nullptr);
  EXPECT_TRUE(intact(q, 4 * kMiB));
  EXPECT_EQ(ace_usable_size(q), 9 * kMiB);
  EXPECT_EQ(test::audit(heap), "");
  FakeOs fake;
  fake.fail_always(OsCall::kResize);
  fake.fail_always(OsCall::kMove);
  unsigned char *r = realloc(q, 12 * kMiB);
  ASSERT_NE(r, nullptr);
  EXPECT_TRUE(intact(r, 4 * kMiB));
  EXPECT_EQ(test::audit(heap), "");
}

TEST_F(Large, ABlockBeginsOnAPageOfTheSystem) {
  for (size_t page : {size_t{16384}, size_t{65536}}) {
    FakeOs fake(page);
    unsigned char *p = alloc(kMiB);
    ASSERT_NE(p, nullptr);
    EXPECT_EQ(address_of(p) % page, 0u);
    EXPECT_EQ(ace_good_size(600'000), round_up(600'000, page));
  }
}

TEST_F(Large, ShrinkingNeverFails) {
  unsigned char *p = alloc(4 * kMiB);
  FakeOs fake;
  for (OsCall call : {OsCall::kMap, OsCall::kUnmap, OsCall::kResize, OsCall::kMove}) fake.fail_always(call);
  p = realloc(p, kMiB);
  ASSERT_NE(p, nullptr);
  EXPECT_TRUE(intact(p, kMiB));
  p = realloc(p, 100);
  ASSERT_NE(p, nullptr);
  EXPECT_TRUE(intact(p, 100));
}

TEST_F(Large, GrowthRespectsTheLimit) {
  unsigned char *p = alloc(kMiB);
  ace_heap_set_limit(heap, 2 * kMiB);
  EXPECT_EQ(realloc(p, 3 * kMiB), nullptr);
  EXPECT_TRUE(intact(p, kMiB));
  EXPECT_NE(p = realloc(p, 2 * kMiB), nullptr);
  EXPECT_EQ(stats().limit_failures, 1u);
  EXPECT_EQ(alloc(kMiB), nullptr);
}

TEST_F(Large, NoMemoryIsCounted) {
  FakeOs fake;
  fake.fail(OsCall::kMap, 1);
  EXPECT_EQ(alloc(kMiB), nullptr);
  EXPECT_EQ(stats().system_failures, 1u);
  EXPECT_NE(alloc(kMiB), nullptr);
}

TEST_F(Large, BetweenThePools) {
  void *p = ace_heap_alloc(heap, 100);
  memset(p, 0x42, 100);
  for (size_t size : {size_t{9000}, 2 * kMiB, size_t{100'000}, size_t{3000}, 4 * kMiB, size_t{100}}) {
    p = ace_heap_realloc(heap, p, size, 0);
    ASSERT_NE(p, nullptr);
    for (size_t i = 0; i < 100; ++i) ASSERT_EQ(static_cast<unsigned char *>(p)[i], 0x42);
    ASSERT_EQ(stats().live_blocks, 1u);
  }
}

}  // namespace
}  // namespace ace
