#include "heap/remote.h"

#include <utility>

#include "heap/large.h"
#include "heap/mid.h"
#include "heap/slab.h"

namespace ace {
namespace {

void push_link(Heap &owner, RemoteLink &link) {
  RemoteLink *first = owner.remote.first.load(std::memory_order_relaxed);
  do {
    link.next = first;
  } while (!owner.remote.first.compare_exchange_weak(first, &link, std::memory_order_release,
                                                     std::memory_order_relaxed));
}

// Raises the count by `frees`; the link is in the queue afterwards.
void announce(Heap &owner, RemoteLink &link, int32_t frees) {
  if (link.count.fetch_add(frees, std::memory_order_acq_rel) == 0) push_link(owner, link);
}

bool mark(Superslab *superslab, RemoteLink &link, BitmapWord &word, uint64_t bit) {
  if (word.load(std::memory_order_relaxed) & bit) return false;
  announce(*superslab->head.prefix.owner, link, 1);
  return (word.fetch_or(bit, std::memory_order_release) & bit) == 0;
}

// Those of the freed blocks that start in the bin's window go onto its list, as if the holder had freed them;
// the others are returned.
uint64_t list_those_in_window(Bin &bin, std::byte *first, uint64_t freed) {
  for (uint64_t rest = freed; rest != 0; rest &= rest - 1) {
    auto n = static_cast<unsigned>(std::countr_zero(rest));
    auto *block = reinterpret_cast<Block *>(first + n * kGranule);
    const bool at_word = kBitmapWord && is_at_word(bin, block);
    if (!bin.has(block) && !at_word) continue;
    freed &= ~(uint64_t{1} << n);
    if constexpr (kBitmapWord) {
      if (!bin.has(block)) {
        free_to_word(bin, block);
        continue;
      }
    }
    if (block->tag == &bin && is_on_list(bin, block)) continue;  // its holder has freed it as well
    block->tag = &bin;
    block->next = bin.list;
    bin.list = block;
  }
  return freed;
}

// Of freed blocks outside the window: those that their holder has not freed as well, into the front cache.
uint64_t without_cached(const Bin &bin, std::byte *first, uint64_t freed) {
  for (uint64_t rest = freed; rest != 0; rest &= rest - 1) {
    auto n = static_cast<unsigned>(std::countr_zero(rest));
    auto *block = reinterpret_cast<Block *>(first + n * kGranule);
    if (block->tag == &bin && is_on_list(bin, block)) freed &= ~(uint64_t{1} << n);
  }
  return freed;
}

// The remote bitmap of eight slabs lies in one page.
void count_remote_page(Heap &heap, Superslab *superslab, unsigned index) {
  auto page = static_cast<uint8_t>(16u << index / (kSlabsPerSuperslab / 4));
  if (superslab->head.bitmap_pages & page) return;
  superslab->head.bitmap_pages |= page;
  superslab->head.head_pages += 1;
  heap.counters.metadata_bytes.add(kPage);
}

// Takes the slab's remote bits over; returns how many were set, and in `to_bitmap` how many went there.
unsigned take_bits(Heap &heap, Superslab *superslab, unsigned index, unsigned *to_bitmap) {
  SlabRow &row = superslab->row(index);
  Bin &bin = heap.bins[row.prefix.bin];
  unsigned found = 0;
  for (unsigned w = 0; w < kWordsPerSlab; ++w) {
    BitmapWord &remote = superslab->remote_bits[index][w];
    if (remote.load(std::memory_order_relaxed) == 0) continue;
    uint64_t freed = remote.exchange(0, std::memory_order_acquire);
    found += static_cast<unsigned>(std::popcount(freed));
    if (row.prefix.state == SlabState::kCurrent)
      freed = list_those_in_window(bin, superslab->slab(index) + w * 64 * kGranule, freed);
    if constexpr (kFrontCache != 0)
      freed = without_cached(bin, superslab->slab(index) + w * 64 * kGranule, freed);
    BitmapWord &local = superslab->free_bits[index][w];
    uint64_t bits = local.load(std::memory_order_relaxed);
    *to_bitmap += static_cast<unsigned>(std::popcount(freed & ~bits));
    local.store(bits | freed, std::memory_order_relaxed);
  }
  if (found != 0) count_remote_page(heap, superslab, index);
  return found;
}

unsigned drain_mid(Heap &heap, Superslab *superslab) {
  unsigned count = 0;
  for (unsigned w = 0; w < kPagesPerSuperslab / 64; ++w) {
    uint64_t freed = superslab->mid().remote[w].exchange(0, std::memory_order_acquire);
    for (; freed != 0; freed &= freed - 1, ++count) {
      free_mid(heap, superslab, w * 64 + static_cast<unsigned>(std::countr_zero(freed)));
    }
  }
  return count;
}

}  // namespace

bool free_remote_tiny(SlabRow &row, unsigned granule) {
  Superslab *superslab = superslab_of(&row);
  BitmapWord &word = superslab->remote_bits[row.prefix.index][granule / 64];
  return mark(superslab, row.remote, word, uint64_t{1} << granule % 64);
}

bool free_remote_mid(Superslab *superslab, unsigned page) {
  BitmapWord &word = superslab->mid().remote[page / 64];
  return mark(superslab, superslab->head.remote, word, uint64_t{1} << page % 64);
}

// A large block is its superslab: to be in the queue is to be freed.
bool free_remote_large(Superslab *superslab) {
  RemoteLink &link = superslab->head.remote;
  if (link.count.fetch_add(1, std::memory_order_acq_rel) != 0) return false;
  push_link(*superslab->head.prefix.owner, link);
  return true;
}

void drain_remote_frees(Heap &heap) {
  RemoteLink *link = heap.remote.first.exchange(nullptr, std::memory_order_acquire);
  if (link == nullptr) return;
  heap.counters.remote_drains.add(1);
  unsigned count = 0;
  for (RemoteLink *next; link != nullptr; link = next) {
    next = link->next;
    Superslab *superslab = superslab_of(link);
    if (superslab->head.prefix.pool == Pool::kLarge) {
      free_large(heap, superslab);
      ++count;
      continue;
    }
    const bool tiny = superslab->head.prefix.pool == Pool::kTiny;
    const auto index = kTailPrefix ? slab_index_of(link)  // 0 for a superslab's own
                                   : static_cast<unsigned>(offset_in_slab(link) / sizeof(SlabRow));
    link->balance += link->count.exchange(0, std::memory_order_acq_rel);
    unsigned to_bitmap = 0;
    const unsigned found = tiny ? take_bits(heap, superslab, index, &to_bitmap) : drain_mid(heap, superslab);
    count += found;
    link->balance -= static_cast<int32_t>(found);
    if (link->balance > 0) announce(heap, *link, std::exchange(link->balance, 0));
    if (to_bitmap != 0) {
      SlabRow &row = superslab->row(index);
      count_freed(heap, row, to_bitmap);
      if (row.prefix.due == 0) settle_freed(heap, row);  // last: an emptied superslab may be released
    }
  }
  heap.counters.remote_frees.add(count);
}

}  // namespace ace
