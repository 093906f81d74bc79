#include "heap/slab.h"

#include "heap/class_pattern.h"
#include "heap/remote.h"
#include "heap/superslab_pool.h"

namespace ace {
namespace {

// A slab that ran full is offered again when this share of its blocks is free: refills then stay in one slab
// for a while. 1/32 was the best of the prototypes.
constexpr unsigned kOfferShare = 32;

// How many listed slabs a refill looks at when purgers hold the first ones.
constexpr unsigned kClaimTries = 8;

BitmapWord *free_bits(SlabRow &row) { return superslab_of(&row)->free_bits[row.prefix.index]; }

// ---- lists

void push(SlabList &list, SlabRow &row) {
  row.previous = nullptr;
  row.next = list.first;
  if (row.next != nullptr) row.next->previous = &row;
  list.first = &row;
}

void remove(SlabList &list, SlabRow &row) {
  (row.previous != nullptr ? row.previous->next : list.first) = row.next;
  if (row.next != nullptr) row.next->previous = row.previous;
}

void unlist(Heap &heap, SlabRow &row) {
  BinSlabs &slabs = heap.slabs[row.prefix.bin];
  if (row.prefix.state == SlabState::kPartial) remove(slabs.partial, row);
  if (row.prefix.state == SlabState::kSparse) remove(slabs.sparse, row);
}

void list_partial(Heap &heap, SlabRow &row) {
  row.prefix.state = SlabState::kPartial;
  push(heap.slabs[row.prefix.bin].partial, row);
}

// ---- superslabs that have free slabs

Superslab *&open_list(Heap &heap, Tier tier) { return heap.open[tier == Tier::kDraining ? 1 : 0]; }

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

Superslab *add_superslab(Heap &heap) {
  Superslab *superslab = acquire_superslab();
  if (superslab == nullptr) {
    heap.counters.system_failures.add(1);
    return nullptr;
  }
  SuperslabHead &head = superslab->head;
  head.prefix.pool = Pool::kTiny;
  head.prefix.owner = &heap;
  adopt_superslab(heap, superslab);
  return superslab;
}

// The bitmap of eight slabs lies in one page.
void count_bitmap_page(Heap &heap, Superslab *superslab, unsigned index) {
  auto bit = static_cast<uint8_t>(1u << index / (kSlabsPerSuperslab / 4));
  if (superslab->head.bitmap_pages & bit) return;
  superslab->head.bitmap_pages |= bit;
  heap.counters.metadata_bytes.add(kPage);
}

// ---- slabs, from state to state

// The slab is free, of `superslab`, and its claim is taken.
void assign_slab(Heap &heap, Superslab *superslab, unsigned index, unsigned bin) {
  SuperslabHead &head = superslab->head;
  ACE_ASSERT(head.free_slabs >> index & 1);
  head.free_slabs &= ~(uint32_t{1} << index);
  if (head.free_slabs == 0) close_superslab(heap, superslab);
  if (head.tier == Tier::kFree) change_tier(heap, superslab, Tier::kHot);

  const unsigned size_class = class_of_bin(bin);
  SlabRow &row = superslab->row(index);
  SlabPrefix &prefix = row.prefix;
  prefix.size_class = static_cast<uint8_t>(size_class);
  prefix.kind_group = static_cast<uint8_t>(bin / kClasses);
  prefix.bin = static_cast<uint8_t>(bin);
  prefix.used = 0;
  prefix.holes = 0;
  prefix.capacity = static_cast<uint16_t>(blocks_per_slab(size_class));
  prefix.block_size = kClassSize[size_class];
  prefix.reciprocal = reciprocal(prefix.block_size);
  prefix.offer_at = static_cast<uint16_t>((prefix.capacity + kOfferShare - 1) / kOfferShare);
  prefix.owner = &heap;
  prefix.index = static_cast<uint8_t>(index);
  prefix.pool = Pool::kTiny;
  BitmapWord *bits = free_bits(row);
  const ClassPattern &pattern = kClassPattern[size_class];
  for (unsigned w = 0; w < kWordsPerSlab; ++w) bits[w].store(pattern.words[w], std::memory_order_relaxed);
  count_bitmap_page(heap, superslab, index);
  heap.counters.slabs_assigned.add(1);
  heap.counters.slabs_in_use.add(1);
}

// No block of it is live, it is not current and in no list.
void make_free(Heap &heap, SlabRow &row) {
  Superslab *superslab = superslab_of(&row);
  SuperslabHead &head = superslab->head;
  row.prefix.state = SlabState::kFree;
  if (head.free_slabs == 0) {
    head.free_slabs = uint32_t{1} << row.prefix.index;
    open_superslab(heap, superslab);
  } else {
    head.free_slabs |= uint32_t{1} << row.prefix.index;
  }
  heap.counters.slabs_emptied.add(1);
  heap.counters.slabs_in_use.subtract(1);
  if (head.free_slabs == kAllSlabs) {
    change_tier(heap, superslab, Tier::kFree);
    // Release guard: some empty superslabs stay, so that a heap that breathes does not map and unmap.
    uint64_t spare = heap.counters.superslabs_free.get();
    if (spare > 2 + heap.counters.superslabs_hot.get() / 4) release_empty_superslabs(heap, spare - 1);
  }
}

// The claim is taken; the slab is in no list.
void make_current(Heap &heap, SlabRow &row, bool fills_absent_pages) {
  Bin &bin = heap.bins[row.prefix.bin];
  ACE_ASSERT(bin.current == nullptr && bin.list == nullptr);
  row.prefix.state = SlabState::kCurrent;
  row.prefix.fills_absent_pages = fills_absent_pages;
  bin.current = &row;
  bin.base = address_of(slab_of(row));
  bin.window = 0;
  bin.reciprocal = row.prefix.reciprocal;
}

// The list is empty: the slab goes where its free bits say, and its claim is released.
void retire(Heap &heap, Bin &bin) {
  SlabRow &row = *bin.current;
  bin.current = nullptr;
  bin.base = 0;
  bin.window = 0;
  row.prefix.holes = static_cast<uint16_t>(free_in_resident_pages(row));
  if (row.prefix.used == 0) {
    make_free(heap, row);
  } else if (row.prefix.holes >= row.prefix.offer_at) {
    list_partial(heap, row);
  } else if (row.prefix.used + row.prefix.holes < row.prefix.capacity) {
    row.prefix.state = SlabState::kSparse;
    push(heap.slabs[row.prefix.bin].sparse, row);
  } else {
    row.prefix.state = SlabState::kFull;
  }
  row.claim.release();
}

// ---- carving: one page's free blocks become the allocation list

// The pages that the blocks starting in `page` touch, of which `last` is the last one.
uint16_t pages_touched(unsigned page, uint32_t last_granule, uint32_t block_size) {
  auto last_page = static_cast<unsigned>((last_granule * kGranule + block_size - 1) / kPage);
  return static_cast<uint16_t>(low_bits(last_page + 1) & ~low_bits(page));
}

enum class Carved { kBlocks, kNone, kRefused };

// Links the free blocks that start in `page`, which has some, in address order.
Carved carve_page(Heap &heap, Bin &bin, SlabRow &row, unsigned page, const uint64_t *words, LimitTalk &talk) {
  const uint32_t size = row.prefix.block_size;
  unsigned last_word = kWordsPerPage - 1;
  while (words[last_word] == 0) --last_word;
  auto first_granule = page * kGranulesPerPage;
  uint32_t last_granule = first_granule + last_word * 64 + 63 - static_cast<unsigned>(std::countl_zero(words[last_word]));

  uint16_t present = row.present.load(std::memory_order_relaxed);
  uint16_t touched = pages_touched(page, last_granule, size);
  if (auto fresh = static_cast<uint16_t>(touched & ~present); fresh != 0) {
    size_t bytes = static_cast<size_t>(std::popcount(fresh)) * kPage;
    if (!may_grow(heap, bytes, talk)) return Carved::kRefused;
    row.present.store(static_cast<uint16_t>(present | touched), std::memory_order_relaxed);
    count_faulted(heap, bytes);
  }

  std::byte *slab = slab_of(row);
  const uint64_t cookie = heap.cookie;
  Block **tail = &bin.list;
  unsigned count = 0;
  BitmapWord *bits = free_bits(row) + page * kWordsPerPage;
  for (unsigned w = 0; w < kWordsPerPage; ++w) {
    for (uint64_t word = words[w]; word != 0; word &= word - 1, ++count) {
      unsigned granule = first_granule + w * 64 + static_cast<unsigned>(std::countr_zero(word));
      auto *block = reinterpret_cast<Block *>(slab + granule * kGranule);
      block->tag = cookie;
      *tail = block;
      tail = &block->next;
    }
    if (words[w] != 0) bits[w].store(bits[w].load(std::memory_order_relaxed) & ~words[w], std::memory_order_relaxed);
  }
  *tail = nullptr;
  row.prefix.used = static_cast<uint16_t>(row.prefix.used + count);
  heap.slabs[row.prefix.bin].used_blocks.add(count);
  heap.counters.carves.add(1);
  return Carved::kBlocks;
}

// Where the blocks that start before the end of `page` end: never behind the slab's last block.
uint32_t window_end(const SlabRow &row, unsigned page) {
  uint32_t end = (page + 1) * static_cast<uint32_t>(kPage);
  uint32_t blocks_end = row.prefix.capacity * row.prefix.block_size;
  return end < blocks_end ? end : blocks_end;
}

// Carves the next page of the current slab that has free blocks. `prefer_partial`: not an absent page while
// another slab has holes in resident ones.
Carved carve(Heap &heap, Bin &bin, bool prefer_partial, LimitTalk &talk) {
  SlabRow &row = *bin.current;
  const uintptr_t slab = address_of(slab_of(row));
  const BinSlabs &slabs = heap.slabs[row.prefix.bin];
  BitmapWord *bits = free_bits(row);
  auto page = static_cast<unsigned>((bin.base + bin.window - slab + kPage - 1) / kPage);
  for (; page < kPagesPerSlab; ++page) {
    uint64_t words[kWordsPerPage], any = 0;
    for (unsigned w = 0; w < kWordsPerPage; ++w) {
      words[w] = bits[page * kWordsPerPage + w].load(std::memory_order_relaxed);
      any |= words[w];
    }
    if (any != 0) {
      bool present = row.present.load(std::memory_order_relaxed) >> page & 1;
      if (!present && prefer_partial && slabs.partial.first != nullptr) return Carved::kNone;
      if (!present && !row.prefix.fills_absent_pages) {
        // Left for later: its free blocks stay in the bitmap, so the window starts anew behind it.
        bin.base = slab + (page + 1) * kPage;
        bin.window = 0;
        continue;
      }
      Carved carved = carve_page(heap, bin, row, page, words, talk);
      if (carved == Carved::kRefused) return carved;
      bin.window = static_cast<uint32_t>(slab + window_end(row, page) - bin.base);
      return carved;
    }
    bin.window = static_cast<uint32_t>(slab + window_end(row, page) - bin.base);
  }
  return Carved::kNone;
}

// ---- where the next slab comes from

SlabRow *claim_listed(SlabList &list) {
  unsigned tries = kClaimTries;
  for (SlabRow *row = list.first; row != nullptr && tries != 0; row = row->next, --tries) {
    if (!row->claim.try_take()) continue;
    remove(list, *row);
    return row;
  }
  return nullptr;
}

// A free slab of the tier's first superslabs, by preference one with resident pages.
SlabRow *claim_free(Heap &heap, Tier tier, bool resident_only) {
  unsigned tries = kClaimTries;
  for (Superslab *s = open_list(heap, tier); s != nullptr && tries != 0; s = s->head.open_next, --tries) {
    for (uint32_t slabs = s->head.free_slabs; slabs != 0; slabs &= slabs - 1) {
      SlabRow &row = s->row(static_cast<unsigned>(std::countr_zero(slabs)));
      if (resident_only && row.present.load(std::memory_order_relaxed) == 0) continue;
      if (row.claim.try_take()) return &row;
    }
  }
  return nullptr;
}

bool take_free_slab(Heap &heap, SlabRow *row, unsigned bin) {
  if (row == nullptr) return false;
  Superslab *superslab = superslab_of(row);
  assign_slab(heap, superslab, row->prefix.index, bin);
  make_current(heap, *row, true);
  return true;
}

bool take_listed_slab(Heap &heap, SlabRow *row, bool fills_absent_pages) {
  if (row == nullptr) return false;
  make_current(heap, *row, fills_absent_pages);
  return true;
}

bool take_next_slab(Heap &heap, unsigned bin) {
  BinSlabs &slabs = heap.slabs[bin];
  if (take_listed_slab(heap, claim_listed(slabs.partial), false)) return true;
  if (take_free_slab(heap, claim_free(heap, Tier::kHot, true), bin)) return true;
  if (take_listed_slab(heap, claim_listed(slabs.sparse), true)) return true;
  if (take_free_slab(heap, claim_free(heap, Tier::kHot, false), bin)) return true;
  if (take_free_slab(heap, claim_free(heap, Tier::kDraining, false), bin)) return true;
  if (add_superslab(heap) == nullptr) return false;
  return take_free_slab(heap, claim_free(heap, Tier::kHot, false), bin);
}

// At the limit even slabs with a single free block will do.
void offer_all(Heap &heap, unsigned bin) {
  for (Superslab *s = heap.tiny.first; s != nullptr; s = s->head.next) {
    for (unsigned i = 1; i < kSlabsPerSuperslab; ++i) {
      SlabRow &row = s->row(i);
      if (row.prefix.pool != Pool::kTiny || row.prefix.bin != bin) continue;
      if (row.prefix.state != SlabState::kFull && row.prefix.state != SlabState::kSparse) continue;
      if (free_in_resident_pages(row) == 0) continue;
      unlist(heap, row);
      list_partial(heap, row);
    }
  }
}

}  // namespace

void adopt_superslab(Heap &heap, Superslab *superslab) {
  SuperslabHead &head = superslab->head;
  head.free_slabs = kAllSlabs;
  head.tier = Tier::kFree;
  for (unsigned i = 1; i < kSlabsPerSuperslab; ++i) superslab->row(i).prefix.index = static_cast<uint8_t>(i);
  link_superslab(heap, heap.tiny, superslab);
  heap.counters.superslabs_free.add(1);
  heap.counters.mapped_bytes.add(kSuperslabSize);
  heap.counters.metadata_bytes.add(kPage);
  open_superslab(heap, superslab);
}

bool refill_bin(Heap &heap, unsigned index) {
  Bin &bin = heap.bins[index];
  heap.counters.refills.add(1);
  if (has_remote_frees(heap)) drain_remote_frees(heap);
  bool prefer_partial = true, offered = false;
  LimitTalk talk;
  for (;;) {
    if (bin.current != nullptr) {
      Carved carved = carve(heap, bin, prefer_partial, talk);
      if (carved == Carved::kBlocks) return true;
      if (carved == Carved::kRefused) {
        // The host was asked and may have freed, or even allocated: nothing seen before holds.
        if (talk.asked_now()) {
          if (bin.list != nullptr) return true;
          continue;
        }
        if (offered) {
          heap.counters.limit_failures.add(1);
          return false;
        }
      }
      SlabRow &row = *bin.current;
      bool others = heap.slabs[index].partial.first != nullptr;
      if (carved == Carved::kNone && !row.prefix.fills_absent_pages && !others && row.prefix.used < row.prefix.capacity) {
        // Its resident holes are used up and nobody else has any: go on with its absent pages.
        row.prefix.fills_absent_pages = true;
        bin.base = address_of(slab_of(row));
        bin.window = 0;
        continue;
      }
      retire(heap, bin);
      if (carved == Carved::kRefused) {
        offered = true;
        offer_all(heap, index);
      }
    }
    prefer_partial = false;
    if (take_next_slab(heap, index)) continue;
    if (offered) return false;
    offered = true;
    offer_all(heap, index);
    if (heap.slabs[index].partial.first == nullptr) return false;
  }
}

void settle_freed(Heap &heap, SlabRow &row) {
  SlabPrefix &prefix = row.prefix;
  if (prefix.state == SlabState::kCurrent) return;
  if (prefix.used == 0) {
    unlist(heap, row);
    make_free(heap, row);
  } else if (prefix.holes >= prefix.offer_at && prefix.state != SlabState::kPartial) {
    unlist(heap, row);
    list_partial(heap, row);
  }
}

void retire_current(Heap &heap, unsigned index) {
  Bin &bin = heap.bins[index];
  if (bin.current == nullptr) return;
  SlabRow &row = *bin.current;
  BitmapWord *bits = free_bits(row);
  unsigned count = 0;
  for (Block *block = bin.list; block != nullptr; ++count) {
    unsigned granule = offset_in_slab(block) / kGranule;
    BitmapWord &word = bits[granule / 64];
    word.store(word.load(std::memory_order_relaxed) | uint64_t{1} << granule % 64, std::memory_order_relaxed);
    Block *next = block->next;
    block->tag = 0;
    block = next;
  }
  bin.list = nullptr;
  row.prefix.used = static_cast<uint16_t>(row.prefix.used - count);
  heap.slabs[index].used_blocks.subtract(count);
  retire(heap, bin);
}

void retire_all(Heap &heap) {
  for (unsigned bin = 0; bin < heap.kind_groups * kClasses; ++bin) retire_current(heap, bin);
}

unsigned list_length(const Bin &bin) {
  unsigned count = 0;
  for (const Block *block = bin.list; block != nullptr; block = block->next) ++count;
  return count;
}

bool is_on_list(const Bin &bin, const void *block) {
  for (const Block *b = bin.list; b != nullptr; b = b->next) {
    if (b == block) return true;
  }
  return false;
}

void release_empty_superslabs(Heap &heap, size_t keep) {
  uint64_t spare = heap.counters.superslabs_free.get();
  for (Superslab *s = open_list(heap, Tier::kFree), *next; s != nullptr && spare > keep; s = next) {
    next = s->head.open_next;
    if (s->head.tier != Tier::kFree || s == heap.home) continue;
    if (!unlink_superslab(heap, heap.tiny, s)) continue;
    close_superslab(heap, s);
    heap.counters.superslabs_free.subtract(1);
    heap.counters.mapped_bytes.subtract(kSuperslabSize);
    size_t resident = 0;
    for (unsigned i = 1; i < kSlabsPerSuperslab; ++i) {
      resident += static_cast<size_t>(std::popcount(s->row(i).present.load(std::memory_order_relaxed))) * kPage;
    }
    heap.counters.released_bytes.add(resident);
    heap.counters.metadata_bytes.subtract(
        (1 + static_cast<size_t>(std::popcount(s->head.bitmap_pages))) * kPage);
    release_superslab(s);
    --spare;
  }
}

void mark_draining(Heap &heap) {
  for (Superslab *s = heap.tiny.first; s != nullptr; s = s->head.next) {
    SuperslabHead &head = s->head;
    if (head.tier == Tier::kFree) continue;
    bool quarter = std::popcount(head.free_slabs) >= static_cast<int>(kSlabsPerSuperslab - 1) * 3 / 4;
    change_tier(heap, s, quarter ? Tier::kDraining : Tier::kHot);
  }
}

unsigned free_in_resident_pages(SlabRow &row) {
  BitmapWord *bits = free_bits(row);
  unsigned count = 0;
  uint16_t present = row.present.load(std::memory_order_relaxed);
  for (; present != 0; present &= static_cast<uint16_t>(present - 1)) {
    unsigned page = static_cast<unsigned>(std::countr_zero(present));
    for (unsigned w = 0; w < kWordsPerPage; ++w) {
      count += static_cast<unsigned>(std::popcount(bits[page * kWordsPerPage + w].load(std::memory_order_relaxed)));
    }
  }
  return count;
}

unsigned free_blocks(SlabRow &row) {
  unsigned count = 0;
  for (unsigned w = 0; w < kWordsPerSlab; ++w) {
    count += static_cast<unsigned>(std::popcount(free_bits(row)[w].load(std::memory_order_relaxed)));
  }
  return count;
}

}  // namespace ace
