#include "heap/all_heaps.h"

#include <atomic>
#include <thread>

#include "unit/heap_test.h"

namespace ace {
namespace {

using test::HeapTest;

int times_listed(const Heap *wanted) {
  struct Search {
    const Heap *wanted;
    int found;
  } search{wanted, 0};
  visit_heaps(
      [](Heap &heap, void *context) {
        auto &s = *static_cast<Search *>(context);
        s.found += &heap == s.wanted;
      },
      &search);
  return search.found;
}

using AllHeaps = HeapTest;

TEST_F(AllHeaps, AHeapIsListedFromItsBirthToItsEnd) {
  EXPECT_EQ(times_listed(heap), 1);
  ace_heap *other = ace_heap_create(nullptr);
  EXPECT_EQ(times_listed(other), 1);
  ace_heap_destroy(other);
  EXPECT_EQ(times_listed(other), 0);
  EXPECT_EQ(times_listed(heap), 1);
}

TEST_F(AllHeaps, AnyOrderOfEndsLeavesTheListWhole) {
  ace_heap *heaps[4];
  for (ace_heap *&h : heaps) h = ace_heap_create(nullptr);
  for (int i : {1, 3, 0, 2}) {
    ace_heap_destroy(heaps[i]);
    heaps[i] = nullptr;
    for (ace_heap *h : heaps) {
      if (h != nullptr) EXPECT_EQ(times_listed(h), 1);
    }
  }
}

TEST_F(AllHeaps, DestroyWaitsForAVisitor) {
  struct Visit {
    ace_heap *heap;
    std::atomic<bool> inside{false}, leave{false}, destroyed{false}, early{false};
  } visit;
  visit.heap = ace_heap_create(nullptr);
  std::thread visitor([&] {
    visit_heaps(
        [](Heap &h, void *context) {
          auto &v = *static_cast<Visit *>(context);
          if (&h != v.heap) return;
          v.inside = true;
          while (!v.leave) std::this_thread::yield();
          v.early = v.destroyed.load();
        },
        &visit);
  });
  while (!visit.inside) std::this_thread::yield();
  std::thread destroyer([&] {
    ace_heap_destroy(visit.heap);
    visit.destroyed = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  visit.leave = true;
  visitor.join();
  destroyer.join();
  EXPECT_FALSE(visit.early);
}

TEST_F(AllHeaps, NoLockIsHeldDuringAVisit) {
  visit_heaps([](Heap &, void *) { ace_heap_destroy(ace_heap_create(nullptr)); }, nullptr);
}

}  // namespace
}  // namespace ace
