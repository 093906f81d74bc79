// Heaps whose trims come later.
#pragma once
#include <vector>

#include "unit/heap_test.h"

namespace ace::test {

inline constexpr size_t kMiB = size_t{1} << 20;

class Deferred : public HeapTest {
 protected:
  Deferred() { make_with_worker(); }
  void make_with_worker() { make(0, 0, nullptr, nullptr, 0); }

  std::vector<void *> swell() { return fill(8 * kMiB / 64, 64); }
  void shrink(std::vector<void *> &blocks) {
    for (size_t i = 0; i < blocks.size(); ++i) {
      if (i % 6400 != 0) ace_heap_free(heap, blocks[i]);
    }
  }
  // A young collection: its memory is given back later.
  void collect_young() {
    ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 1);
    ace_hint(heap, ACE_HINT_COLLECT_END, 0);
  }
  uint64_t resident() {
    ace_stats shared;
    ace_heap_stats_shared(heap, &shared, sizeof shared);
    return shared.resident_bytes;
  }
};

}  // namespace ace::test
