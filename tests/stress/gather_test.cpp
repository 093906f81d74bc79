// Threads of a program on libace-malloc.so: each frees what others have allocated, among its own.
#include "api/thread_heap.h"
#include "front/hot.h"
#include "heap/remote.h"
#include "stress/threads.h"

namespace ace::test {
namespace {

// As `free` of libace-malloc.so.
void free_by_thread(void *p) {
  Heap &heap = *thread_heap();
  if (!push_by_address(heap, p)) free_outside_window_or(heap, p, nullptr);
}

TEST(GatherStress, ThreadsExchangeTheirBlocks) {
  constexpr unsigned kThreads = 4, kSlots = 2000;
  constexpr unsigned kRounds = 600'000 / kSlowness;
  static std::atomic<void *> slots[kSlots];
  std::atomic<unsigned> broken{0};
  for (unsigned generation = 0; generation < 3; ++generation) {
    run_together(kThreads, [&](unsigned who) {
      Sizes sizes(who + generation * kThreads);
      for (unsigned i = 0; i < kRounds; ++i) {
        const size_t size = i % 64 == 0 ? sizes.next() : 16 + sizes.random() % 300;
        void *p = slots[sizes.random() % kSlots].exchange(write_block(allocate(*thread_heap(), size, 0), size));
        if (p == nullptr) continue;
        broken += !is_whole(p);
        free_by_thread(p);
      }
    });
    EXPECT_EQ(audit_all(), "");
  }
  EXPECT_EQ(broken, 0u);
  for (auto &slot : slots) free_by_thread(slot.exchange(nullptr));
  send_remote_frees(*thread_heap());
  trim_abandoned_heaps();
  unsigned heaps = 0;
  visit_heaps([](Heap &heap, void *count) { *static_cast<unsigned *>(count) += heap.is_thread_heap; }, &heaps);
  EXPECT_EQ(heaps, 1u) << "where a block is lost its heap stays";
}

}  // namespace
}  // namespace ace::test
