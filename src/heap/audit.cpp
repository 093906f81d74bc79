#include "heap/audit.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>

#include "base/uncancelled.h"
#include "heap/address_map.h"
#include "heap/class_pattern.h"
#include "heap/front_cache.h"
#include "heap/large.h"
#include "heap/mid.h"
#include "heap/page_set.h"
#include "heap/purge.h"
#include "heap/red_zone.h"
#include "heap/scatter.h"
#include "heap/slab.h"

namespace ace {
namespace {

struct Audit {
  Heap &heap;
  char *message;
  size_t length;
  bool ok = true;
  // What the walk adds up.
  uint64_t used[kBins] = {};
  uint64_t resident = 0, mapped = 0, metadata = 0, slabs_in_use = 0;
  uint64_t tiers[3] = {};
  int tail_pages = 0;  // of the present superslab
  uint64_t mid_blocks = 0, mid_bytes = 0, large_blocks = 0, large_bytes = 0, kept_bytes = 0;
  uint64_t listed_open = 0, open_superslabs = 0;

  __attribute__((format(printf, 3, 4))) void expect(bool holds, const char *format, ...) {
    if (holds || !ok) return;
    ok = false;
    va_list values;
    va_start(values, format);
    if (message != nullptr && length != 0) vsnprintf(message, length, format, values);
    va_end(values);
  }
  void equal(uint64_t counted, uint64_t walked, const char *what) {
    expect(counted == walked, "%s: counted %llu, the walk finds %llu", what,
           static_cast<unsigned long long>(counted), static_cast<unsigned long long>(walked));
  }
};

void audit_cache_of(Audit &a, unsigned bin) {
  const CachedBlocks &cached = cached_of(a.heap, bin);
  a.expect(cached.room <= kRoom[class_of_bin(bin)], "a cache has more room than it may");
  const uint32_t count = cached_blocks(a.heap, bin);
  uint32_t length = 0;
  for (const Block *block = cached.list; block != nullptr && a.ok; block = block->next, ++length) {
    a.expect(may_be_cached(a.heap, a.heap.bins[bin], block), "a cache holds %p, which starts no used block",
             static_cast<const void *>(block));
    if (!a.ok) return;
    a.expect(block->tag == &a.heap.bins[bin], "block %p in a cache lost its tag",
             static_cast<const void *>(block));
    a.expect(length < count, "a cache is longer than it says");
  }
  a.equal(count, length, "cached blocks");
}

void audit_list_of(Audit &a, const Bin &bin, SlabRow &row) {
  std::byte *slab = slab_of(row);
  uint64_t length = 0;
  for (const Block *block = bin.list; block != nullptr && a.ok; block = block->next, ++length) {
    a.expect(bin.has(block) || may_be_cached(a.heap, bin, block),
             "a list holds %p, which starts no block of its window", static_cast<const void *>(block));
    if (!a.ok) return;
    a.expect(block->tag == &bin, "block %p on a list lost its tag", static_cast<const void *>(block));
    a.expect(length < row.prefix.used + kFrontCache, "a list of slab %p is longer than its used blocks",
             static_cast<const void *>(slab));
  }
}

// The bits of the window are all zero: its blocks are live or on the list.
void audit_window(Audit &a, const Bin &bin, uint32_t window_end, SlabRow &row) {
  Superslab *superslab = superslab_of(&row);
  const uintptr_t slab = address_of(slab_of(row));
  const uint32_t size = block_size_of(row.prefix), end = blocks_end(row.prefix);
  const uint64_t excess = kWideReciprocal[row.prefix.size_class].excess;
  const uint64_t blocks = (bin.limit + excess - 1) / excess;
  bool inside = bin.base >= slab && bin.base - slab <= kSlabSize && (bin.base - slab) % size == 0 &&
                (blocks == 0 || (blocks <= row.prefix.capacity && bin.base - slab + blocks * size <= end)) &&
                window_end <= end;
  a.expect(inside, "the window of slab %p lies outside it", reinterpret_cast<void *>(slab));
  if (!inside) return;
  auto from = static_cast<unsigned>((bin.base - slab) / kGranule);
  auto to = std::max(window_end, blocks == 0 ? 0 : static_cast<uint32_t>(bin.base - slab + blocks * size)) /
            static_cast<uint32_t>(kGranule);
  for (unsigned g = from; g < to; ++g) {
    bool bit = superslab->free_bits[row.prefix.index][g / 64] >> g % 64 & 1;
    a.expect(!bit, "granule %u of slab %p is free inside the window", g, static_cast<void *>(slab_of(row)));
  }
}

// Is the seal of a live block whole? Another thread that frees the block wipes it first and marks it then, so
// it gets some time for that. A tool that watches sees what is written behind a block when it is written.
bool is_sealed(const Heap &heap, const std::byte *block, size_t size, const BitmapWord &freed_by_others) {
  constexpr unsigned kTries = 1000, kRestUs = 100;
  const Uncancelled whole;
  for (unsigned tries = 0; read_seal(heap, block, size) == kBroken; ++tries) {
    if ((freed_by_others.load(std::memory_order_relaxed) & free_bit(block)) != 0) return true;
    if (tries == kTries) return false;
    usleep(kRestUs);
  }
  return true;
}

// Of a hardened heap: live blocks have their seals, free ones are zero. Absent pages are not looked at, as that
// would make them resident.
void audit_contents(Audit &a, Superslab *superslab, unsigned index) {
  const SlabRow &row = superslab->row(index);
  const uint32_t size = block_size_of(row.prefix);
  const uint16_t present = row.present;
  const Bin &bin = a.heap.bins[row.prefix.bin];
  const ClassPattern &pattern = kClassPattern[row.prefix.size_class];
  unsigned scattered = 0;
  for (unsigned w = 0; w < kWordsPerSlab; ++w) {
    const uint64_t free = superslab->free_bits[index][w] | superslab->remote_bits[index][w];
    for (uint64_t blocks = pattern.words[w]; blocks != 0 && a.ok; blocks &= blocks - 1) {
      const auto n = static_cast<unsigned>(std::countr_zero(blocks));
      const uint32_t offset = (w * 64 + n) * uint32_t{kGranule};
      const auto first = static_cast<unsigned>(offset / kPage);
      const auto last = static_cast<unsigned>((offset + size - 1) / kPage);
      const uint64_t pages = low_bits(last + 1) & ~low_bits(first);
      if ((pages & ~uint64_t{present}) != 0) continue;
      const std::byte *block = superslab->slab(index) + offset;
      const bool waits = row.prefix.state == SlabState::kCurrent && is_scattered(bin, block);
      scattered += waits;
      const bool is_free = waits || (free >> n & 1) != 0;
      a.expect(!waits || (free >> n & 1) == 0, "block %p, which is scattered, has a free bit",
               static_cast<const void *>(block));
      const bool sound = is_free ? is_still_zero(a.heap, block, size)
                                 : is_sealed(a.heap, block, size, superslab->remote_bits[index][w]);
      a.expect(sound, "%s block %p was written to", is_free ? "a free" : "the end of a",
               static_cast<const void *>(block));
    }
  }
  if (row.prefix.state == SlabState::kCurrent) a.equal(list_length(a.heap, bin), scattered, "scattered blocks");
}

void audit_slab(Audit &a, Superslab *superslab, unsigned index) {
  SlabRow &row = superslab->row(index);
  const SlabPrefix &prefix = row.prefix;
  const void *slab = superslab->slab(index);
  const uint16_t present = row.present;
  a.resident += static_cast<uint64_t>(std::popcount(static_cast<uint16_t>(present & ~kTailPage))) * kPage;
  a.tail_pages += (present & kTailPage) != 0;
  bool free_in_head = superslab->head.free_slabs >> index & 1;
  a.expect(free_in_head == (prefix.state == SlabState::kFree), "slab %p: its state and its head disagree",
           slab);
  a.expect(prefix.index == index || (kTailPrefix && present == 0), "slab %p: wrong index", slab);
  if (prefix.pool == Pool::kNone) {
    const bool came_huge = superslab->head.head_pages == kPagesPerSlab - kSparePages;
    a.expect(prefix.state == SlabState::kFree && (present == 0 || came_huge),
             "slab %p was used, but never assigned", slab);
    return;
  }
  const ClassPattern &pattern = kClassPattern[prefix.size_class];
  unsigned bits = free_blocks(row);
  a.equal(prefix.used + bits, prefix.capacity, "used + free blocks of a slab, against its capacity");
  for (unsigned w = 0; w < kWordsPerSlab; ++w) {
    uint64_t free = superslab->free_bits[index][w], remote = superslab->remote_bits[index][w];
    a.expect((free & ~pattern.words[w]) == 0, "slab %p: a free bit where no block starts", slab);
    a.expect((remote & ~pattern.words[w]) == 0, "slab %p: a remote bit where no block starts", slab);
    uint64_t live = pattern.words[w] & ~free;
    for (; live != 0; live &= live - 1) {
      unsigned granule = w * 64 + static_cast<unsigned>(std::countr_zero(live));
      auto first = static_cast<unsigned>(granule * kGranule / kPage);
      auto last = static_cast<unsigned>((granule * kGranule + block_size_of(prefix) - 1) / kPage);
      uint64_t pages = low_bits(last + 1) & ~low_bits(first);
      a.expect((pages & ~uint64_t{present}) == 0, "slab %p: a used block lies in an absent page", slab);
    }
  }
  a.expect(prefix.owner == &a.heap, "slab %p: wrong owner", slab);
  if (a.heap.nature == Nature::kHardened) audit_contents(a, superslab, index);
  Bin &bin = a.heap.bins[prefix.bin];
  const BinSlabs &slabs = a.heap.slabs[prefix.bin];
  a.expect((slabs.current == &row) == (prefix.state == SlabState::kCurrent),
           "slab %p: its state and its bin disagree", slab);
  const bool is_claimed = prefix.state == SlabState::kCurrent || prefix.state == SlabState::kReady;
  a.expect(row.claim.held() == is_claimed, "slab %p: its claim does not fit its state", slab);
  switch (prefix.state) {
    case SlabState::kFree:
      a.expect(prefix.used == 0, "free slab %p has used blocks", slab);
      return;
    case SlabState::kCurrent:
      if (a.heap.nature != Nature::kHardened) audit_window(a, bin, slabs.window_end, row);
      audit_list_of(a, bin, row);
      break;
    case SlabState::kPartial:
      a.expect(prefix.used != 0, "partial slab %p is empty", slab);
      a.expect(prefix.due == prefix.used, "partial slab %p: its state is due before it is empty", slab);
      break;
    case SlabState::kSparse:
      a.expect(prefix.used != 0 && bits != 0, "sparse slab %p is empty or full", slab);
      a.expect(prefix.due != 0 && prefix.due <= prefix.used, "sparse slab %p should be offered", slab);
      break;
    case SlabState::kReady:
      a.expect(prefix.used == 0, "ready slab %p has used blocks", slab);
      break;
    case SlabState::kFull:
      a.expect(prefix.used != 0, "full slab %p is empty", slab);
      a.expect(prefix.due != 0 && prefix.due <= prefix.used, "full slab %p should be offered", slab);
      break;
  }
  a.used[prefix.bin] += prefix.used;
  a.slabs_in_use += 1;
}

void audit_superslab(Audit &a, Superslab *superslab) {
  SuperslabHead &head = superslab->head;
  a.expect(is_ours(superslab), "superslab %p is not in the address map", static_cast<void *>(superslab));
  a.expect(head.prefix.owner == &a.heap, "superslab %p: wrong owner", static_cast<void *>(superslab));
  a.expect(head.pins == 0, "superslab %p is pinned", static_cast<void *>(superslab));
  a.expect((head.free_slabs == kAllSlabs) == (head.tier == Tier::kFree),
           "superslab %p: its tier does not fit its slabs", static_cast<void *>(superslab));
  a.tail_pages = 0;
  for (unsigned i = 1; i < kSlabsPerSuperslab && a.ok; ++i) audit_slab(a, superslab, i);
  a.tiers[static_cast<unsigned>(head.tier)] += 1;
  a.open_superslabs += head.free_slabs != 0;
  a.mapped += kSuperslabSize;
  if (head.is_huge) a.resident += kSparePages * kPage;
  a.expect(head.head_pages == 1 + std::popcount(head.bitmap_pages) + a.tail_pages,
           "superslab %p: resident pages of its head", static_cast<void *>(superslab));
  a.metadata += head.head_pages * kPage;
}

void audit_mid(Audit &a, Superslab *superslab) {
  MidBody &body = superslab->mid();
  PageSet taken, free = PageSet::load(body.free), present = PageSet::load(body.present);
  const void *place = superslab;
  taken.add(0, kMidFirstPage);
  for (unsigned page = kMidFirstPage; page < kPagesPerSuperslab; ++page) {
    unsigned pages = body.run_pages[page];
    if (pages == 0) continue;
    a.expect(page + pages <= kPagesPerSuperslab, "mid superslab %p: a run beyond its end", place);
    if (!a.ok) return;
    a.expect(taken.count(page, page + pages) == 0, "mid superslab %p: runs overlap", place);
    a.equal(present.count(page, page + pages), pages, "present pages of a run");
    taken.add(page, page + pages);
    a.mid_blocks += 1;
    a.mid_bytes += pages * kPage;
  }
  for (unsigned page = 0; page < kPagesPerSuperslab; ++page) {
    a.expect(taken.has(page) != free.has(page), "mid superslab %p: page %u is lost or counted twice", place,
             page);
  }
  // A host that is asked about the limit is so in the midst of an allocation.
  a.expect(!superslab->head.claim.held() || a.heap.in_limit_callback, "mid superslab %p is claimed", place);
  a.resident += present.count(0, kPagesPerSuperslab) * kPage;
  a.mapped += kSuperslabSize;
  a.metadata += kMidFirstPage * kPage;
}

void audit_large(Audit &a, Superslab *superslab) {
  a.expect(!is_foreign(superslab), "large block %p is not in the address map", static_cast<void *>(superslab));
  a.large_blocks += 1;
  a.large_bytes += large_block_size(superslab);
  a.mapped += superslab->head.mapped;
  a.metadata += kPage;
}

void audit_kept(Audit &a, Superslab *superslab) {
  const SuperslabHead &head = superslab->head;
  a.expect(!is_foreign(superslab), "kept block %p is not in the address map", static_cast<void *>(superslab));
  a.expect(head.kept_bytes <= large_block_size(superslab) && head.remote.words == 1 && !head.claim.held(),
           "kept block %p: its head", static_cast<void *>(superslab));
  a.kept_bytes += large_block_size(superslab);
  a.resident += head.kept_bytes;
  a.mapped += head.mapped;
  a.metadata += kPage;
}

void audit_slab_list(Audit &a, const SlabList &list, unsigned bin, SlabState state) {
  const SlabRow *previous = nullptr;
  for (const SlabRow *row = list.first; row != nullptr && a.ok; previous = row, row = row->next) {
    a.expect(row->prefix.state == state, "a slab is in a list that does not fit its state");
    a.expect(row->prefix.bin == bin, "a slab is in another bin's list");
    a.expect(row->previous == previous, "a list of slabs is not linked both ways");
  }
}

void audit_open(Audit &a) {
  for (unsigned i = 0; i < 2; ++i) {
    const Superslab *previous = nullptr;
    for (const Superslab *s = a.heap.open[i]; s != nullptr && a.ok; previous = s, s = s->head.open_next) {
      a.expect(s->head.free_slabs != 0, "an open superslab has no free slab");
      a.expect((s->head.tier == Tier::kDraining) == (i == 1), "a superslab is in another tier's list");
      a.expect(s->head.open_previous == previous, "the open superslabs are not linked both ways");
      a.listed_open += 1;
    }
  }
  a.equal(a.listed_open, a.open_superslabs, "open superslabs");
}

void audit_totals(Audit &a) {
  const Counters &c = a.heap.counters;
  for (unsigned bin = 0; bin < kBins; ++bin) {
    const BinSlabs &slabs = a.heap.slabs[bin];
    audit_slab_list(a, slabs.partial, bin, SlabState::kPartial);
    audit_slab_list(a, slabs.sparse, bin, SlabState::kSparse);
    a.equal(slabs.used_blocks.get(), a.used[bin], "used blocks of a bin");
    const Bin &b = a.heap.bins[bin];
    if (has_cache(a.heap) && bin < kClasses) audit_cache_of(a, bin);
    a.expect(has_cache(a.heap) || slabs.current != nullptr ||
                 (!has_blocks(a.heap, b) && b.limit == 0 && slabs.window_end == 0),
             "bin %u has a list and no current slab", bin);
  }
  // Not by resident_bytes(), whose floor would hide what was counted as given back twice.
  a.equal(c.faulted_bytes.get(), a.resident + a.large_bytes + c.returned_bytes.get() + c.released_bytes.get(),
          "faulted bytes");
  a.equal(c.mapped_bytes.get(), a.mapped, "mapped bytes");
  a.equal(c.metadata_bytes.get(), a.metadata + round_up(sizeof(Heap), kPage), "metadata bytes");
  a.equal(c.slabs_in_use.get(), a.slabs_in_use, "slabs in use");
  a.equal(c.superslabs_hot.get(), a.tiers[0], "HOT superslabs");
  a.equal(c.superslabs_draining.get(), a.tiers[1], "DRAINING superslabs");
  a.equal(c.superslabs_free.get(), a.tiers[2], "FREE superslabs");
  a.equal(c.mid_live_blocks.get(), a.mid_blocks, "page runs");
  a.equal(c.mid_live_bytes.get(), a.mid_bytes, "bytes in page runs");
  a.equal(c.large_live_blocks.get(), a.large_blocks, "large blocks");
  a.equal(c.large_live_bytes.get(), a.large_bytes, "bytes in large blocks");
  a.equal(a.heap.kept_block_bytes, a.kept_bytes, "bytes in kept blocks");
}

}  // namespace

bool audit_heap(Heap &heap, char *message, size_t length) {
  Audit audit{heap, message, length};
  lock_purging();  // a worker would be seen in the midst of its work
  for (Superslab *s = heap.tiny.first; s != nullptr && audit.ok; s = s->head.next) audit_superslab(audit, s);
  audit_open(audit);
  for (Superslab *s = heap.mid.first; s != nullptr && audit.ok; s = s->head.next) audit_mid(audit, s);
  for (Superslab *s = heap.large.first; s != nullptr && audit.ok; s = s->head.next) audit_large(audit, s);
  for (Superslab *s = heap.kept.first; s != nullptr && audit.ok; s = s->head.next) audit_kept(audit, s);
  if (audit.ok) audit_totals(audit);
  unlock_purging();
  return audit.ok;
}

}  // namespace ace
