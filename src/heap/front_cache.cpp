#include "heap/front_cache.h"

#include <utility>

#include "heap/address_map.h"

namespace ace {
namespace {

// The slab of what may be a cached block of the bin, wherever it points; nullptr: of none.
SlabRow *row_of_cached(const Heap &heap, unsigned bin, const Block *block) {
  if (!is_ours(block)) return nullptr;
  Superslab *superslab = superslab_of(block);
  const unsigned index = slab_index_of(block);
  if (index == 0 || superslab->head.prefix.owner != &heap) return nullptr;
  SlabRow &row = superslab->row(index);
  const bool fits =
      row.prefix.pool == Pool::kTiny && row.prefix.bin == bin && row.prefix.state != SlabState::kFree;
  return fits ? &row : nullptr;
}

// Listed or cached blocks go to the bitmaps, those in the window onto the bin's list. Often the next block is
// of the same slab, which is looked at once then.
void put_back(Heap &heap, unsigned index, Block *blocks) {
  Bin &bin = heap.bins[index];
  unsigned count = 0;
  const Block *previous = nullptr;
  for (Block *block = blocks; block != nullptr;) {
    SlabRow *row = row_of_cached(heap, index, block);
    bool may_be = row != nullptr;
    unsigned freed = 0;
    if (may_be) {
      const uintptr_t slab = address_of(block) / kSlabSize;
      const bool is_current = row->prefix.state == SlabState::kCurrent;
      do {
        BitmapWord &word = free_word(superslab_of(block), block);
        const uint64_t bits = word.load(std::memory_order_relaxed);
        may_be = starts_block(row->prefix, offset_in_slab(block)) && !says_free(bits, block);
        if (++count > kSlabSize / kGranule + kFrontCache || !may_be || block->tag != &bin) [[unlikely]] {
          // Where a link led astray it is the one before that was written to. What lay behind is lost.
          if (may_be) previous = nullptr;
          may_be = false;
          break;
        }
        Block *next = block->next;
        if (is_current && bin.has(block)) {
          block->next = std::exchange(bin.list, block);
        } else {
          block->tag = nullptr;
          word.store(bits | free_bit(block), std::memory_order_relaxed);
          ++freed;
        }
        previous = std::exchange(block, next);
      } while (address_of(block) / kSlabSize == slab);
    }
    if (freed != 0) {
      count_freed(heap, *row, freed);
      if (row->prefix.due == 0) settle_after_free(heap, *row);  // it may be no slab of the heap's any more
    }
    if (!may_be) return report_late(ACE_ERROR_WRITE_AFTER_FREE, previous != nullptr ? previous : block);
  }
}

// Where as many again were freed as the list holds, with no refill in between, the program shrinks. (Four times
// as many made no difference to larson, nor to sh6bench and sh8bench.)
void make_room(CachedBlocks &cached, unsigned bin) {
  cached.room = kRoom[class_of_bin(bin)];
  cached.gives_up_at = -cached.room;
}

// A watch costs some hundred longer frees.
constexpr uint64_t kRefillsPerWatch = 1024;
constexpr uint32_t kWatched = 128;

// By what larson gains a wrong guess costs as much as some three blocks of the window that go the longer way.
// Where wrong ones are few the change is not worth it; where they had to be a fifth larson took 1.05 times as
// long.
bool are_mixed(const FrontCache &cache) {
  return cache.wrong >= kWatched / 12 && cache.wrong >= cache.inside / 3;
}

// As the simplest processors do (T.-Y. Yeh and Y. Patt, "Two-level adaptive training branch prediction",
// MICRO 1991), so that what alternates, or comes in bursts, counts as foretold.
bool is_foretold(FrontCache &cache, bool is_inside) {
  const unsigned shift = cache.history % 16u * 2;
  const uint32_t guess = cache.guesses >> shift & 3;
  const uint32_t next = is_inside ? std::min(guess + 1, 3u) : std::max(guess, 1u) - 1;
  cache.guesses ^= (guess ^ next) << shift;
  cache.history = static_cast<uint8_t>(cache.history << 1 | is_inside);
  return guess / 2 == is_inside;
}

void set_hints(Heap &heap) {
  for (unsigned bin = 0; bin < groups_of(heap) * kClasses; ++bin) {
    if (SlabRow *row = heap.slabs[bin].current; row != nullptr)
      bin_of_slab(heap, address_of(slab_of(*row))) =
          static_cast<uint16_t>(bin_to_look_at(heap, bin) * kBinSize);
  }
}

}  // namespace

void watch_frees_at_times(Heap &heap) {
  if (heap.counters.refills.get() % kRefillsPerWatch != 0) return;
  heap.front_cache->watched = kWatched;
  heap.front_cache->inside = heap.front_cache->wrong = 0;
  set_hints(heap);
}

void watch_free(Heap &heap, SlabRow &row, Block *block) {
  FrontCache &cache = *heap.front_cache.operator->();
  const bool is_inside = heap.bins[row.prefix.bin].has(block);
  cache.inside += is_inside;
  cache.wrong += !is_foretold(cache, is_inside);
  if (--cache.watched == 0) {
    cache.is_mixed = are_mixed(cache);
    set_hints(heap);
  }
  BitmapWord &word = free_word(superslab_of(block), block);
  cache_block(heap, row, word, word.load(std::memory_order_relaxed) | free_bit(block), block);
}

uint32_t cached_blocks(const Heap &heap, unsigned bin) {
  const CachedBlocks &cached = cached_of(heap, bin);
  if (cached.list == nullptr) return 0;  // with all its room, or given up
  return kRoom[class_of_bin(bin)] - static_cast<uint32_t>(std::max(cached.room, int64_t{0}));
}

bool may_be_cached(const Heap &heap, const Bin &bin, const Block *block) {
  if (!has_cache(heap)) return false;
  const SlabRow *row = row_of_cached(heap, bin_index(heap, bin), block);
  return row != nullptr && starts_block(row->prefix, offset_in_slab(block)) &&
         !is_in_bitmap(superslab_of(block), block);
}

void free_beyond_room(Heap &heap, SlabRow &row, Block *block) {
  const unsigned index = row.prefix.bin;
  Bin &bin = heap.bins[index];
  CachedBlocks &cached = cached_of(heap, index);
  if (cached.room == cached.gives_up_at) put_back(heap, index, std::exchange(cached.list, nullptr));
  if (row.prefix.state == SlabState::kCurrent && bin.has(block)) {
    block->tag = &bin;
    block->next = std::exchange(bin.list, block);
  } else {
    free_to_bitmap(heap, superslab_of(block), row, block);
  }
}

bool refill_from_cache(Heap &heap, unsigned bin) {
  CachedBlocks &cached = cached_of(heap, bin);
  make_room(cached, bin);
  heap.bins[bin].list = std::exchange(cached.list, nullptr);
  return heap.bins[bin].list != nullptr;
}

void flush_cache(Heap &heap, unsigned bin) {
  CachedBlocks &cached = cached_of(heap, bin);
  make_room(cached, bin);
  put_back(heap, bin, std::exchange(heap.bins[bin].list, nullptr));
  put_back(heap, bin, std::exchange(cached.list, nullptr));
}

}  // namespace ace
