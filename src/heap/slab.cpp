#include "heap/slab.h"

#include <algorithm>

#include "base/experiment.h"
#include "heap/carve.h"
#include "heap/class_pattern.h"
#include "heap/front_cache.h"
#include "heap/remote.h"
#include "heap/scatter.h"
#include "heap/slab_list.h"
#include "heap/tiers.h"

namespace ace {
namespace {

// A slab that ran full is offered again when one in 32 of its blocks is free: enough that a refill stays in it
// for a while, and no more, since what is not offered costs memory.
unsigned offer_at(const SlabPrefix &prefix) { return (prefix.capacity + 31u) / 32; }

// ---- lists

void unlist(Heap &heap, SlabRow &row) {
  BinSlabs &slabs = heap.slabs[row.prefix.bin];
  if (row.prefix.state == SlabState::kPartial) remove(slabs.partial, row);
  if (row.prefix.state == SlabState::kSparse) remove(slabs.sparse, row);
}

// First in, first out: until its turn comes a sweep goes on, and more of the slab is free. Last in, first out
// took the same time and 2% more memory (geometric means of nine programs on LuaJIT).
void list_partial(Heap &heap, SlabRow &row) {
  row.prefix.state = SlabState::kPartial;
  row.prefix.due = row.prefix.used;
  append(heap.slabs[row.prefix.bin].partial, row);
}

// ---- slabs, from state to state

// The slab goes from one class to another. Who gets its memory may copy it unwritten to where a live block of
// the old class has its tag, and that block would look freed. In the same class each block loses its tag as it
// is issued.
void remove_old_tags(SlabRow &row) {
  const uint16_t present = row.present.load(std::memory_order_relaxed);
  const uint32_t size = block_size_of(row.prefix), end = blocks_end(row.prefix);
  for (uint32_t at = 0; at < end; at += size) {
    if (present >> at / kPage & 1) set_shared_tag(slab_of(row) + at, nullptr);
  }
  row.prefix.has_old_tags = false;
}

// The slab is free, and its claim is taken.
void assign_slab(Heap &heap, SlabRow &row, unsigned bin) {
  if (row.prefix.has_old_tags && row.prefix.bin != bin) remove_old_tags(row);
  take_slab(heap, row);
  const unsigned size_class = class_of_bin(bin);
  SlabPrefix &prefix = row.prefix;
  prefix.pool = Pool::kTiny;
  prefix.kind_group = static_cast<uint8_t>(bin / kClasses);
  prefix.size_class = static_cast<uint8_t>(size_class);
  prefix.bin = static_cast<uint8_t>(bin);
  prefix.used = 0;
  prefix.capacity = static_cast<uint16_t>(blocks_per_slab(size_class));
  prefix.bound = slab_bound(size_class);
  prefix.block_size = heap.nature == Nature::kHardened ? 0 : kClassSize[size_class];
  prefix.reciprocal = slab_reciprocal(size_class);
  prefix.owner = &heap;
  BitmapWord *bits = free_bits(row);
  const ClassPattern &pattern = kClassPattern[size_class];
  for (unsigned w = 0; w < kWordsPerSlab; ++w) bits[w].store(pattern.words[w], std::memory_order_relaxed);
  heap.counters.slabs_assigned.add(1);
}

// No block of it is live, it is not current and in no list. The row may be gone afterwards.
void make_free(Heap &heap, SlabRow &row) {
  row.prefix.state = SlabState::kFree;
  heap.counters.slabs_emptied.add(1);
  give_slab(heap, row);
}

// The claim is taken; the slab is in no list.
void make_current(Heap &heap, SlabRow &row, bool fills_absent_pages) {
  const unsigned index = row.prefix.bin;
  ACE_ASSERT(heap.slabs[index].current == nullptr && !has_blocks(heap, heap.bins[index]));
  row.prefix.state = SlabState::kCurrent;
  row.prefix.fills_absent_pages = fills_absent_pages;
  heap.slabs[index].current = &row;
  heap.bins[index].reciprocal =
      heap.nature == Nature::kHardened ? 0 : kWideReciprocal[row.prefix.size_class].reciprocal;
  if (kCanHarden && heap.nature == Nature::kHardened) begin_circle(heap, heap.slabs[index]);
  begin_window(heap, index, 0);
  bin_of_slab(heap, address_of(slab_of(row))) = static_cast<uint16_t>(bin_to_look_at(heap, index) * kBinSize);
}

// The list is empty: the slab goes where its free bits say. `used_up`: it gave what it has in resident pages.
// If not, it was taken from its bin before, and is offered again with however little: else each such time would
// begin one more slab, and leave one more behind with a few pages.
void retire(Heap &heap, unsigned index, bool used_up = true) {
  SlabRow &row = *heap.slabs[index].current;
  SlabPrefix &prefix = row.prefix;
  heap.slabs[index].current = nullptr;
  heap.slabs[index].window_end = 0;
  heap.bins[index].limit = heap.bins[index].reciprocal = 0;
  const unsigned free = prefix.capacity - prefix.used, resident = free == 0 ? 0 : free_in_resident_pages(row);
  row.claim.release();
  if (prefix.used == 0) return make_free(heap, row);
  if (resident >= offer_at(prefix) || (!used_up && resident != 0)) return list_partial(heap, row);
  prefix.due = std::min(static_cast<uint16_t>(offer_at(prefix) - resident), prefix.used);
  if (resident == free) {
    prefix.state = SlabState::kFull;
    return;
  }
  prefix.state = SlabState::kSparse;
  prepend(heap.slabs[prefix.bin].sparse, row);
}

// ---- where the next slab comes from

// A free slab of the tier's first superslabs, by preference one with resident pages.
SlabRow *claim_free(Heap &heap, Tier tier, bool resident_only) {
  unsigned tries = kClaimTries;
  for (Superslab *s = open_list(heap, tier); s != nullptr && tries != 0; s = s->head.open_next, --tries) {
    for (uint32_t slabs = s->head.free_slabs; slabs != 0; slabs &= slabs - 1) {
      SlabRow &row = s->row(static_cast<unsigned>(std::countr_zero(slabs)));
      if (resident_only && (row.present.load(std::memory_order_relaxed) & ~kTailPage) == 0) continue;
      if (row.claim.try_take()) return &row;
    }
  }
  return nullptr;
}

// Experiment warm_pool: slabs that are kept ready.
[[maybe_unused]] SlabRow *take_ready(Heap &heap, unsigned bin) {
  SlabRow *row = heap.warm_pool->first[bin];
  (row != nullptr ? heap.warm_pool->hits : heap.warm_pool->misses).add(1);
  if (row != nullptr) heap.warm_pool->first[bin] = row->next;
  return row;
}

[[maybe_unused]] void make_ready(Heap &heap, unsigned bin) {
  for (unsigned n = 0; n < kWarmPool; ++n) {
    SlabRow *row = claim_free(heap, Tier::kHot, true);
    if (row == nullptr) row = claim_free(heap, Tier::kHot, false);
    if (row == nullptr) return;
    assign_slab(heap, *row, bin);
    row->prefix.state = SlabState::kReady;
    row->next = std::exchange(heap.warm_pool->first[bin], row);
  }
}

[[maybe_unused]] void drop_ready(Heap &heap, unsigned bin) {
  for (SlabRow *row = std::exchange(heap.warm_pool->first[bin], nullptr), *next; row != nullptr; row = next) {
    next = row->next;
    row->claim.release();
    make_free(heap, *row);
  }
}

bool take_free_slab(Heap &heap, SlabRow *row, unsigned bin) {
  if (row == nullptr) return false;
  assign_slab(heap, *row, bin);
  make_current(heap, *row, true);
  if constexpr (kWarmPool != 0) make_ready(heap, bin);
  return true;
}

bool take_listed_slab(Heap &heap, SlabRow *row, bool fills_absent_pages) {
  if (row == nullptr) return false;
  make_current(heap, *row, fills_absent_pages);
  return true;
}

// Gives the current slabs of other bins back whose blocks are all free, where blocks are large and so few that
// the look is cheap: a size that was asked for a moment ago, and may not be again, would hold its pages. True
// where there was one.
bool retire_unused(Heap &heap, unsigned bin) {
  constexpr unsigned kFewBlocks = 32;
  bool any = false;
  for (unsigned other = 0; other < groups_of(heap) * kClasses; ++other) {
    const SlabRow *row = heap.slabs[other].current;
    if (other == bin || row == nullptr || row->prefix.capacity > kFewBlocks) continue;
    if (list_length(heap, heap.bins[other]) != row->prefix.used) continue;
    retire_current(heap, other);
    any = true;
  }
  return any;
}

bool take_next_slab(Heap &heap, unsigned bin) {
  BinSlabs &slabs = heap.slabs[bin];
  if (take_listed_slab(heap, claim_listed(slabs.partial), false)) return true;
  if constexpr (kWarmPool != 0) {
    if (take_listed_slab(heap, take_ready(heap, bin), true)) return true;
  }
  if (take_free_slab(heap, claim_free(heap, Tier::kHot, true), bin)) return true;
  if (retire_unused(heap, bin) && take_free_slab(heap, claim_free(heap, Tier::kHot, true), bin)) return true;
  if (take_listed_slab(heap, claim_listed(slabs.sparse), true)) return true;
  if (take_free_slab(heap, swap_for_huge(heap), bin)) return true;
  if (take_free_slab(heap, claim_free(heap, Tier::kHot, false), bin)) return true;
  if (take_free_slab(heap, claim_free(heap, Tier::kDraining, false), bin)) return true;
  return take_free_slab(heap, add_superslab(heap), bin);
}

// Lists the slabs that are not, and of which is_enough(row) says that enough is free in resident pages.
template <typename IsEnough>
void offer_if(Heap &heap, IsEnough is_enough) {
  for (Superslab *s = heap.tiny.first; s != nullptr; s = s->head.next) {
    for (unsigned i = 1; i < kSlabsPerSuperslab; ++i) {
      SlabRow &row = s->row(i);
      if (row.prefix.pool != Pool::kTiny) continue;
      if (row.prefix.state != SlabState::kFull && row.prefix.state != SlabState::kSparse) continue;
      if (!is_enough(row)) continue;
      unlist(heap, row);
      list_partial(heap, row);
    }
  }
}

// At the limit even slabs with a single free block will do.
void offer_all(Heap &heap, unsigned bin) {
  offer_if(heap, [bin](SlabRow &row) { return row.prefix.bin == bin && free_in_resident_pages(row) != 0; });
}

}  // namespace

void settle_after_free(Heap &heap, SlabRow &row) {
  settle_freed(heap, row);
  if (!heap.retire_asked) [[likely]]
    return;
  heap.retire_asked = false;
  heap.trimming = true;  // what becomes empty is the worker's
  retire_all(heap);
  heap.trimming = false;
}

void seal_slabs(Heap &heap) {
  retire_all(heap);
  for (Superslab *s = heap.tiny.first; s != nullptr; s = s->head.next) {
    for (unsigned i = 1; i < kSlabsPerSuperslab; ++i) {
      SlabRow &row = s->row(i);
      if (row.prefix.pool != Pool::kTiny) continue;
      if (row.prefix.used == 0) continue;
      unlist(heap, row);
      row.prefix.state = SlabState::kFull;
      row.prefix.due = row.prefix.used;
    }
  }
  heap.sealed = true;
}

void unseal_slabs(Heap &heap) {
  heap.sealed = false;
  offer_if(heap, [](SlabRow &row) { return free_in_resident_pages(row) >= offer_at(row.prefix); });
}

bool refill_bin(Heap &heap, unsigned index) {
  Bin &bin = heap.bins[index];
  heap.counters.refills.add(1);
  if (has_cache(heap)) watch_frees_at_times(heap);
  if constexpr (kServesMalloc) send_remote_frees(heap);
  if (has_remote_frees(heap)) {
    drain_remote_frees(heap);
    if (has_blocks(heap, bin)) return true;
  }
  if (has_cache(heap) && refill_from_cache(heap, index)) return true;
  BinSlabs &slabs = heap.slabs[index];
  bool prefer_partial = true, offered = false;
  LimitTalk talk;
  for (;;) {
    if (slabs.current != nullptr) {
      Carved carved = carve(heap, index, prefer_partial, talk);
      if (carved == Carved::kBlocks) return true;
      if (carved == Carved::kRefused) {
        if (has_blocks(heap, bin)) return true;  // freed meanwhile, from another thread or by the host
        if (talk.changed()) continue;
        if (offered) {
          heap.counters.limit_failures.add(1);
          return false;
        }
      }
      SlabRow &row = *slabs.current;
      bool others = slabs.partial.first != nullptr;
      if (carved == Carved::kNone && !row.prefix.fills_absent_pages && !others &&
          row.prefix.used < row.prefix.capacity) {
        // Its resident holes are used up and nobody else has any: go on with its absent pages.
        carve_absent_pages_too(heap, index);
        continue;
      }
      retire(heap, index);
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
    if (slabs.partial.first == nullptr) return false;
  }
}

void settle_freed(Heap &heap, SlabRow &row) {
  SlabPrefix &prefix = row.prefix;
  if (prefix.state == SlabState::kCurrent) return;
  if (prefix.used == 0) {
    unlist(heap, row);
    make_free(heap, row);
  } else if (prefix.state != SlabState::kPartial) {
    unlist(heap, row);
    list_partial(heap, row);
  }
}

void retire_current(Heap &heap, unsigned index) {
  Bin &bin = heap.bins[index];
  if (has_cache(heap)) flush_cache(heap, index);
  if (heap.slabs[index].current == nullptr) return;
  SlabRow &row = *heap.slabs[index].current;
  BitmapWord *bits = free_bits(row);
  unsigned count = 0;
  const Block *spoiled = nullptr, *previous = nullptr;
  for (Block *block = bin.list; block != nullptr; ++count) {
    // Whoever wrote to a free block may have led the list anywhere, and in a circle. What lay behind is lost.
    const bool in_window = bin.has(block);
    if (!in_window || block->tag != &bin) [[unlikely]] {
      spoiled = in_window || previous == nullptr ? block : previous;
      break;
    }
    unsigned granule = granule_of(offset_in_slab(block));
    BitmapWord &word = bits[granule / 64];
    word.store(word.load(std::memory_order_relaxed) | uint64_t{1} << granule % 64, std::memory_order_relaxed);
    previous = block;
    block->tag = nullptr;
    block = block->next;
  }
  bin.list = nullptr;
  if (kCanHarden && heap.nature == Nature::kHardened) {
    const void *start;
    const uint64_t blocks = take_back_scattered(bin, start);
    BitmapWord &free = free_word(superslab_of(&row), start);
    free.store(free.load(std::memory_order_relaxed) | blocks, std::memory_order_relaxed);
    count = static_cast<unsigned>(std::popcount(blocks));
  }
  row.prefix.used = static_cast<uint16_t>(row.prefix.used - count);
  heap.slabs[index].used_blocks.subtract(count);
  retire(heap, index, false);
  if (spoiled != nullptr) report_late(ACE_ERROR_WRITE_AFTER_FREE, spoiled);
}

void retire_all(Heap &heap) {
  for (unsigned bin = 0; bin < groups_of(heap) * kClasses; ++bin) {
    retire_current(heap, bin);
    if constexpr (kWarmPool != 0) drop_ready(heap, bin);
  }
}

}  // namespace ace
