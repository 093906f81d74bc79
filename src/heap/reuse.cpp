// How soon memory that fell free is needed again: what the loop learns from.
#include <algorithm>

#include "heap/heap.h"
#include "os/os.h"

namespace ace {

void watch_reuse(Heap &heap, uint64_t now, uint64_t bytes) {
  // A program that frees as much as it takes is not added up for every page.
  constexpr uint64_t kStepMin = uint64_t{256} << 10;
  ReuseWatch &reuse = heap.reuse;
  reuse.step = std::max(bytes / 8, kStepMin);
  reuse.look_at = heap.counters.taken_bytes.get() + std::min(reuse.step, bytes);
  reuse.live = live_bytes_bound(heap) + bytes;
  reuse.at = reuse.quiet_at = reuse.quiet = 0;
  reuse.last.store(now, std::memory_order_relaxed);
}

void end_watch(Heap &heap) { heap.reuse.look_at = UINT64_MAX; }

void look_for_reuse(Heap &heap) {
  ReuseWatch &reuse = heap.reuse;
  const uint64_t now = os().now(), last = reuse.last.load(std::memory_order_relaxed);
  if (now - last > reuse.quiet) {
    reuse.quiet_at = last;
    reuse.quiet = now - last;
  }
  reuse.last.store(now, std::memory_order_relaxed);
  const uint64_t live = live_bytes_bound(heap);
  if (live >= reuse.live) {
    reuse.at = now;
    reuse.look_at = UINT64_MAX;
  } else {
    reuse.look_at = heap.counters.taken_bytes.get() + std::min(reuse.step, reuse.live - live);
  }
}

}  // namespace ace
