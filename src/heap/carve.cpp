#include "heap/carve.h"

namespace ace {
namespace {

// A carve takes about this many blocks: few enough not to touch memory long before it is used, many enough to
// pay for the refill.
constexpr unsigned kBatch = 64;

constexpr uint32_t kBytesPerWord = 64 * kGranule;

// The pages of the slab that the free blocks of a bitmap word touch: the last block may reach beyond its own.
uint16_t pages_touched(unsigned word, uint64_t blocks, uint32_t block_size) {
  unsigned last = word * 64 + 63 - static_cast<unsigned>(std::countl_zero(blocks));
  auto last_page = static_cast<unsigned>((last * kGranule + block_size - 1) / kPage);
  return static_cast<uint16_t>(low_bits(last_page + 1) & ~low_bits(word / kWordsPerPage));
}

// Takes pages into use that are absent. False where the limit says no.
bool take_pages(Heap &heap, SlabRow &row, uint16_t absent, LimitTalk &talk) {
  size_t bytes = static_cast<size_t>(std::popcount(absent)) * kPage;
  if (!may_grow(heap, bytes, talk)) return false;
  row.present.store(row.present.load(std::memory_order_relaxed) | absent, std::memory_order_relaxed);
  count_faulted(heap, bytes);
  return true;
}

// Puts the blocks at the end of a list; returns how many.
unsigned link_blocks(std::byte *first, uint64_t blocks, uint64_t cookie, Block **&tail) {
  unsigned count = 0;
  for (; blocks != 0; blocks &= blocks - 1, ++count) {
    auto *block = reinterpret_cast<Block *>(first + static_cast<unsigned>(std::countr_zero(blocks)) * kGranule);
    block->tag = cookie;
    *tail = block;
    tail = &block->next;
  }
  return count;
}

}  // namespace

Carved carve(Heap &heap, Bin &bin, bool prefer_partial, LimitTalk &talk) {
  SlabRow &row = *bin.current;
  std::byte *slab = slab_of(row);
  BitmapWord *bits = free_bits(row);
  const SlabList &partial = heap.slabs[row.prefix.bin].partial;
  const auto cursor = static_cast<unsigned>((bin.base + bin.window - address_of(slab)) / kBytesPerWord);
  uint64_t ahead = row.free_words & ~low_bits(cursor);
  Block **tail = &bin.list;
  unsigned count = 0;
  while (ahead != 0 && count < kBatch) {
    const auto w = static_cast<unsigned>(std::countr_zero(ahead)), page = w / kWordsPerPage;
    const uint64_t blocks = bits[w].load(std::memory_order_relaxed);
    const uint16_t present = row.present.load(std::memory_order_relaxed);
    const auto absent = static_cast<uint16_t>(pages_touched(w, blocks, row.prefix.block_size) & ~present);
    if (absent != 0) {
      if (count != 0) break;  // a fresh page is carved alone
      if (prefer_partial && partial.first != nullptr) return Carved::kNone;
      if (!row.prefix.fills_absent_pages && !(present >> page & 1)) {
        // Left for later: its blocks stay in the bitmap, so the window starts anew behind it.
        bin.base = address_of(slab) + (page + 1) * kPage;
        bin.window = 0;
        ahead &= ~low_bits((page + 1) * kWordsPerPage);
        continue;
      }
      if (!take_pages(heap, row, absent, talk)) return Carved::kRefused;
    }
    bits[w].store(0, std::memory_order_relaxed);
    row.free_words &= ~(uint64_t{1} << w);
    count += link_blocks(slab + w * kBytesPerWord, blocks, heap.cookie, tail);
    ahead &= ahead - 1;
  }
  // No free bit lies before the next word that has some, and no block starts behind the slab's last one.
  uint32_t end =
      ahead == 0 ? blocks_end(row.prefix) : static_cast<uint32_t>(std::countr_zero(ahead)) * kBytesPerWord;
  if (address_of(slab) + end > bin.base) bin.window = static_cast<uint32_t>(address_of(slab) + end - bin.base);
  if (count == 0) return Carved::kNone;
  *tail = nullptr;
  row.prefix.used = static_cast<uint16_t>(row.prefix.used + count);
  heap.slabs[row.prefix.bin].used_blocks.add(count);
  heap.counters.carves.add(1);
  return Carved::kBlocks;
}

void carve_absent_pages_too(Bin &bin) {
  bin.current->prefix.fills_absent_pages = true;
  bin.base = address_of(slab_of(*bin.current));
  bin.window = 0;
}

}  // namespace ace
