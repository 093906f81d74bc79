#include "heap/front_cache.h"

#include "heap/address_map.h"

namespace ace {
namespace {

// Listed or cached blocks go to the bitmaps, those in the window onto the bin's list.
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

void spill_old(Heap &heap, unsigned bin) {
  CachedBlocks &cached = cached_of(heap, bin);
  cached.young_length = 0;
  put_back(heap, bin, std::exchange(cached.old, std::exchange(cached.young, nullptr)));
}

bool refill_from_cache(Heap &heap, unsigned bin) {
  CachedBlocks &cached = cached_of(heap, bin);
  cached.young_length = 0;
  heap.bins[bin].list = std::exchange(cached.young, nullptr);
  if (heap.bins[bin].list == nullptr) heap.bins[bin].list = std::exchange(cached.old, nullptr);
  return heap.bins[bin].list != nullptr;
}

void flush_cache(Heap &heap, unsigned bin) {
  CachedBlocks &cached = cached_of(heap, bin);
  cached.young_length = 0;
  put_back(heap, bin, std::exchange(heap.bins[bin].list, nullptr));
  put_back(heap, bin, std::exchange(cached.young, nullptr));
  put_back(heap, bin, std::exchange(cached.old, nullptr));
}

}  // namespace ace
