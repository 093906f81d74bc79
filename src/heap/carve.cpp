#include "heap/carve.h"

#include <algorithm>
#include <bit>

#include "base/experiment.h"
#include "heap/annotate.h"
#include "heap/class_pattern.h"
#include "heap/scatter.h"

namespace ace {
namespace {

// The pages of the slab that the free blocks of a bitmap word touch: the last block may reach beyond its own.
uint16_t pages_touched(unsigned word, uint64_t blocks, uint32_t block_size) {
  unsigned last = word * 64 + 63 - static_cast<unsigned>(std::countl_zero(blocks));
  auto last_page = static_cast<unsigned>((last * kGranule + block_size - 1) / kPage);
  return static_cast<uint16_t>(low_bits(last_page + 1) & ~low_bits(word / kWordsPerPage));
}

// From the present page on, the words before this one tell of blocks that touch present pages alone, so that
// they need not be looked at one by one.
unsigned words_in_present_pages(uint16_t present, unsigned page, uint32_t block_size) {
  const unsigned end = page + static_cast<unsigned>(std::countr_one(static_cast<uint16_t>(present >> page)));
  const uint32_t last_start =
      end * uint32_t{kPage} + kGranule;  // behind the last granule that a block may start at
  return last_start < block_size ? 0 : (last_start - block_size) / kBytesPerWord;
}

// Takes pages into use that are absent. False where the limit says no.
bool take_absent_pages(Heap &heap, SlabRow &row, uint16_t absent, LimitTalk &talk) {
  size_t bytes = static_cast<size_t>(std::popcount(absent)) * kPage;
  if (!may_grow(heap, bytes, talk)) return false;
  row.present.store(row.present.load(std::memory_order_relaxed) | absent, std::memory_order_relaxed);
  count_faulted(heap, bytes);
  return true;
}

// Puts the blocks at the end of a list; returns how many.
unsigned link_blocks(std::byte *first, uint64_t blocks, const Bin &bin, Block **&tail) {
  unsigned count = 0;
  for (; blocks != 0; blocks &= blocks - 1, ++count) {
    auto *block = reinterpret_cast<Block *>(first + static_cast<unsigned>(std::countr_zero(blocks)) * kGranule);
    block->tag = &bin;
    *tail = block;
    tail = &block->next;
  }
  return count;
}

// The same of all that start there, as most do where a slab is fresh, or much was freed: a sum leads from one
// to the next.
unsigned link_all_blocks(std::byte *first, uint64_t blocks, uint32_t size, const Bin &bin, Block **&tail) {
  const auto last = 63 - static_cast<unsigned>(std::countl_zero(blocks));
  std::byte *at = first + static_cast<unsigned>(std::countr_zero(blocks)) * kGranule;
  std::byte *const end = first + last * kGranule;
  unsigned count = 0;
  for (; at <= end; at += size, ++count) {
    auto *block = reinterpret_cast<Block *>(at);
    block->tag = &bin;
    *tail = block;
    tail = &block->next;
  }
  return count;
}

// Lets the window, which begins at Bin::base, end at the first block that starts at `end` or behind it.
void end_window_at(Heap &heap, unsigned index, uint32_t end) {
  Bin &bin = heap.bins[index];
  BinSlabs &slabs = heap.slabs[index];
  const auto begin = static_cast<uint32_t>(bin.base - address_of(slab_of(*slabs.current)));
  const uint32_t size = block_size_of(slabs.current->prefix);
  slabs.window_end = end;
  bin.limit = end <= begin ? 0 : (end - begin + size - 1) / size * kWideReciprocal[class_of_bin(index)].excess;
}

// A hardened heap's carve: the next word that holds free blocks is scattered.
Carved scatter_word(Heap &heap, unsigned index, bool prefer_partial, LimitTalk &talk) {
  BinSlabs &slabs = heap.slabs[index];
  SlabRow &row = *slabs.current;
  BitmapWord *const bits = free_bits(row);
  const Circle circle(slabs);
  for (unsigned step = slabs.window_end / kBytesPerWord; step < kWordsPerSlab; ++step) {
    const unsigned w = circle.word(step);
    const uint64_t free = bits[w].load(std::memory_order_relaxed);
    if (free == 0) continue;
    const uint16_t present = row.present.load(std::memory_order_relaxed);
    const auto absent = static_cast<uint16_t>(pages_touched(w, free, block_size_of(row.prefix)) & ~present);
    if (absent != 0) {
      if (prefer_partial && slabs.partial.first != nullptr) return Carved::kNone;
      if (!row.prefix.fills_absent_pages && !(present >> w / kWordsPerPage & 1)) continue;
      if (!take_absent_pages(heap, row, absent, talk)) return Carved::kRefused;
      // Whoever issues the blocks reads them first, and a page that is read is mapped once more when it is
      // written.
      for (uint32_t pages = absent; pages != 0; pages &= pages - 1) {
        std::byte *page = slab_of(row) + static_cast<unsigned>(std::countr_zero(pages)) * kPage;
        if (is_watched(heap)) open_memory(page, kGranule);
        *reinterpret_cast<volatile std::byte *>(page) = std::byte{0};
        if (is_watched(heap)) close_memory(page, kGranule);
      }
    }
    slabs.window_end = (step + 1) * kBytesPerWord;
    bits[w].store(0, std::memory_order_relaxed);
    scatter(heap.bins[index], slab_of(row) + w * kBytesPerWord, free);
    const auto count = static_cast<unsigned>(std::popcount(free));
    row.prefix.used = static_cast<uint16_t>(row.prefix.used + count);
    slabs.used_blocks.add(count);
    count_taken(heap, size_t{count} * block_size_of(row.prefix));
    heap.counters.carves.add(1);
    return Carved::kBlocks;
  }
  slabs.window_end = kWordsPerSlab * kBytesPerWord;
  return Carved::kNone;
}

}  // namespace

Carved carve(Heap &heap, unsigned index, bool prefer_partial, LimitTalk &talk) {
  if constexpr (kCanHarden) {
    if (heap.nature == Nature::kHardened) return scatter_word(heap, index, prefer_partial, talk);
  }
  Bin &bin = heap.bins[index];
  BinSlabs &slabs = heap.slabs[index];
  SlabRow &row = *slabs.current;
  std::byte *slab = slab_of(row);
  BitmapWord *bits = free_bits(row);
  const uint32_t end = blocks_end(row.prefix);
  const unsigned words = (end + kBytesPerWord - 1) / kBytesPerWord;
  Block **tail = &bin.list;
  const uint32_t size = block_size_of(row.prefix);
  const auto &all = kClassPattern[row.prefix.size_class].words;
  unsigned count = 0, w = slabs.window_end / kBytesPerWord, resident_until = 0;
  while (count < kCarveBatch) {
    uint64_t free = 0;
    while (w < words && (free = bits[w].load(std::memory_order_relaxed)) == 0) ++w;
    if (w >= words) break;
    const uint64_t blocks = kCarveBatch == 1 ? free & (~free + 1) : free;
    if (w >= resident_until) {
      const unsigned page = w / kWordsPerPage;
      const uint16_t present = row.present.load(std::memory_order_relaxed);
      const auto absent = static_cast<uint16_t>(pages_touched(w, blocks, size) & ~present);
      if (absent != 0) {
        if (count != 0) break;  // a fresh page is carved alone
        if (prefer_partial && slabs.partial.first != nullptr) return Carved::kNone;
        if (!row.prefix.fills_absent_pages && !(present >> page & 1)) {
          // Left for later: its blocks stay in the bitmap, so the window starts anew behind it.
          w = (page + 1) * kWordsPerPage;
          begin_window(heap, index, (page + 1) * kPage);
          continue;
        }
        if (!take_absent_pages(heap, row, absent, talk)) return Carved::kRefused;
      }
      resident_until = words_in_present_pages(static_cast<uint16_t>(present | absent), page, size);
    }
    bits[w].store(free & ~blocks, std::memory_order_relaxed);
    std::byte *first = slab + w * kBytesPerWord;
    count += blocks == all[w] ? link_all_blocks(first, blocks, size, bin, tail)
                              : link_blocks(first, blocks, bin, tail);
    ++w;
  }
  // No free bit lies before the next word, and no block starts behind the slab's last one.
  uint32_t window_end = std::min(w * kBytesPerWord, end);
  if constexpr (kCarveBatch == 1) {
    if (count != 0) window_end = offset_in_slab(bin.list) + block_size_of(row.prefix);
  }
  end_window_at(heap, index, window_end);
  if (count == 0) return Carved::kNone;
  *tail = nullptr;
  row.prefix.used = static_cast<uint16_t>(row.prefix.used + count);
  slabs.used_blocks.add(count);
  heap.counters.carves.add(1);
  count_taken(heap, size_t{count} * block_size_of(row.prefix));
  return Carved::kBlocks;
}

void begin_window(Heap &heap, unsigned index, uint32_t offset) {
  BinSlabs &slabs = heap.slabs[index];
  const uint32_t size = block_size_of(slabs.current->prefix);
  heap.bins[index].base = address_of(slab_of(*slabs.current)) + (offset + size - 1) / size * size;
  heap.bins[index].limit = 0;
  slabs.window_end = offset;
}

void carve_absent_pages_too(Heap &heap, unsigned index) {
  heap.slabs[index].current->prefix.fills_absent_pages = true;
  begin_window(heap, index, 0);
}

}  // namespace ace
