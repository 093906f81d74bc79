#include "heap/tiers.h"

#include <algorithm>

#include "base/experiment.h"
#include "heap/annotate.h"
#include "heap/superslab_pool.h"
#include "os/os.h"
#include "wire/options.h"

namespace ace {
namespace {

Counter &tier_counter(Heap &heap, Tier tier) {
  return tier == Tier::kHot        ? heap.counters.superslabs_hot
         : tier == Tier::kDraining ? heap.counters.superslabs_draining
                                   : heap.counters.superslabs_free;
}

void open_superslab(Heap &heap, Superslab *superslab) {
  SuperslabHead &head = superslab->head;
  Superslab *&list = open_list(heap, head.tier);
  head.open_previous = nullptr;
  head.open_next = list;
  if (list != nullptr) list->head.open_previous = superslab;
  list = superslab;
}

void close_superslab(Heap &heap, Superslab *superslab) {
  SuperslabHead &head = superslab->head;
  if (head.open_previous != nullptr) {
    head.open_previous->head.open_next = head.open_next;
  } else {
    open_list(heap, head.tier) = head.open_next;
  }
  if (head.open_next != nullptr) head.open_next->head.open_previous = head.open_previous;
}

// Only superslabs with free slabs are in an open list, whatever their tier.
void change_tier(Heap &heap, Superslab *superslab, Tier tier) {
  SuperslabHead &head = superslab->head;
  if (head.tier == tier) return;
  if (head.free_slabs != 0) close_superslab(heap, superslab);
  tier_counter(heap, head.tier).subtract(1);
  head.tier = tier;
  tier_counter(heap, tier).add(1);
  if (head.free_slabs != 0) open_superslab(heap, superslab);
}

// Experiment prefix: the row lies in a page of the slab's own.
[[maybe_unused]] void count_tail_page(Heap &heap, SlabRow &row) {
  const uint16_t present = row.present.load(std::memory_order_relaxed);
  row.prefix.index = static_cast<uint8_t>(slab_index_of(&row));
  if (present & kTailPage) return;
  row.present.store(present | kTailPage, std::memory_order_relaxed);
  superslab_of(&row)->head.head_pages += 1;
  heap.counters.metadata_bytes.add(kPage);
}

bool has_pending_remote(Superslab *superslab) {
  for (unsigned i = 1; i < kSlabsPerSuperslab; ++i) {
    if (superslab->row(i).remote.words.load(std::memory_order_relaxed) != 0) return true;
  }
  return false;
}

size_t resident_pages(Superslab *superslab) {
  size_t pages = superslab->head.is_huge.load(std::memory_order_relaxed) ? kSparePages : 0;
  for (unsigned i = 1; i < kSlabsPerSuperslab; ++i) {
    const uint16_t present = superslab->row(i).present.load(std::memory_order_relaxed);
    pages += static_cast<size_t>(std::popcount(static_cast<uint16_t>(present & ~kTailPage)));
  }
  return pages;
}

// The superslab, of tier FREE, leaves the heap. False where somebody else is at it.
bool release(Heap &heap, Superslab *superslab) {
  if (superslab == heap.home || has_pending_remote(superslab)) return false;
  if (!unlink_superslab(heap, heap.tiny, superslab)) return false;
  close_superslab(heap, superslab);
  heap.counters.superslabs_free.subtract(1);
  heap.counters.mapped_bytes.subtract(kSuperslabSize);
  heap.counters.released_bytes.add(resident_pages(superslab) * kPage);
  heap.counters.metadata_bytes.subtract(superslab->head.head_pages * kPage);
  release_superslab(superslab);
  return true;
}

// A huge page saves many faults, and takes memory that may never be used. A heap that is not small, and has
// been larger before, will use it: so only what it grows by once more comes in huge pages, and its peak is none
// of theirs.
constexpr uint64_t kHugeFrom = uint64_t{16} << 20;

bool may_be_huge() { return options().huge_pages && !kTailPrefix && os().page_size == kPage; }

bool wants_huge(const Heap &heap) {
  if (!may_be_huge() || heap.nature == Nature::kHardened) return false;
  const uint64_t resident = heap.counters.resident_bytes();
  const size_t limit = heap.limit.load(std::memory_order_relaxed);
  return resident >= kHugeFrom && resident + kSuperslabSize <= heap.counters.peak_resident_bytes.get() &&
         (limit == 0 || resident + kSuperslabSize <= limit);
}

// The superslab, not yet listed, is resident as a whole. What its head has no use for counts with the slabs'
// pages.
void count_huge(Heap &heap, Superslab *superslab) {
  superslab->head.is_huge.store(true, std::memory_order_relaxed);
  superslab->head.bitmap_pages = kAllBitmapPages;
  superslab->head.head_pages = kPagesPerSlab - kSparePages;
  for (unsigned i = 1; i < kSlabsPerSuperslab; ++i)
    superslab->row(i).present.store(0xffff, std::memory_order_relaxed);
  count_faulted(heap, kSuperslabSize - kSlabSize + kSparePages * kPage);
}

// More superslabs are empty than the release guard keeps. In mode off nothing goes back by itself, and where
// somebody comes for them later a heap that swells again at once maps nothing anew.
bool stay_for_now(Heap &heap) {
  return options().mode == Mode::kOff || (heap.on_spare != nullptr && heap.on_spare(heap));
}

// So many empty superslabs stay. A thread's heap hears of no collections: what others free in it falls free all
// at once, and is needed again at once. So up to half of its peak stays as well, where that is little.
uint64_t spare_superslabs(const Heap &heap) {
  constexpr uint64_t kThreadsSpare = 8;
  const uint64_t half = heap.counters.peak_resident_bytes.get() / 2 / kSuperslabSize;
  return 2 + std::max(heap.counters.superslabs_hot.get() / 4,
                      heap.is_thread_heap ? std::min(half, kThreadsSpare) : 0);
}

// Whoever frees without a collector gives no hint when much has fallen free. So many slabs, and that share of
// those in use, are worth a look later.
constexpr uint64_t kSpareSlabs = 16, kSpareShare = 16;

void look_for_spare(Heap &heap) {
  const uint64_t emptied = heap.counters.slabs_emptied.get();
  if (emptied < heap.spare_at || heap.on_spare == nullptr || heap.trimming || is_collecting(heap)) return;
  heap.spare_at = emptied + std::max(kSpareSlabs, heap.counters.slabs_in_use.get() / kSpareShare);
  if (options().mode != Mode::kOff) heap.on_spare(heap);
}

}  // namespace

void adopt_superslab(Heap &heap, Superslab *superslab, bool is_huge) {
  SuperslabHead &head = superslab->head;
  head.prefix.pool = Pool::kTiny;
  head.prefix.owner = &heap;
  head.free_slabs = kAllSlabs;
  head.tier = Tier::kFree;
  head.head_pages = 1;
  if (is_huge) count_huge(heap, superslab);
  if (is_watched(heap)) close_memory(superslab->slab(1), kSuperslabSize - kSlabSize);
  for (unsigned i = 1; i < kSlabsPerSuperslab && !kTailPrefix; ++i)
    superslab->row(i).prefix.index = static_cast<uint8_t>(i);
  link_superslab(heap, heap.tiny, superslab);
  heap.counters.superslabs_free.add(1);
  heap.counters.mapped_bytes.add(kSuperslabSize);
  heap.counters.metadata_bytes.add(head.head_pages * kPage);
  open_superslab(heap, superslab);
}

SlabRow *add_superslab(Heap &heap) {
  Superslab *superslab = acquire_superslab(heap.nature == Nature::kHardened);
  if (superslab == nullptr) {
    heap.counters.system_failures.add(1);
    return nullptr;
  }
  // Before anything is written to it: memory of which a page is there already becomes no huge page.
  const bool is_huge = wants_huge(heap) && os().fill_huge(superslab, kSuperslabSize);
  SlabRow &first = superslab->row(1);
  first.claim.try_take();
  adopt_superslab(heap, superslab, is_huge);
  return &first;
}

SlabRow *swap_for_huge(Heap &heap) {
  constexpr unsigned kTries = 8;
  if (!wants_huge(heap)) return nullptr;
  unsigned tries = kTries;
  for (Superslab *s = open_list(heap, Tier::kFree); s != nullptr && tries != 0;
       s = s->head.open_next, --tries) {
    if (s->head.tier != Tier::kFree || resident_pages(s) != 0) continue;
    return release(heap, s) ? add_superslab(heap) : nullptr;
  }
  return nullptr;
}

uint64_t bytes_that_return_huge(const Heap &heap) {
  const uint64_t resident = heap.counters.resident_bytes();
  if (!may_be_huge() || resident <= kHugeFrom) return 0;
  uint64_t bytes = 0;
  for (Superslab *s = heap.open[0]; s != nullptr; s = s->head.open_next) {
    if (s->head.tier == Tier::kFree && s != heap.home) bytes += resident_pages(s) * kPage;
  }
  return std::min(bytes, resident - kHugeFrom);
}

void take_slab(Heap &heap, SlabRow &row) {
  Superslab *superslab = superslab_of(&row);
  SuperslabHead &head = superslab->head;
  if constexpr (kTailPrefix) count_tail_page(heap, row);
  const unsigned index = row.prefix.index;
  ACE_ASSERT(head.free_slabs >> index & 1);
  head.free_slabs &= ~(uint32_t{1} << index);
  if (head.free_slabs == 0) close_superslab(heap, superslab);
  if (head.tier == Tier::kFree) change_tier(heap, superslab, Tier::kHot);
  count_bitmap_page(heap, superslab, index, Bitmap::kFree);
  heap.counters.slabs_in_use.add(1);
}

void give_slab(Heap &heap, SlabRow &row) {
  Superslab *superslab = superslab_of(&row);
  SuperslabHead &head = superslab->head;
  const bool was_closed = head.free_slabs == 0;
  head.free_slabs |= uint32_t{1} << row.prefix.index;
  if (was_closed) open_superslab(heap, superslab);
  heap.counters.slabs_in_use.subtract(1);
  look_for_spare(heap);
  if (head.free_slabs != kAllSlabs) return;
  change_tier(heap, superslab, Tier::kFree);
  // The release guard: some empty superslabs stay, so that a heap that breathes does not map and unmap.
  if (kEagerFree && !heap.trimming && heap.counters.superslabs_free.get() > spare_superslabs(heap) &&
      !stay_for_now(heap))
    release(heap, superslab);
}

size_t release_empty_superslabs(Heap &heap, size_t budget) {
  size_t given = 0;
  for (Superslab *s = open_list(heap, Tier::kFree), *next; s != nullptr; s = next) {
    next = s->head.open_next;
    if (s->head.tier != Tier::kFree) continue;
    if (resident_pages(s) * kPage > budget - given) continue;
    const uint64_t before = heap.counters.released_bytes.get();  // a purger may have come first
    if (release(heap, s)) given += heap.counters.released_bytes.get() - before;
  }
  return given;
}

void mark_draining(Heap &heap) {
  if constexpr (!kTiering) return;
  constexpr int kThreeQuarters = static_cast<int>(kSlabsPerSuperslab - 1) * 3 / 4;
  for (Superslab *s = heap.tiny.first; s != nullptr; s = s->head.next) {
    if (s->head.tier == Tier::kFree) continue;
    bool at_most_a_quarter_used = std::popcount(s->head.free_slabs) >= kThreeQuarters;
    change_tier(heap, s, at_most_a_quarter_used ? Tier::kDraining : Tier::kHot);
  }
}

}  // namespace ace
