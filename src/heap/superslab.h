// The layout of a superslab: 2 MiB, aligned to its size, so that a pointer's superslab is found by a mask.
//
//   offset      tiny pool                            mid pool                       large pool
//   0x00000     head (one row)                       head                           head
//   0x00080     31 slab rows of 128 bytes            zero                           zero
//   0x01000     free bitmap, 512 bytes a slab        MidBody                        the block, at the first
//   0x02000       "                                  pages for runs ...             multiple of its alignment
//   0x05000     remote bitmap, 512 bytes a slab
//   0x09000     the Heap, in a heap's first superslab
//   0x10000     slabs 1 to 31, 64 KiB each
//
// All free state lies here, and in the heap's bins, and none inside the blocks, but for the allocation list of
// a bin's current slab (and a front cache). The 32-byte prefixes of the slabs stand together, a row apart, so
// that they spread over the cache sets.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/bits.h"
#include "base/size_class.h"

namespace ace {

struct Heap;
struct Superslab;

enum class Pool : uint8_t { kNone, kTiny, kMid, kLarge };

// Where a slab is; written by the holder alone (heap/slab.cpp names each change).
enum class SlabState : uint8_t {
  kFree,     // of no bin; may have been of one
  kCurrent,  // its bin's allocation list comes from it; the holder has its claim
  kPartial,  // listed: enough free blocks in resident pages to be worth a visit
  kSparse,   // listed: free blocks in absent pages
  kFull,     // not listed: fewer free blocks than it is offered again for
  kReady     // experiment warm_pool: empty, assigned to a bin, which has its claim
};

// After the seed paper's headless blocks: what a pointer's slab says of it. Set before the slab's first block
// is handed out, so whoever holds a block may read it; `used`, `due` and `state` are the holder's.
struct SlabPrefix {
  Pool pool;
  uint8_t kind_group;
  uint8_t size_class;
  uint8_t bin;  // kind_group * kClasses + size_class
  // used + (set bits of the slab in the free bitmap) = capacity. Blocks on the allocation list, or scattered in
  // a hardened heap's bin, count as used.
  uint16_t used;
  // Frees into the bitmap until the slab's state changes: until it is offered again, or until it is empty.
  // Says nothing while the slab is current.
  uint16_t due;
  uint16_t capacity;
  uint16_t bound;  // with `reciprocal`, see starts_block
  // 0 in a hardened heap, and for a head: what takes a short way because of the size then takes the long one.
  // Where any slab's is asked for, block_size_of tells it.
  uint32_t block_size;
  Heap *owner;
  uint32_t reciprocal;
  SlabState state;
  uint8_t index;            // in its superslab
  bool fills_absent_pages;  // while current: resident holes are used up
  bool has_old_tags;        // blocks that other threads have freed, and whose tag nobody has removed
};
static_assert(sizeof(SlabPrefix) == 32);

// Of a slab that was assigned.
inline uint32_t block_size_of(const SlabPrefix &prefix) { return kClassSize[prefix.size_class]; }

// Where the slab's last block ends; 0 for a head, and for a slab that was never assigned.
inline uint32_t blocks_end(const SlabPrefix &prefix) {
  return uint32_t{prefix.capacity} * block_size_of(prefix);
}

// Of a slab that was assigned.
constexpr bool starts_block(const SlabPrefix &prefix, uint32_t offset_in_slab) {
  return starts_block(offset_in_slab, prefix.reciprocal, prefix.bound);
}

// How frees from other threads reach the holder: see heap/remote.h. It starts a row's second cache line: the
// first is the holder's, and other threads do not disturb it.
struct RemoteLink {
  // The words of the remote bitmap that have bits, as far as that was announced. Other threads set, the holder
  // takes all. Not 0: in the heap's queue, or about to be. Of a large block, which has no bitmap: it is freed.
  std::atomic<uint64_t> words;
  RemoteLink *next;
};
static_assert(kWordsPerSlab <= 64);

// Held by whoever may take blocks from a slab or give its pages back: a bin's holder as long as the slab is
// current, a purger while it works. Never waited for, only tried.
class Claim {
 public:
  bool try_take() {
    return !held_.load(std::memory_order_relaxed) && !held_.exchange(true, std::memory_order_acquire);
  }
  void release() { held_.store(false, std::memory_order_release); }
  bool held() const { return held_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> held_;
};

struct alignas(128) SlabRow {
  SlabPrefix prefix;
  SlabRow *next, *previous;       // in its bin's partial or sparse list
  std::atomic<uint16_t> present;  // a bit a page: it is resident. Written by the claim's holder
  Claim claim;
  alignas(64) RemoteLink remote;
};
static_assert(sizeof(SlabRow) == 128 && offsetof(SlabRow, remote) == 64);
static_assert(kSlabTail == 0 || kSlabTail == sizeof(SlabRow));

// The page that a row at the end of its slab lies in: present from its first use on, and counted as metadata.
inline constexpr uint16_t kTailPage = kTailPrefix ? 1u << (kPagesPerSlab - 1) : 0;

// The seed paper's tiering. DRAINING superslabs are used only when no HOT one has a free slab.
enum class Tier : uint8_t { kHot, kDraining, kFree };

struct alignas(128) SuperslabHead {
  SlabPrefix prefix;                     // pool and owner are set; the rest is zero
  Superslab *next, *previous;            // all superslabs of this pool of the heap
  Superslab *open_next, *open_previous;  // tiny pool: those that have free slabs, a list a tier
  alignas(64) RemoteLink remote;         // mid and large pools
  uint32_t free_slabs;                   // tiny pool: a bit a slab of state kFree
  std::atomic<uint32_t> pins;            // visitors that are not the holder; no release meanwhile
  Claim claim;                           // mid pool, kept blocks: as a slab's claim
  uint16_t longest_run;                  // mid pool: no free run is longer,
  uint16_t longest_resident;             // and no resident one than this
  Tier tier;
  uint8_t bitmap_pages;  // tiny pool: pages of the bitmaps that were touched, remote ones in the high half
  uint8_t head_pages;    // tiny pool: resident pages of the head, those of the bitmaps among them
  // Tiny pool: one huge page, the head's spare pages with it. Ended by whoever first purges some of it.
  std::atomic<bool> is_huge;
  uint32_t block_offset;  // large pool: where the block starts
  size_t mapped;          // large pool: bytes mapped
  // Large pool, a freed block that is kept: how many of its first bytes are resident. Written by the claim's
  // holder. 0 while it lives: whether it is fresh, and zero, is told by holds_zeroes.
  std::atomic<size_t> kept_bytes;
  bool holds_zeroes;
  bool guarded;          // a page that nobody may touch follows: see heap/superslab_pool.h
  uint32_t asked_pages;  // large pool: of the block, which may be a kept one that is larger
};
static_assert(sizeof(SuperslabHead) == 128 && offsetof(SuperslabHead, remote) == 64);

inline constexpr uint8_t kAllBitmapPages = 0xff;

using BitmapWord = std::atomic<uint64_t>;

// Page runs of the mid pool. A bit a page; run_pages holds the length of the run that starts at a page, 0
// where none does.
struct MidBody {
  BitmapWord free[kPagesPerSuperslab / 64];     // written by the holder
  BitmapWord present[kPagesPerSuperslab / 64];  // written by the claim's holder
  BitmapWord remote[kPagesPerSuperslab / 64];   // set by other threads
  uint16_t run_pages[kPagesPerSuperslab];       // the holder's
};
inline constexpr unsigned kMidFirstPage = 2;
static_assert(sizeof(MidBody) <= kPage);

struct Superslab {
  SuperslabHead head;
  SlabRow rows_from_1[kSlabsPerSuperslab - 1];
  // A bit a granule, set where a free block starts. The holder alone writes; purgers read.
  BitmapWord free_bits[kSlabsPerSuperslab][kWordsPerSlab];
  // The same for blocks that other threads freed and the holder has not yet taken over.
  BitmapWord remote_bits[kSlabsPerSuperslab][kWordsPerSlab];
  alignas(kPage)
      std::byte heap_area[kSlabSize - kPage - 2 * sizeof(BitmapWord) * kSlabsPerSuperslab * kWordsPerSlab];

  SlabRow &row(unsigned index) {
    if constexpr (kTailPrefix) return *reinterpret_cast<SlabRow *>(slab(index) + kSlabSize - kSlabTail);
    return rows_from_1[index - 1];
  }
  std::byte *slab(unsigned index) { return reinterpret_cast<std::byte *>(this) + index * kSlabSize; }
  std::byte *page(unsigned index) { return reinterpret_cast<std::byte *>(this) + index * kPage; }
  MidBody &mid() { return *reinterpret_cast<MidBody *>(page(1)); }
};
static_assert(sizeof(Superslab) == kSlabSize);

// Pages of a head that only the heap's first superslab uses; resident where it came as a huge page.
inline constexpr unsigned kSparePages = sizeof(Superslab::heap_area) / kPage;
static_assert(offsetof(Superslab, free_bits) == kPage);

// All slabs but the first, which the head takes.
inline constexpr uint32_t kAllSlabs = ~uint32_t{1};

inline Superslab *superslab_of(const void *p) {
  return reinterpret_cast<Superslab *>(round_down(address_of(p), kSuperslabSize));
}
inline unsigned slab_index_of(const void *p) {
  return static_cast<unsigned>(address_of(p) / kSlabSize) % kSlabsPerSuperslab;
}
inline uint32_t offset_in_slab(const void *p) { return static_cast<uint32_t>(address_of(p) % kSlabSize); }
constexpr unsigned granule_of(uint32_t offset) { return offset / static_cast<uint32_t>(kGranule); }
inline std::byte *slab_of(SlabRow &row) { return superslab_of(&row)->slab(row.prefix.index); }

inline BitmapWord *free_bits(SlabRow &row) { return superslab_of(&row)->free_bits[row.prefix.index]; }

}  // namespace ace
