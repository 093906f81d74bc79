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

// Listed or cached blocks go to the bitmaps, those in the window onto the bin's list. Often the next block is of
// the same slab, which is looked at once then.
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

// So many full lists with no refill in between are a program that shrinks. Where sizes come at random fewer
// are no rarity: with 1 larson took a fifth longer. Where it came true the last time, and as much again was freed,
// the first will do.
constexpr uint8_t kOverflows = 8;

// What of the bin's blocks the host, or a list, has; of which a difference alone is asked for.
uint32_t used_blocks(const Heap &heap, unsigned bin) {
  return static_cast<uint32_t>(heap.slabs[bin].used_blocks.get());
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

void watch_free(Heap &heap, unsigned index, Block *block) {
  FrontCache &cache = *heap.front_cache.operator->();
  const bool is_inside = heap.bins[index].has(block);
  cache.inside += is_inside;
  cache.wrong += !is_foretold(cache, is_inside);
  if (--cache.watched == 0) {
    cache.is_mixed = are_mixed(cache);
    set_hints(heap);
  }
  CachedBlocks &cached = cached_of(heap, index);
  cached.room != 0 ? cache_block(cached, heap.bins[index], block) : cache_beyond_young(heap, index, block);
}

uint32_t cached_blocks(const Heap &heap, unsigned bin) {
  const CachedBlocks &cached = cached_of(heap, bin);
  const uint32_t full = kFullLength[class_of_bin(bin)];
  return (cached.young != nullptr ? full - cached.room : 0) + (cached.old != nullptr ? full : 0);
}

bool may_be_cached(const Heap &heap, const Bin &bin, const Block *block) {
  if (!has_cache(heap)) return false;
  const SlabRow *row = row_of_cached(heap, bin_index(heap, bin), block);
  return row != nullptr && starts_block(row->prefix, offset_in_slab(block)) &&
         !is_in_bitmap(superslab_of(block), block);
}

void cache_beyond_young(Heap &heap, unsigned index, Block *block) {
  CachedBlocks &cached = cached_of(heap, index);
  block->tag = &heap.bins[index];
  block->next = nullptr;
  // Where nothing is cached any more, it is a block of the current slab that came here.
  if (cached.young == nullptr) return put_back(heap, index, block);
  const bool is_first = cached.old == nullptr;
  put_back(heap, index, std::exchange(cached.old, nullptr));
  if (is_first || ++cached.overflows < (cached.shrinks ? 1 : kOverflows)) {
    cached.old = std::exchange(cached.young, block);
    cached.room = static_cast<uint16_t>(kFullLength[class_of_bin(index)] - 1u);
    return;
  }
  put_back(heap, index, std::exchange(cached.young, nullptr));
  put_back(heap, index, block);
  cached.used = used_blocks(heap, index);
}

bool refill_from_cache(Heap &heap, unsigned bin) {
  CachedBlocks &cached = cached_of(heap, bin);
  const uint8_t full = kFullLength[class_of_bin(bin)];
  if (cached.room == 0 && cached.young == nullptr)
    cached.shrinks = cached.used - used_blocks(heap, bin) >= uint32_t{kOverflows} * full;
  cached.room = full;
  cached.overflows = 0;
  Block *&list = heap.bins[bin].list;
  list = std::exchange(cached.young, nullptr);
  if (list == nullptr) list = std::exchange(cached.old, nullptr);
  return list != nullptr;
}

void flush_cache(Heap &heap, unsigned bin) {
  CachedBlocks &cached = cached_of(heap, bin);
  cached.room = kFullLength[class_of_bin(bin)];
  put_back(heap, bin, std::exchange(heap.bins[bin].list, nullptr));
  put_back(heap, bin, std::exchange(cached.young, nullptr));
  put_back(heap, bin, std::exchange(cached.old, nullptr));
}

}  // namespace ace
