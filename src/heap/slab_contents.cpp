// What of a slab is free: on its bin's list, or in its bitmap.
#include <bit>

#include "base/experiment.h"
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

bool leads_to(const Heap &heap, const Bin &bin, const Block *first, const void *wanted) {
  unsigned count = 0;
  for (const Block *b = if_listed(heap, bin, first, 0); b != nullptr;
       b = if_listed(heap, bin, b->next, ++count)) {
    if (b == wanted) return true;
  }
  return false;
}

}  // namespace

unsigned list_length(const Heap &heap, const Bin &bin) {
  if (heap.nature == Nature::kHardened) return static_cast<unsigned>(std::popcount(bin.reciprocal));
  unsigned count = 0;
  for (const Block *b = if_listed(heap, bin, bin.list, 0); b != nullptr;
       b = if_listed(heap, bin, b->next, count))
    ++count;
  return count;
}

unsigned waiting_blocks(const Heap &heap, unsigned bin) {
  return list_length(heap, heap.bins[bin]) + (has_cache(heap) ? cached_blocks(heap, bin) : 0);
}

bool is_on_list(const Bin &bin, const void *block) {
  Heap &heap = *superslab_of(block)->head.prefix.owner;
  if (leads_to(heap, bin, bin.list, block)) return true;
  if (!has_cache(heap)) return false;
  return leads_to(heap, bin, cached_of(heap, bin_index(heap, bin)).list, block);
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
