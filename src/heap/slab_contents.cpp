// What of a slab is free: on its bin's list, or in its bitmap.
#include <bit>

#include "base/experiment.h"
#include "heap/front_cache.h"
#include "heap/slab.h"

namespace ace {
namespace {

// The pages that the slab's blocks lie in.
unsigned pages_for_blocks(const SlabRow &row) {
  return static_cast<unsigned>((blocks_end(row.prefix) + kPage - 1) / kPage);
}

// The list's next block; nullptr, too, where somebody who wrote to a free block has led it out of the window,
// or for longer than a slab has blocks.
const Block *next_on_list(const Bin &bin, const Block *block, unsigned count) {
  const Block *next = block->next;
  const bool sound = kFrontCache != 0 || next == nullptr || (bin.has(next) && count < kSlabSize / kGranule);
  return sound ? next : nullptr;
}

const Block *first_on_list(const Bin &bin) {
  return kFrontCache != 0 || bin.list == nullptr || bin.has(bin.list) ? bin.list : nullptr;
}

}  // namespace

unsigned list_length(const Heap &heap, const Bin &bin) {
  if (heap.nature == Nature::kHardened) return static_cast<unsigned>(std::popcount(bin.reciprocal));
  unsigned count = 0;
  for (const Block *b = first_on_list(bin); b != nullptr; b = next_on_list(bin, b, count)) ++count;
  return count;
}

bool is_on_list(const Bin &bin, const void *block) {
  unsigned count = 0;
  for (const Block *b = first_on_list(bin); b != nullptr; b = next_on_list(bin, b, ++count)) {
    if (b == block) return true;
  }
  if constexpr (kFrontCache != 0) {
    const Heap &heap = *superslab_of(block)->head.prefix.owner;
    return is_cached(heap, bin_index(heap, bin), block);
  }
  return false;
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
