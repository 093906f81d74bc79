// What AddressSanitizer is told of hardened heaps, in builds that have it. What memcheck is told has tests of
// its own, in tests/corruption/test_memcheck.py.
#include "heap/annotate.h"

#include <thread>

#include "unit/heap_test.h"

namespace ace {
namespace {

#if defined ACE_ASAN

using namespace test;

class AnnotateTest : public HeapTest {
 protected:
  AnnotateTest() { make(0, 0, nullptr, nullptr, ACE_HEAP_NO_WORKER | ACE_HEAP_HARDENED); }

  // The first of the block's bytes that is not the program's.
  static size_t bytes_of_program(void *block, size_t at_most) {
    auto *bad = static_cast<std::byte *>(__asan_region_is_poisoned(block, at_most));
    return bad == nullptr ? at_most : static_cast<size_t>(bad - static_cast<std::byte *>(block));
  }
};

constexpr size_t kSizes[] = {1,   7,    8,     9,     24,    40,     41,     100,
                             248, 1000, 16376, 16377, 20000, 500000, 524281, 3000000};

TEST_F(AnnotateTest, BlocksEndAtTheirLastByte) {
  for (size_t size : kSizes) {
    void *p = ace_heap_alloc(heap, size);
    EXPECT_EQ(bytes_of_program(p, size + 8), size);
    EXPECT_EQ(ace_usable_size(p), size);
    EXPECT_EQ(audit(heap), "");
    EXPECT_EQ(bytes_of_program(p, size + 8), size) << "after they were looked at";
    ace_heap_free(heap, p);
  }
}

TEST_F(AnnotateTest, BlocksOfADestroyedHeapAreNobodys) {
  void *p = ace_heap_alloc(heap, 48);
  ace_heap_destroy(std::exchange(heap, nullptr));
  EXPECT_EQ(bytes_of_program(p, 1), 0u);
}

TEST_F(AnnotateTest, FreedBlocksAreNobodys) {
  for (size_t size : kSizes) {
    if (size + 8 > kMidMax) continue;  // a mapping, which is gone
    void *p = ace_heap_alloc(heap, size);
    ace_heap_free(heap, p);
    EXPECT_EQ(bytes_of_program(p, size), 0u) << size;
    EXPECT_EQ(audit(heap), "");
    EXPECT_EQ(bytes_of_program(p, size), 0u) << size;
  }
}

TEST_F(AnnotateTest, BlocksThatOthersFreeAreNobodys) {
  for (size_t size : {size_t{40}, size_t{20000}}) {
    void *p = ace_heap_alloc(heap, size);
    std::thread([p] { ace_free(p); }).join();
    EXPECT_EQ(bytes_of_program(p, size), 0u) << size;
  }
}

TEST_F(AnnotateTest, ResizedBlocksEndAtTheirLastByte) {
  for (size_t from : kSizes) {
    for (size_t to : kSizes) {
      void *p = ace_heap_realloc(heap, ace_heap_alloc(heap, from), to, 0);
      ASSERT_NE(p, nullptr);
      EXPECT_EQ(bytes_of_program(p, to + 8), to) << from << " to " << to;
      ace_heap_free(heap, p);
    }
  }
  EXPECT_EQ(audit(heap), "");
}

TEST_F(AnnotateTest, WhatWasNeverHandedOutIsNobodys) {
  auto *p = static_cast<std::byte *>(ace_heap_alloc(heap, 24));
  std::byte *other_slab = p + (slab_index_of(p) < 16 ? 1 : -1) * static_cast<ptrdiff_t>(8 * kSlabSize);
  EXPECT_TRUE(__asan_address_is_poisoned(other_slab));
  p = static_cast<std::byte *>(ace_heap_alloc(heap, 20'000));
  EXPECT_TRUE(__asan_address_is_poisoned(p + 6 * kPage));
}

TEST_F(AnnotateTest, ThreadsMayLookAtABlockAtOnce) {
  std::vector<void *> blocks = fill(1000, 40);
  auto look = [&] {
    for (int round = 0; round < 20; ++round) {
      for (void *p : blocks) EXPECT_EQ(ace_usable_size(p), 40u);
    }
  };
  std::thread other(look);
  look();
  other.join();
  free_all(blocks);
}

TEST_F(AnnotateTest, MemoryThatLeftTheHeapIsAnyones) {
  std::vector<void *> blocks = fill(20'000, 100);
  for (int i = 0; i < 20; ++i) blocks.push_back(ace_heap_alloc(heap, 500'000));
  free_all(blocks);
  make(0, 0, nullptr, nullptr, ACE_HEAP_NO_WORKER);  // a plain one, which knows nothing of this
  blocks = fill(20'000, 100);
  for (int i = 0; i < 20; ++i) blocks.push_back(ace_heap_alloc(heap, 500'000));
  for (void *p : blocks) memset(p, 1, 100);
  free_all(blocks);
}

#endif

}  // namespace
}  // namespace ace
