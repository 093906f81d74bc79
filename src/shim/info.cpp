// What glibc's malloc tells and lets one set, answered from the heaps' statistics.
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>

#include "ace/ace.h"
#include "heap/all_heaps.h"
#include "heap/purge.h"
#include "shim/start.h"

using namespace ace;

namespace {

struct Totals {
  size_t heaps, mapped, resident, live, large_blocks, large_bytes;
};

Totals totals() {
  Totals sum{};
  visit_heaps(
      [](Heap &heap, void *context) {
        auto &all = *static_cast<Totals *>(context);
        ace_stats stats;
        ace_heap_stats_shared(static_cast<ace_heap *>(&heap), &stats, sizeof stats);
        all.heaps += 1;
        all.mapped += stats.mapped_bytes;
        all.resident += stats.resident_bytes;
        all.live += stats.live_bytes;
        all.large_blocks += stats.large_live_blocks;
        all.large_bytes += stats.large_live_bytes;
      },
      &sum);
  return sum;
}

}  // namespace

extern "C" {

// Gives back what is free: all of the caller's heap, and of the others what their threads are not about to use.
// What to leave (`pad`) is a figure for a heap that ends at one place.
ACE_API int malloc_trim(size_t) noexcept {
  size_t given = 0;
  if (Heap *heap = shim::own_heap(); heap != nullptr) given = trim_heap(*heap, SIZE_MAX);
  given += trim_abandoned_heaps();
  visit_heaps([](Heap &heap, void *sum) { *static_cast<size_t *>(sum) += purge_pages(heap, SIZE_MAX); },
              &given);
  return given != 0;
}

// Parameters of another allocator's: those that glibc knows are taken, and change nothing.
ACE_API int mallopt(int parameter, int) noexcept {
  switch (parameter) {
    case M_MXFAST:
    case M_TRIM_THRESHOLD:
    case M_TOP_PAD:
    case M_MMAP_THRESHOLD:
    case M_MMAP_MAX:
    case M_CHECK_ACTION:
    case M_PERTURB:
    case M_ARENA_TEST:
    case M_ARENA_MAX:
      return 1;
    default:
      return 0;
  }
}

ACE_API struct mallinfo2 mallinfo2(void) noexcept {
  const Totals sum = totals();
  struct mallinfo2 info {};
  info.arena = std::max(sum.mapped, sum.large_bytes) - sum.large_bytes;  // read while others map and unmap
  info.hblks = sum.large_blocks;
  info.hblkhd = sum.large_bytes;
  info.uordblks = sum.live;
  info.fordblks = std::max(sum.resident, sum.live) - sum.live;
  info.keepcost = info.fordblks;
  return info;
}

ACE_API struct mallinfo mallinfo(void) noexcept {
  const struct mallinfo2 wide = mallinfo2();
  auto narrow = [](size_t n) { return static_cast<int>(std::min(n, size_t{INT_MAX})); };
  struct mallinfo info {};
  info.arena = narrow(wide.arena);
  info.hblks = narrow(wide.hblks);
  info.hblkhd = narrow(wide.hblkhd);
  info.uordblks = narrow(wide.uordblks);
  info.fordblks = narrow(wide.fordblks);
  info.keepcost = narrow(wide.keepcost);
  return info;
}

ACE_API void malloc_stats(void) noexcept { ace_report(STDERR_FILENO, "text"); }

ACE_API int malloc_info(int options, FILE *file) noexcept {
  if (options != 0) {
    errno = EINVAL;
    return -1;
  }
  const Totals sum = totals();
  const int n =
      fprintf(file,
              "<malloc version=\"ace-%s\">\n<heaps count=\"%zu\"/>\n<system type=\"current\" size=\"%zu\"/>\n"
              "<resident size=\"%zu\"/>\n<live size=\"%zu\"/>\n</malloc>\n",
              ace_version(), sum.heaps, sum.mapped, sum.resident, sum.live);
  return n < 0 ? -1 : 0;
}

}  // extern "C"
