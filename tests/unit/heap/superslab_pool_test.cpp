#include "heap/superslab_pool.h"

#include <string.h>

#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "heap/address_map.h"
#include "unit/fake_os.h"
#include "unit/heap_test.h"
#include "unit/superslab_pool.h"

namespace ace {
namespace {

using test::FakeOs;
using test::OsCall;

TEST(SuperslabPool, HandsOutAlignedZeroedEnteredSuperslabs) {
  std::set<Superslab *> taken;
  for (int i = 0; i < 80; ++i) {  // more than are kept
    Superslab *s = acquire_superslab();
    ASSERT_NE(s, nullptr);
    EXPECT_TRUE(taken.insert(s).second);
    EXPECT_EQ(address_of(s) % kSuperslabSize, 0u);
    EXPECT_TRUE(is_ours(s));
    auto *bytes = reinterpret_cast<const unsigned char *>(s);
    for (size_t at = 0; at < kSuperslabSize; at += 4093) ASSERT_EQ(bytes[at], 0);
  }
  for (Superslab *s : taken) release_superslab(s);
  for (Superslab *s : taken) EXPECT_FALSE(is_ours(s));
  std::set<Superslab *> again;
  for (size_t i = 0; i < taken.size(); ++i) EXPECT_TRUE(again.insert(acquire_superslab()).second);
  for (Superslab *s : again) release_superslab(s);
}

TEST(SuperslabPool, WhatComesBackIsZeroAgain) {
  Superslab *s = acquire_superslab();
  memset(static_cast<void *>(s->rows_from_1), 0xff, kSuperslabSize - sizeof s->head);
  release_superslab(s);
  // The kept one is the next that is handed out.
  Superslab *again = acquire_superslab();
  EXPECT_EQ(again, s);
  auto *bytes = reinterpret_cast<const unsigned char *>(again);
  for (size_t at = 0; at < kSuperslabSize; ++at) ASSERT_EQ(bytes[at], 0) << at;
  release_superslab(again);
}

TEST(SuperslabPool, ADirtySuperslabIsNeverKept) {
  Superslab *s = acquire_superslab();
  memset(static_cast<void *>(s->rows_from_1), 0xff, kSuperslabSize - sizeof s->head);
  FakeOs fake;
  fake.fail(OsCall::kPurge, 1);
  release_superslab(s);  // cannot be made zero: must go for good
  EXPECT_EQ(fake.calls(OsCall::kUnmap), 1u);
  Superslab *next = acquire_superslab();
  ASSERT_NE(next, nullptr);
  auto *bytes = reinterpret_cast<const unsigned char *>(next);
  for (size_t at = 0; at < kSuperslabSize; at += 512) ASSERT_EQ(bytes[at], 0);
  release_superslab(next);
}

TEST(SuperslabPool, FallsBackToSmallerMappings) {
  FakeOs fake;
  // Whatever is kept and left of chunks goes first.
  fake.fail_always(OsCall::kMap);
  std::vector<Superslab *> taken;
  while (Superslab *s = acquire_superslab()) taken.push_back(s);
  fake.fail_never();
  fake.fail(OsCall::kMap, 1, 1);  // two sizes are refused, the third is given
  Superslab *s = acquire_superslab();
  EXPECT_NE(s, nullptr);
  EXPECT_TRUE(is_ours(s));
  if (s != nullptr) release_superslab(s);
  for (Superslab *t : taken) release_superslab(t);
}

TEST(SuperslabPool, NoMemoryIsNullAndChangesNothing) {
  FakeOs fake;
  fake.fail_always(OsCall::kMap);
  std::vector<Superslab *> taken;
  while (Superslab *s = acquire_superslab()) taken.push_back(s);
  EXPECT_EQ(acquire_superslab(), nullptr);
  fake.fail_never();
  Superslab *s = acquire_superslab();
  EXPECT_NE(s, nullptr);
  release_superslab(s);
  for (Superslab *t : taken) release_superslab(t);
}

TEST(SuperslabPool, WhatTheSystemDoesNotTakeBackIsTriedAgain) {
  FakeOs fake;
  test::empty_superslab_pool(fake);
  const int64_t before = fake.mapped();
  Superslab *s = acquire_superslab();
  memset(s->slab(1), 0xff, kSuperslabSize - kSlabSize);
  test::MisuseLog misuse;
  ace_heap *heap = ace_heap_create(nullptr);
  void *large = ace_heap_alloc(heap, 8 * kSuperslabSize);
  ASSERT_NE(large, nullptr);
  fake.fail_always(OsCall::kUnmap);
  ace_heap_free(heap, large);
  ace_trim(heap, SIZE_MAX);
  ace_heap_free(heap, large);
  EXPECT_EQ(misuse.take(), std::vector<int>{ACE_ERROR_FOREIGN});  // to the heap it is gone
  fake.fail_always(OsCall::kPurge);
  release_superslab(s);
  ace_heap_destroy(heap);
  EXPECT_GT(fake.mapped() - before, static_cast<int64_t>(8 * kSuperslabSize));
  fake.fail_never();
  test::empty_superslab_pool(fake);
  EXPECT_EQ(fake.mapped(), before);
}

}  // namespace
}  // namespace ace
