// What of a slab is free: on its bin's list, or in its bitmap.
#include <bit>

#include "base/experiment.h"
#include "heap/address_map.h"
#include "heap/front_cache.h"
#include "heap/remote.h"
#include "heap/slab.h"

namespace ace {
namespace {

// The pages that the slab's blocks lie in.
unsigned pages_for_blocks(const SlabRow &row) {
  return static_cast<unsigned>((blocks_end(row.prefix) + kPage - 1) / kPage);
}

// `block`, where it is one that may be listed, as `count` others are; nullptr where somebody who wrote to a
// free block has led the list elsewhere, or for longer than it can be.
const Block *if_listed(const Heap &heap, const Bin &bin, const Block *block, unsigned count) {
  if (block == nullptr || count > kSlabSize / kGranule + kFrontCache) return nullptr;
  return bin.has(block) || may_be_cached(heap, bin, block) ? block : nullptr;
}

// How many blocks `first` leads to, before `wanted` or in all.
unsigned count_until(const Heap &heap, const Bin &bin, const Block *first, const void *wanted, bool *found) {
  unsigned count = 0;
  for (const Block *b = first; (b = if_listed(heap, bin, b, count)) != nullptr; b = b->next, ++count) {
    if (b == wanted) {
      *found = true;
      break;
    }
  }
  return count;
}

bool leads_to(const Heap &heap, const Bin &bin, const Block *first, const void *wanted) {
  bool found = false;
  count_until(heap, bin, first, wanted, &found);
  return found;
}

}  // namespace

bool may_be_cached(const Heap &heap, const Bin &bin, const Block *block) {
  if (!has_cache(heap) || !is_ours(block)) return false;
  Superslab *superslab = superslab_of(block);
  const unsigned index = slab_index_of(block);
  if (index == 0 || superslab->head.prefix.owner != &heap) return false;
  const SlabPrefix &prefix = superslab->row(index).prefix;
  return prefix.pool == Pool::kTiny && prefix.bin == bin_index(heap, bin) && prefix.state != SlabState::kFree &&
         starts_block(prefix, offset_in_slab(block)) && !is_in_bitmap(superslab, block);
}

void put_back(Heap &heap, unsigned index, Block *blocks) {
  Bin &bin = heap.bins[index];
  unsigned count = 0;
  for (Block *block = blocks, *next; block != nullptr; block = next) {
    if (++count > kSlabSize / kGranule + kFrontCache || !may_be_cached(heap, bin, block) || block->tag != &bin)
        [[unlikely]]
      return report_late(ACE_ERROR_WRITE_AFTER_FREE, block);  // what lay behind is lost
    next = block->next;
    if (bin.has(block)) {
      block->next = std::exchange(bin.list, block);
      continue;
    }
    block->tag = nullptr;
    Superslab *superslab = superslab_of(block);
    free_to_bitmap(heap, superslab, superslab->row(slab_index_of(block)), block);
  }
}

void spill_old(Heap &heap, unsigned bin) {
  FrontCache &cache = *heap.front_cache.operator->();
  heap.slabs[bin].cached = 0;
  put_back(heap, bin, std::exchange(cache.old[bin], std::exchange(cache.young[bin], nullptr)));
}

unsigned list_length(const Heap &heap, const Bin &bin) {
  if (heap.nature == Nature::kHardened) return static_cast<unsigned>(std::popcount(bin.reciprocal));
  return count_until(heap, bin, bin.list, nullptr, nullptr);
}

bool is_on_list(const Bin &bin, const void *block) {
  const Heap &heap = *superslab_of(block)->head.prefix.owner;
  if (leads_to(heap, bin, bin.list, block)) return true;
  if (!has_cache(heap)) return false;
  const unsigned index = bin_index(heap, bin);
  return leads_to(heap, bin, heap.front_cache->young[index], block) ||
         leads_to(heap, bin, heap.front_cache->old[index], block);
}

bool is_tagged_free(const Bin &bin, const void *block) {
  // In this order: what is being sent gets its bit before it is sent no more.
  if (is_on_list(bin, block) || is_being_sent(block)) return true;
  return (remote_word(superslab_of(block), block).load(std::memory_order_acquire) & free_bit(block)) != 0;
}

unsigned free_in_resident_pages(SlabRow &row) {
  const uint16_t all = static_cast<uint16_t>(low_bits(pages_for_blocks(row)));
  uint16_t present = row.present.load(std::memory_order_relaxed);
  if ((present & all) == all) return row.prefix.capacity - row.prefix.used;
  BitmapWord *bits = free_bits(row);
  unsigned count = 0;
  for (; present != 0; present &= static_cast<uint16_t>(present - 1)) {
    unsigned page = static_cast<unsigned>(std::countr_zero(present));
    for (unsigned w = 0; w < kWordsPerPage; ++w) {
      // Most are empty where a slab is used up, and counting takes a call.
      if (const uint64_t word = bits[page * kWordsPerPage + w].load(std::memory_order_relaxed); word != 0)
        count += static_cast<unsigned>(std::popcount(word));
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
