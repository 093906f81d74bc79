// How heaps are made and asked.
#include <errno.h>
#include <sys/mman.h>

#include "unit/heap_test.h"

namespace ace {
namespace {

using test::HeapTest;

ace_heap_config config_of(const char *name) {
  ace_heap_config config{};
  config.struct_size = sizeof config;
  config.name = name;
  return config;
}

std::string created_name(const ace_heap_config *config) {
  ace_heap *heap = ace_heap_create(config);
  if (heap == nullptr) return "(none)";
  std::string name = ace_heap_name(heap);
  EXPECT_EQ(test::audit(heap), "");
  ace_heap_destroy(heap);
  return name;
}

TEST(HeapConfig, Names) {
  EXPECT_EQ(created_name(nullptr), "heap");
  ace_heap_config config = config_of(nullptr);
  EXPECT_EQ(created_name(&config), "heap");
  config = config_of("a vm");
  EXPECT_EQ(created_name(&config), "a vm");
  config = config_of("0123456789012345678901234567890123456789");
  EXPECT_EQ(created_name(&config), "0123456789012345678901234567890");
}

TEST(HeapConfig, TheNameIsCopied) {
  char name[] = "first";
  ace_heap_config config = config_of(name);
  ace_heap *heap = ace_heap_create(&config);
  name[0] = 'x';
  EXPECT_STREQ(ace_heap_name(heap), "first");
  ace_heap_destroy(heap);
}

TEST(HeapConfig, OlderAndNewerStructs) {
  ace_heap_config config = config_of("sized");
  config.limit = 12'345;
  config.struct_size = 0;
  EXPECT_EQ(created_name(&config), "(none)");
  config.struct_size = sizeof config + 8;  // fields that this library does not know
  EXPECT_EQ(created_name(&config), "(none)");
  config.struct_size = offsetof(ace_heap_config, name);
  EXPECT_EQ(created_name(&config), "heap");
  config.struct_size = offsetof(ace_heap_config, limit);
  ace_heap *heap = ace_heap_create(&config);
  ASSERT_NE(heap, nullptr);
  EXPECT_STREQ(ace_heap_name(heap), "sized");
  EXPECT_EQ(test::stats_of(heap).limit_bytes, 0u) << "a field beyond the struct is not read";
  ace_heap_destroy(heap);
}

TEST(HeapConfig, WhatIsInvalidIsRefused) {
  ace_heap_config config = config_of("bad");
  config.kind_groups = ACE_KIND_GROUPS_MAX + 1;
  EXPECT_EQ(created_name(&config), "(none)");
  config.kind_groups = ACE_KIND_GROUPS_MAX;
  EXPECT_EQ(created_name(&config), "bad");
  config.flags = 1u << 31;
  EXPECT_EQ(created_name(&config), "(none)");
  config.flags = ACE_HEAP_NO_WORKER;
  EXPECT_EQ(created_name(&config), "bad");
}

using HeapApi = HeapTest;

TEST_F(HeapApi, OwnerOf) {
  ace_heap *other = ace_heap_create(nullptr);
  for (size_t size : {size_t{1}, size_t{10'000}, size_t{1'000'000}}) {
    EXPECT_EQ(ace_owner_of(ace_heap_alloc(heap, size)), heap);
    EXPECT_EQ(ace_owner_of(ace_heap_alloc(other, size)), other);
  }
  ace_heap_destroy(other);
}

TEST_F(HeapApi, LeavesErrnoAlone) {
  errno = EDOM;
  EXPECT_EQ(ace_heap_alloc(heap, size_t{1} << 46), nullptr);
  EXPECT_EQ(errno, EDOM);
  void *p = ace_heap_alloc(heap, 3 << 20);
  void *behind = static_cast<char *>(p) + ace_usable_size(p);
  void *other = mmap(behind, kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  errno = EDOM;  // as the block may end where another mapping begins already
  void *moved = ace_heap_realloc(heap, p, 40 << 20, 0);
  EXPECT_NE(moved, p);
  EXPECT_EQ(errno, EDOM);
  ace_heap_free(heap, moved);
  if (other != MAP_FAILED) munmap(other, kPage);
}

TEST_F(HeapApi, DestroyedAgainWhereBlocksLieNow) {
  test::MisuseLog log;
  for (size_t size : {size_t{100}, size_t{100'000}}) {
    ace_heap *ended = ace_heap_create(nullptr);
    ace_heap_destroy(ended);
    std::vector<void *> blocks;
    while (ace_owner_of(superslab_of(ended)->slab(2)) != heap && blocks.size() < 50'000)
      blocks.push_back(fill(1, size)[0]);
    EXPECT_EQ(ace_owner_of(superslab_of(ended)->slab(2)), heap) << size;
    ace_heap_destroy(ended);
    EXPECT_EQ(log.take(), std::vector<int>{ACE_ERROR_ENDED_HEAP}) << size;
    for (void *block : blocks) EXPECT_EQ(*static_cast<unsigned char *>(block), 0xa5);
    free_all(blocks);
    make();
  }
}

TEST_F(HeapApi, DestroyOfNull) { ace_heap_destroy(nullptr); }

TEST_F(HeapApi, ManyHeapsStaySmall) {
  std::vector<ace_heap *> heaps;
  for (int i = 0; i < 100; ++i) {
    heaps.push_back(ace_heap_create(nullptr));
    ASSERT_NE(heaps.back(), nullptr);
    ASSERT_NE(ace_heap_alloc(heaps.back(), 100), nullptr);
    const ace_stats s = test::stats_of(heaps.back());
    EXPECT_EQ(s.mapped_bytes, kSuperslabSize);
    EXPECT_LE(s.resident_bytes + s.metadata_bytes, 64u << 10);
  }
  for (ace_heap *h : heaps) ace_heap_destroy(h);
}

TEST_F(HeapApi, TrimSharedLeavesTheHoldersWorkAlone) {
  auto blocks = fill(100'000, 64);
  for (size_t i = 1; i < blocks.size(); ++i) ace_heap_free(heap, blocks[i]);
  EXPECT_GT(ace_trim_shared(heap, SIZE_MAX), 4u << 20);
  EXPECT_EQ(test::audit(heap), "");
  EXPECT_EQ(ace_heap_alloc(heap, 64) == nullptr, false);
}

}  // namespace
}  // namespace ace
