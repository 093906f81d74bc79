// Pointers of others beside memory that comes and goes.
#include <sys/mman.h>

#include <chrono>

#include "heap/address_map.h"
#include "stress/threads.h"

namespace ace::test {
namespace {

// What another allocator has in the 2 MiB that a large block begins is judged while that block's mapping ends.
TEST(ForeignStress, BesideALargeBlock) {
  ace_heap *heap = ace_heap_create(nullptr);
  constexpr size_t kPage = 4096;
  std::atomic<void *> others{nullptr};
  std::atomic<bool> over{false};
  std::atomic<unsigned> beside{0}, asked{0}, mistaken{0};
  run_together(2, [&](unsigned who) {
    if (who == 0) {
      ace_heap *mine = ace_heap_create(nullptr);
      while (!over) {
        void *p = others;
        if (p == nullptr) continue;
        mistaken += ace_owner_of(p) != nullptr || ace_heap_try_free(mine, p) != 0;
        ++asked;
      }
      ace_heap_destroy(mine);
      return;
    }
    for (unsigned i = 0; i < 20'000 / kSlowness; ++i) {
      void *block = ace_heap_alloc(heap, 600'000);
      std::byte *unit = reinterpret_cast<std::byte *>(superslab_of(block));
      for (size_t at = 700'000 / kPage * kPage; others == nullptr && at < kSuperslabSize; at += kPage) {
        void *page = mmap(unit + at, kPage, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (page != MAP_FAILED) others = page;
      }
      beside += superslab_of(others) == superslab_of(block);
      ace_heap_free(heap, block);
      ace_trim(heap, SIZE_MAX);
    }
    over = true;
  });
  EXPECT_GT(beside, 0u);
  EXPECT_GT(asked, 0u);
  EXPECT_EQ(mistaken, 0u);
  munmap(others, kPage);
  ace_heap_destroy(heap);
}

// Whose a block is, is asked while its mapping ends.
TEST(ForeignStress, WhatIsGone) {
  ace_heap_config config{};
  config.struct_size = sizeof config;
  config.flags = ACE_HEAP_HARDENED | ACE_HEAP_NO_WORKER;  // keeps no freed mapping
  ace_heap *heap = ace_heap_create(&config);
  std::atomic<void *> block{nullptr};
  std::atomic<bool> over{false};
  std::atomic<unsigned> mistaken{0};
  run_together(2, [&](unsigned who) {
    if (who == 0) {
      while (!over) {
        const ace_heap *owner = ace_owner_of(block);
        mistaken += owner != nullptr && owner != heap;
      }
      return;
    }
    // An emulator may take much time, and memory, for a mapping.
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(2);
    for (unsigned i = 0; i < 100'000 / kSlowness && std::chrono::steady_clock::now() < end; ++i) {
      block = ace_heap_alloc(heap, 700'000);
      ace_heap_free(heap, block);
    }
    over = true;
  });
  EXPECT_EQ(mistaken, 0u);
  ace_heap_destroy(heap);
}

}  // namespace
}  // namespace ace::test
