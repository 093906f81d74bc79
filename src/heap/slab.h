// Slabs: how blocks get from the free bitmap to an allocation list and back, and where a slab stands.
//
//            assign                make current            exhausted, retire
//   kFree ------------> (fresh) ------------> kCurrent ---------------------> kFull | kPartial | kSparse
//     ^                                          ^                                   |
//     |          last block freed                |          refill picks it          |
//     +------------------------------------------+-----------------------------------+
#pragma once
#include "heap/heap.h"

namespace ace {

// Fills the bin's empty allocation list and returns true; false where the limit or the system's memory is
// exhausted. The order of preference keeps memory small and blocks together: a front cache, the current slab in
// address order, partly used slabs with holes in resident pages, empty resident slabs, absent pages of used
// slabs, fresh slabs.
bool refill_bin(Heap &heap, unsigned bin);

// After blocks of the slab got their free bits and were counted, where nothing is due any more: lists, states.
[[gnu::noinline]] void settle_freed(Heap &heap, SlabRow &row);

// The same for a free of the host's; retires the current slabs where that was asked for (Heap::retire_asked).
[[gnu::noinline]] void settle_after_free(Heap &heap, SlabRow &row);

// In the child of a fork, which shares its pages with the parent until one of them writes: slabs in use, also
// those that are still full, are passed over until they are empty, since a block in a hole of theirs copies the
// whole page.
// What is freed there meanwhile is written down outside of them.
void seal_slabs(Heap &heap);
// Their holes are used again.
void unseal_slabs(Heap &heap);

inline void count_freed(Heap &heap, SlabRow &row, unsigned count) {
  SlabPrefix &prefix = row.prefix;
  ACE_ASSERT(prefix.used >= count);
  prefix.used = static_cast<uint16_t>(prefix.used - count);
  prefix.due = static_cast<uint16_t>(prefix.due > count ? prefix.due - count : 0);
  heap.slabs[prefix.bin].used_blocks.subtract(count);
}

// The words of the free and the remote bitmap that tell of the block at `p`. The bitmaps of a superslab's slabs
// follow one another, so words are counted from the superslab on.
inline BitmapWord &free_word(Superslab *superslab, const void *p) {
  return *(&superslab->free_bits[0][0] + address_of(p) % kSuperslabSize / (64 * kGranule));
}
inline BitmapWord &remote_word(Superslab *superslab, const void *p) {
  return *(&superslab->remote_bits[0][0] + address_of(p) % kSuperslabSize / (64 * kGranule));
}
inline uint64_t free_bit(const void *p) { return uint64_t{1} << address_of(p) / kGranule % 64; }

// Is the block's bit set in its word? (One instruction, which free_bit would take three for.)
inline bool says_free(uint64_t bits, const void *p) { return bits >> address_of(p) / kGranule % 64 & 1; }

inline bool is_in_bitmap(Superslab *superslab, const void *p) {
  return says_free(free_word(superslab, p).load(std::memory_order_relaxed), p);
}

// Frees a block of the slab by its bit in that word, which becomes `bits`.
[[gnu::always_inline]] inline void set_free_bit(Heap &heap, SlabRow &row, BitmapWord &word, uint64_t bits) {
  word.store(bits, std::memory_order_relaxed);
  SlabPrefix &prefix = row.prefix;
  ACE_ASSERT(prefix.used != 0);
  heap.slabs[prefix.bin].used_blocks.subtract(1);
  --prefix.used;
  if (--prefix.due == 0) [[unlikely]]
    settle_after_free(heap, row);
}

// Frees the block that starts at `p`, outside its bin's window, into the bitmap. False where its bit says that
// it is free already (nothing has changed). Most of a VM's sweep is this.
[[gnu::always_inline]] inline bool free_to_bitmap(Heap &heap, Superslab *superslab, SlabRow &row,
                                                  const void *p) {
  BitmapWord &word = free_word(superslab, p);
  const uint64_t bits = word.load(std::memory_order_relaxed), with = bits | free_bit(p);
  if (with == bits) [[unlikely]]
    return false;
  set_free_bit(heap, row, word, with);
  return true;
}

// Can the bin serve an allocation without a refill?
inline bool has_blocks(const Heap &heap, const Bin &bin) {
  if (heap.nature == Nature::kHardened) return bin.reciprocal != 0;  // heap/scatter.h
  return bin.list != nullptr;
}

// Empties the bin's allocation list into the bitmap; afterwards the bin has no current slab.
void retire_current(Heap &heap, unsigned bin);
void retire_all(Heap &heap);

// Blocks on the bin's allocation list, or scattered.
unsigned list_length(const Heap &heap, const Bin &bin);

// Blocks that count as used, but are listed, scattered or cached. The holder's.
unsigned waiting_blocks(const Heap &heap, unsigned bin);

// Is the block, which starts in its bin's window, on the allocation list? With a front cache: or in the cache.
bool is_on_list(const Bin &bin, const void *block);

// A block that carries a free one's tag is free, or its owner wrote that. Its holder's.
bool is_tagged_free(const Bin &bin, const void *block);

// The slab's free bits in resident pages, and all of them; the slab has no list.
unsigned free_in_resident_pages(SlabRow &row);
unsigned free_blocks(SlabRow &row);

}  // namespace ace
