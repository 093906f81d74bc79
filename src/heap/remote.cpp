#include "heap/remote.h"

#include "heap/large.h"
#include "heap/mid.h"
#include "heap/slab.h"

namespace ace {
namespace {

// The bit is set before `published` is read, and the drain clears `published` before it reads the bits; both
// in one total order (seq_cst), so that a bit is never left behind in an unpublished slab.
bool mark(BitmapWord &word, uint64_t bit) { return (word.fetch_or(bit, std::memory_order_seq_cst) & bit) == 0; }

void publish(Heap &owner, RemoteLink &link) {
  if (link.published.load(std::memory_order_seq_cst)) return;
  if (link.published.exchange(true, std::memory_order_seq_cst)) return;
  RemoteLink *first = owner.remote.first.load(std::memory_order_relaxed);
  do {
    link.next = first;
  } while (!owner.remote.first.compare_exchange_weak(first, &link, std::memory_order_release,
                                                     std::memory_order_relaxed));
}

unsigned drain_slab(Heap &heap, Superslab *superslab, unsigned index) {
  SlabRow &row = superslab->row(index);
  unsigned count = 0;
  for (unsigned w = 0; w < kWordsPerSlab; ++w) {
    BitmapWord &remote = superslab->remote_bits[index][w];
    if (remote.load(std::memory_order_seq_cst) == 0) continue;
    uint64_t freed = remote.exchange(0, std::memory_order_seq_cst);
    BitmapWord &local = superslab->free_bits[index][w];
    uint64_t bits = local.load(std::memory_order_relaxed);
    // A block that its holder freed as well counts once; the gate has reported what it could see.
    count += static_cast<unsigned>(std::popcount(freed & ~bits));
    local.store(bits | freed, std::memory_order_relaxed);
  }
  auto page = static_cast<uint8_t>(16u << index / (kSlabsPerSuperslab / 4));
  if (count != 0 && !(superslab->head.bitmap_pages & page)) {
    superslab->head.bitmap_pages |= page;
    heap.counters.metadata_bytes.add(kPage);
  }
  if (count != 0) {
    count_freed(heap, row, count);
    settle_freed(heap, row);
  }
  return count;
}

unsigned drain_mid(Heap &heap, Superslab *superslab) {
  unsigned count = 0;
  for (unsigned w = 0; w < kPagesPerSuperslab / 64; ++w) {
    uint64_t freed = superslab->mid().remote[w].exchange(0, std::memory_order_seq_cst);
    for (; freed != 0; freed &= freed - 1, ++count) {
      free_mid(heap, superslab, w * 64 + static_cast<unsigned>(std::countr_zero(freed)));
    }
  }
  return count;
}

}  // namespace

bool free_remote_tiny(SlabRow &row, unsigned granule) {
  Superslab *superslab = superslab_of(&row);
  if (!mark(superslab->remote_bits[row.prefix.index][granule / 64], uint64_t{1} << granule % 64)) return false;
  publish(*superslab->head.prefix.owner, row.remote);
  return true;
}

bool free_remote_mid(Superslab *superslab, unsigned page) {
  if (!mark(superslab->mid().remote[page / 64], uint64_t{1} << page % 64)) return false;
  publish(*superslab->head.prefix.owner, superslab->head.remote);
  return true;
}

// A large block is its superslab: to be published is to be freed.
bool free_remote_large(Superslab *superslab) {
  RemoteLink &link = superslab->head.remote;
  if (link.published.load(std::memory_order_seq_cst)) return false;
  publish(*superslab->head.prefix.owner, link);
  return true;
}

void drain_remote_frees(Heap &heap) {
  RemoteLink *link = heap.remote.first.exchange(nullptr, std::memory_order_acquire);
  if (link == nullptr) return;
  heap.counters.remote_drains.add(1);
  unsigned count = 0;
  while (link != nullptr) {
    RemoteLink *next = link->next;
    link->published.store(false, std::memory_order_seq_cst);
    Superslab *superslab = superslab_of(link);
    switch (superslab->head.prefix.pool) {
      case Pool::kTiny:
        count += drain_slab(heap, superslab, static_cast<unsigned>(offset_in_slab(link) / sizeof(SlabRow)));
        break;
      case Pool::kMid:
        count += drain_mid(heap, superslab);
        break;
      case Pool::kLarge:
        free_large(heap, superslab);
        ++count;
        break;
      case Pool::kNone:
        break;
    }
    link = next;
  }
  heap.counters.remote_frees.add(count);
}

}  // namespace ace
