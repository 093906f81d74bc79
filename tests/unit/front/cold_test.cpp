// The rare requests and bad input.
#include "front/cold.h"

#include <thread>

#include "heap/remote.h"
#include "unit/heap_test.h"

namespace ace {
namespace {

using test::HeapTest;
using test::MisuseLog;

class Cold : public HeapTest {
 protected:
  MisuseLog misuse;
};

constexpr size_t kAbsurd[] = {SIZE_MAX,        SIZE_MAX - 1,     SIZE_MAX - 15,       SIZE_MAX - 4096,
                              SIZE_MAX / 2,    SIZE_MAX / 2 + 1, size_t{PTRDIFF_MAX}, size_t{PTRDIFF_MAX} + 1,
                              kRequestMax + 1, kRequestMax,      size_t{1} << 60};

TEST_F(Cold, SizeZeroIsABlockOfItsOwn) {
  void *a = ace_heap_alloc(heap, 0), *b = ace_heap_alloc(heap, 0);
  ASSERT_NE(a, nullptr);
  EXPECT_NE(a, b);
  EXPECT_EQ(ace_usable_size(a), kGranule);
  EXPECT_NE(ace_heap_calloc(heap, 0, 100, 0), nullptr);
  EXPECT_NE(ace_heap_calloc(heap, 100, 0, 0), nullptr);
  EXPECT_NE(ace_heap_aligned_alloc(heap, 4096, 0, 0), nullptr);
  ace_heap_free_sized(heap, a, 0);
  EXPECT_TRUE(misuse.take().empty());
  EXPECT_EQ(stats().live_blocks, 4u);
}

TEST_F(Cold, AbsurdSizesAreNull) {
  void *p = fill(1, 64)[0], *large = fill(1, 1'000'000)[0];
  for (size_t size : kAbsurd) {
    EXPECT_EQ(ace_heap_alloc(heap, size), nullptr) << size;
    EXPECT_EQ(ace_heap_alloc_kind(heap, size, 3), nullptr) << size;
    EXPECT_EQ(ace_heap_calloc(heap, 1, size, 0), nullptr) << size;
    EXPECT_EQ(ace_heap_calloc(heap, size, 1, 0), nullptr) << size;
    EXPECT_EQ(ace_heap_aligned_alloc(heap, 64, size, 0), nullptr) << size;
    EXPECT_EQ(ace_heap_aligned_alloc(heap, ACE_ALIGNMENT_MAX, size, 0), nullptr) << size;
    EXPECT_EQ(ace_heap_realloc(heap, p, size, 0), nullptr) << size;
    EXPECT_EQ(ace_heap_realloc(heap, large, size, 0), nullptr) << size;
    EXPECT_EQ(ace_heap_realloc(heap, nullptr, size, 0), nullptr) << size;
    EXPECT_EQ(ace_alloc(size), nullptr) << size;
    EXPECT_EQ(ace_calloc(2, size), nullptr) << size;
    EXPECT_EQ(ace_aligned_alloc(16, size), nullptr) << size;
  }
  EXPECT_EQ(stats().live_blocks, 2u);
  for (int i = 0; i < 64; ++i) ASSERT_EQ(static_cast<unsigned char *>(p)[i], 0xa5);
}

TEST_F(Cold, AbsurdSizesAtALimit) {
  ace_heap_set_limit(heap, 1 << 20);
  for (size_t size : kAbsurd) {
    EXPECT_EQ(ace_heap_alloc(heap, size), nullptr) << size;
    EXPECT_EQ(ace_heap_aligned_alloc(heap, ACE_ALIGNMENT_MAX, size, 0), nullptr) << size;
  }
}

TEST_F(Cold, CallocOverflow) {
  const std::pair<size_t, size_t> overflowing[] = {{SIZE_MAX, 2},
                                                   {2, SIZE_MAX},
                                                   {SIZE_MAX, SIZE_MAX},
                                                   {size_t{1} << 32, size_t{1} << 32},
                                                   {SIZE_MAX / 16 + 1, 16}};
  for (auto [count, size] : overflowing) {
    EXPECT_EQ(ace_heap_calloc(heap, count, size, 0), nullptr) << count << " of " << size;
    EXPECT_EQ(ace_calloc(count, size), nullptr) << count << " of " << size;
  }
}

TEST_F(Cold, CallocZeroesUsedMemory) {
  for (size_t size :
       {size_t{1}, size_t{64}, size_t{1000}, size_t{8192}, size_t{20'000}, kMidMax, kMidMax + 1}) {
    for (int round = 0; round < 3; ++round) {
      auto *p = static_cast<unsigned char *>(ace_heap_calloc(heap, 1, size, 0));
      for (size_t i = 0; i < size; ++i) ASSERT_EQ(p[i], 0) << size;
      memset(p, 0xff, ace_usable_size(p));
      ace_heap_free(heap, p);
    }
  }
}

TEST_F(Cold, BadAlignments) {
  for (size_t alignment :
       {size_t{0}, size_t{3}, size_t{24}, size_t{4095}, 2 * ACE_ALIGNMENT_MAX, SIZE_MAX, size_t{1} << 63}) {
    EXPECT_EQ(ace_heap_aligned_alloc(heap, alignment, 100, 0), nullptr) << alignment;
    EXPECT_EQ(ace_aligned_alloc(alignment, 100), nullptr) << alignment;
  }
  EXPECT_EQ(stats().live_blocks, 0u);
}

TEST_F(Cold, EveryAlignmentForEverySize) {
  for (size_t alignment = 1; alignment <= ACE_ALIGNMENT_MAX; alignment *= 2) {
    for (size_t size : {size_t{1}, size_t{17}, size_t{100}, size_t{1000}, size_t{4096}, size_t{5000},
                        size_t{8192}, size_t{70'000}, kMidMax, kMidMax + 1}) {
      void *p = ace_heap_aligned_alloc(heap, alignment, size, 0);
      ASSERT_NE(p, nullptr) << alignment << ", " << size;
      ASSERT_EQ(address_of(p) % alignment, 0u) << size;
      ASSERT_GE(ace_usable_size(p), size);
      memset(p, 0x11, size);
      ace_heap_free_sized(heap, p, size);
    }
  }
  EXPECT_TRUE(misuse.take().empty());
  EXPECT_EQ(stats().live_blocks, 0u);
}

TEST_F(Cold, ReallocOfNullAndToZero) {
  void *p = ace_heap_realloc(heap, nullptr, 100, 0);
  ASSERT_NE(p, nullptr);
  p = ace_heap_realloc(heap, p, 0, 0);
  ASSERT_NE(p, nullptr) << "it does not free";
  EXPECT_EQ(ace_usable_size(p), kGranule);
  EXPECT_EQ(stats().live_blocks, 1u);
  EXPECT_EQ(ace_realloc(nullptr, SIZE_MAX), nullptr);
}

TEST_F(Cold, ReallocKeepsTheContentsAcrossAllSizes) {
  constexpr size_t kSizes[] = {1,    16,   17,     64,      300,         1024,     1025,
                               8192, 8193, 30'000, kMidMax, kMidMax + 1, 2'000'000};
  for (size_t from : kSizes) {
    for (size_t to : kSizes) {
      auto *p = static_cast<unsigned char *>(ace_heap_alloc(heap, from));
      for (size_t i = 0; i < from; ++i) p[i] = static_cast<unsigned char>(i * 31);
      auto *q = static_cast<unsigned char *>(ace_heap_realloc(heap, p, to, 0));
      ASSERT_NE(q, nullptr);
      ASSERT_GE(ace_usable_size(q), to);
      for (size_t i = 0; i < std::min(from, to); ++i) ASSERT_EQ(q[i], static_cast<unsigned char>(i * 31));
      ace_heap_free(heap, q);
    }
  }
  EXPECT_EQ(stats().live_blocks, 0u);
}

TEST_F(Cold, AShrunkBlockStaysWhileItLosesLittle) {
  void *p = ace_heap_alloc(heap, 200);
  const size_t block = ace_usable_size(p);
  EXPECT_EQ(ace_heap_realloc(heap, p, block, 0), p);
  EXPECT_EQ(ace_heap_realloc(heap, p, block / 4 * 3, 0), p);
  memset(p, 7, 113);
  auto *q = static_cast<unsigned char *>(ace_heap_realloc(heap, p, 113, 0));
  EXPECT_NE(q, p);
  EXPECT_LT(ace_usable_size(q), block / 4 * 3);
  for (int i = 0; i < 113; ++i) EXPECT_EQ(q[i], 7);
  ace_heap_free(heap, q);
  p = ace_heap_alloc(heap, 112);
  EXPECT_EQ(ace_heap_realloc(heap, p, 80, 0), p) << "less than a cache line";
  EXPECT_NE(p = ace_heap_realloc(heap, p, 50, 0), nullptr);
  EXPECT_EQ(ace_usable_size(p), 64u) << "more than half";
  ace_heap_free(heap, p);
  EXPECT_EQ(stats().live_blocks, 0u);
}

TEST_F(Cold, ReallocKeepsTheKindGroup) {
  make(4);
  void *p = ace_heap_alloc_kind(heap, 64, 2), *q = ace_heap_alloc_kind(heap, 64, 2);
  p = ace_heap_realloc(heap, p, 1000, 0);
  EXPECT_EQ(stats().kind_live_blocks[2], 2u);
  void *freed_elsewhere =
      ace_heap_alloc_kind(heap, 64, 2);  // waits in the slab: what is there is judged at length
  std::thread([&] { ace_free(freed_elsewhere); }).join();
  q = ace_heap_realloc(heap, q, 2000, 0);
  drain_remote_frees(*heap);
  EXPECT_EQ(stats().kind_live_blocks[2], 2u);
  EXPECT_EQ(stats().kind_live_blocks[0], 0u);
}

TEST_F(Cold, ReallocOfAnotherHeapsBlock) {
  ace_heap *other = ace_heap_create(nullptr);
  for (size_t size : {size_t{64}, size_t{20'000}, size_t{1'000'000}}) {
    void *p = ace_heap_alloc(other, size);
    memset(p, 0x21, size);
    auto *q = static_cast<unsigned char *>(ace_heap_realloc(heap, p, 2 * size, 0));
    EXPECT_EQ(ace_owner_of(q), heap);
    for (size_t i = 0; i < size; ++i) ASSERT_EQ(q[i], 0x21);
  }
  ace_trim(other, SIZE_MAX);
  EXPECT_EQ(test::stats_of(other).live_blocks, 0u);
  ace_heap_destroy(other);
}

TEST_F(Cold, KindsBeyondTheLast) {
  make(2);
  EXPECT_NE(ace_heap_alloc_kind(heap, 64, ACE_KIND_MAX), nullptr);
  EXPECT_NE(ace_heap_alloc_kind(heap, 64, ~0u), nullptr);
  EXPECT_EQ(stats().kind_live_blocks[1], 2u);
}

TEST_F(Cold, SweptFreesOfEveryPool) {
  auto blocks = fill(3000, 64);
  for (size_t size : {size_t{20'000}, size_t{300'000}, size_t{3'000'000}}) {
    void *p = ace_heap_alloc(heap, size);
    ace_heap_free_swept(heap, p, size);
  }
  for (void *block : blocks) ace_heap_free_swept(heap, block, 64);  // full slabs, and the current one
  EXPECT_EQ(stats().live_blocks, 0u);
  EXPECT_EQ(test::audit(heap), "");
  test::MisuseLog misuse;
  ace_heap_free_swept(heap, blocks[5], 64);
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_DOUBLE_FREE});
  void *live = ace_heap_alloc(heap, 64);
  ace_heap_free_swept(heap, live, 65);
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_SIZE_MISMATCH});
  ace_heap_free_swept(heap, static_cast<std::byte *>(live) + 16, 16);
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_INTERIOR});
}

}  // namespace
}  // namespace ace
