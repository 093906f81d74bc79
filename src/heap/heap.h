// A heap: the data that all of src/heap and src/front work on. One thread at a time is its holder; what other
// threads may touch says so.
#pragma once
#include <array>
#include <atomic>

#include "ace/ace.h"
#include "base/check.h"
#include "base/experiment.h"
#include "base/size_class.h"
#include "heap/recent_runs.h"
#include "heap/superslab.h"
#include "os/lock.h"
#include "wire/counters.h"
#include "wire/phase.h"

namespace ace {

static_assert(kKindGroups == ACE_KIND_GROUPS_MAX);  // the statistics have room for as many
inline constexpr unsigned kBins = kKindGroups * kClasses;

// A free block on an allocation list.
struct Block {
  Block *next;
  // The list's bin while the block is on it, so that a second free of it is seen: an address that no block's
  // owner ever gets to see.
  const void *tag;
};

// The tag where several threads may free the block in the same moment, by mistake.
inline const void *shared_tag(const void *block) {
  return __atomic_load_n(&static_cast<const Block *>(block)->tag, __ATOMIC_RELAXED);
}
inline void set_shared_tag(void *block, const void *tag) {
  __atomic_store_n(&static_cast<Block *>(block)->tag, tag, __ATOMIC_RELAXED);
}
static_assert(sizeof(Block) == kGranule);
static_assert(kHeader == 0 || kHeader == sizeof(Block));

// What the user of a slab's block gets lies behind its header, where there is one (experiment header).
inline void *user_part(void *block) { return static_cast<std::byte *>(block) + kHeader; }
inline void *block_of(void *user_part) { return static_cast<std::byte *>(user_part) - kHeader; }
inline const void *block_of(const void *user_part) {
  return static_cast<const std::byte *>(user_part) - kHeader;
}

// A size class of a kind group: what the hot path reads. The bin's window is a run of blocks of its current
// slab that are live or on the list, or in a front cache, never in the free bitmap; a free of any other block
// goes to the bitmap, or into the cache.
// One multiplication and one comparison prove that a pointer starts a block of the window, and may be pushed.
//
// In a hardened heap no bin has a list, and no window a block: each allocation and free comes to warm.cpp. What
// is issued next is a word of the bitmap: heap/scatter.h, which uses `base` and `reciprocal` for itself.
struct Bin {
  Block *list;
  uintptr_t base;       // the window's first block
  uint64_t reciprocal;  // of the block size
  uint64_t limit;       // blocks in the window times the excess of the reciprocal; 0: no block

  bool has(const void *p) const { return (address_of(p) - base) * reciprocal < limit; }
};
inline constexpr unsigned kBinSize = sizeof(Bin);
static_assert(kBinSize == 32);

// Where a bin stands, in bytes from the first: what the hot path adds to the heap's address.
constexpr std::array<uint16_t, kTinyMax / kGranule> make_bin_offset_of() {
  std::array<uint16_t, kTinyMax / kGranule> table{};
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<uint16_t>(kClassOf[i] * kBinSize);
  return table;
}
inline constexpr std::array<uint16_t, kTinyMax / kGranule> kBinOffsetOf = make_bin_offset_of();

// Blocks that were freed without a look at the bin's window, or outside it: see heap/front_cache.h. Their heaps
// tell no kinds apart.
struct CachedBlocks {
  Block *list;
  int64_t room;         // in the list; below 0: so many more were freed
  int64_t gives_up_at;  // with that room what is on the list goes to the bitmaps
};
struct FrontCache {
  std::array<CachedBlocks, kClasses> bins;
  bool is_mixed;     // as was found last: typical frees look at no window
  uint8_t history;   // of the last frees that were watched, a bit each: was it inside the window?
  uint32_t watched;  // so many of the next ones are watched
  uint32_t inside;   // so many of the watched ones were inside
  uint32_t wrong;    // so many were not as guessed from the four before, by
  uint32_t guesses;  // two bits for each history of four: 2 and 3 say inside
};

// Experiment warm_pool.
struct WarmPool {
  SlabRow *first[kBins];  // linked by SlabRow::next
  Counter hits, misses;
};

// Doubly linked through SlabRow.
struct SlabList {
  SlabRow *first, *last;
};

// What a heap is; kEnded is also what the memory of a heap says that went back to the system.
enum class Nature : uint8_t { kEnded, kPlain, kHardened };

// The rest of a bin, for refills and for frees into the bitmap: a cache line, for which designs that add to the
// heap have no room.
struct alignas(kCanHarden ? 64 : 8) BinSlabs {
  SlabRow *current;     // nullptr: none, and the window is empty
  uint32_t window_end;  // offset in the current slab: no free bit lies between Bin::base and here
  SlabList partial, sparse;
  Counter used_blocks;  // the sum of `used` over the bin's slabs
  [[no_unique_address]] StateOf<kCanHarden, uint32_t> first_word_issued;
  uint32_t &first_word() { return *first_word_issued.operator->(); }  // heap/scatter.h
};

// Superslabs by SuperslabHead::next; the holder links and unlinks under Heap::roster_lock, other threads read
// under it.
struct SuperslabList {
  Superslab *first;
  Superslab *purge_next;  // where a purge goes on that its budget has ended; nullptr: at the first
};

// Other threads push, the holder takes all.
struct RemoteQueue {
  alignas(64) std::atomic<RemoteLink *> first;
};

// What the holder has freed of another heap, and not told yet: bits of one word of a remote bitmap
// (heap/remote.h). Any thread reads it.
struct RemoteBatch {
  std::atomic<BitmapWord *> word;
  std::atomic<uint64_t> bits;
};

// A free finds the bin whose current slab a block may lie in by the low bits of the slab's number, without
// reading anything of the slab. Where two current slabs share an entry the later one has it, and frees into
// the other take the longer way.
inline constexpr unsigned kSlabHints = 256;

// When memory that fell free was needed again. What is live is not counted in one number, but can have grown by
// no more than what was taken: so it is added up when so much was taken that it may have grown enough.
struct ReuseWatch {
  uint64_t look_at;            // Counters::taken_bytes; UINT64_MAX: nothing is waited for
  uint64_t live;               // what is waited for
  uint64_t at;                 // when it came; 0: not yet
  uint64_t step;               // bytes from one look to the next
  uint64_t quiet_at, quiet;    // when the longest time between two looks began, and how long it was
  std::atomic<uint64_t> last;  // when it was looked last, or the watch began; any thread reads it
};

struct Controller;

struct Heap {
  Bin bins[kBins];
  uint16_t bin_of_slab[kSlabHints];  // the bin's offset; any bin will do, as its window proves the rest: one
                                     // that is wrong on purpose, too (heap/front_cache.h)

  // ---- the holder's, warm and cold
  BinSlabs slabs[kBins];
  SuperslabList tiny, mid, large;
  RecentRuns recent_runs;
  SuperslabList kept;       // large blocks that were freed, for the next ones
  size_t kept_block_bytes;  // the sum of their sizes, resident or not
  // Since the last trim: large blocks that were freed and not kept, but for those that were missed later, when
  // fresh memory had to be taken instead. So much more is kept from then on.
  size_t dropped_bytes, missed_bytes;
  Superslab *open[2];   // Tier::kHot (and kFree), Tier::kDraining: tiny superslabs that have free slabs
  Superslab *home;      // where this struct lies
  uint32_t last_group;  // the number of kind groups, less one
  uint32_t flags;
  ace_limit_fn on_limit;
  void *on_limit_context;
  // Asked where a superslab is empty that need not be kept: true if somebody comes for it later. nullptr:
  // nobody.
  bool (*on_spare)(Heap &heap);
  // Called before the heap becomes larger than it ever was: somebody may have memory to give back. nullptr:
  // nobody.
  void (*on_growth)();
  uint64_t spare_at;       // so many emptied slabs (Counters::slabs_emptied) are the next occasion for that
  uint64_t spare_retired;  // when the current slabs were last asked to be retired for it
  bool retire_asked;       // they are to be, at the next free that is not in the midst of anything
  bool in_limit_callback;
  bool is_shrinking;  // a block is moved to a smaller one: the host is not asked (heap/limit.h)
  bool trimming;      // the release guard leaves superslabs to the trim, which has a budget
  bool sealed;        // partly used slabs are passed over: seal_slabs
  bool is_thread_heap;
  Nature nature;
  bool is_watched;  // a tool is told which bytes are the program's (heap/annotate.h); of hardened heaps alone
  // Hardened: what red zones are made with, where the next block comes from, and a page that was written to
  // while it was free, until that is reported (nullptr: none).
  uint64_t secret, random;
  const void *spoiled;
  char name[32];
  [[no_unique_address]] StateOf<kFrontCache != 0, FrontCache> front_cache;
  [[no_unique_address]] StateOf<kWarmPool != 0, WarmPool> warm_pool;
  PhaseLog phases;
  ReuseWatch reuse;
  Controller *controller;        // control/controller.h; nullptr: none was needed yet
  uint64_t next_look;            // resident bytes beyond which it is looked for dead pages (may_grow)
  uint64_t last_collection_end;  // when; 0: none yet
  // The last trim at a hint: when (0: none yet), its bytes, and Counters::faulted_bytes then.
  uint64_t last_trim, last_trim_bytes, faulted_at_trim;
  RemoteBatch batch;

  // ---- any thread
  Counters counters;
  std::atomic<size_t> limit;
  // Resident beyond what lives after the last trim, in pages that blocks share, and the bytes of these.
  std::atomic<uint64_t> stuck_bytes, stuck_live;
  RemoteQueue remote;
  Lock roster_lock;
  // Under the lock of control/worker.cpp: when the deferred trim is due (0: none) and was asked for, and
  // Counters::taken_bytes then and at the worker's last look.
  uint64_t trim_due, trim_asked, taken_at_hint, taken_at_look;
  uint64_t trim_delay;  // so long nothing must have been needed, as was learned; 0: the fixed rules say when

  // ---- lists of heaps: all (heap/all_heaps.h), and those whose thread has ended (api/thread_heap.cpp)
  Heap *next, *previous, *next_abandoned;
  uint64_t abandoned_free;  // of one whose thread has ended: resident bytes that no block lives in
  // When its thread took it: Counters::faulted_bytes, and what had ever gone back at the end of others.
  uint64_t faulted_at_adopt, dropped_at_adopt;
  std::atomic<uint32_t> visitors;
};
static_assert(sizeof(Heap) <= sizeof(Superslab::heap_area));

inline unsigned bin_index(const Heap &heap, const Bin &bin) { return static_cast<unsigned>(&bin - heap.bins); }
inline unsigned class_of_bin(unsigned bin) { return bin % kClasses; }

inline Bin &bin_at(Heap &heap, size_t offset) {
  return *reinterpret_cast<Bin *>(reinterpret_cast<std::byte *>(heap.bins) + offset);
}
inline uint16_t &bin_of_slab(Heap &heap, uintptr_t address) {
  return heap.bin_of_slab[address / kSlabSize % kSlabHints];
}

inline unsigned groups_of(const Heap &heap) { return heap.last_group + 1; }

// The group of bins that blocks of `kind` come from.
inline unsigned kind_group(const Heap &heap, ace_kind kind) {
  return kind < heap.last_group ? kind : heap.last_group;
}

// A heap without blocks, listed among all heaps; nullptr where there is no memory.
Heap *create_heap(const ace_heap_config &config, bool is_thread_heap);

// Ends the heap and all its blocks. No other thread uses it, and no visitor is inside (heap/all_heaps.h).
// `later`: the pages of its superslabs wait for purge_released.
void destroy_heap(Heap &heap, bool later);

// Counts pages that are taken into use; may_grow has been asked before.
inline void count_faulted(Heap &heap, size_t bytes) {
  heap.counters.faulted_bytes.add(bytes);
  uint64_t resident = heap.counters.resident_bytes();
  if (resident > heap.counters.peak_resident_bytes.get()) heap.counters.peak_resident_bytes.set(resident);
}

// A bitmap of the slab with that number in its superslab is touched: those of eight slabs lie in one page.
enum class Bitmap { kFree, kRemote };
inline void count_bitmap_page(Heap &heap, Superslab *superslab, unsigned slab, Bitmap bitmap) {
  const unsigned first = bitmap == Bitmap::kFree ? 1u : 16u;
  const auto page = static_cast<uint8_t>(first << slab / (kSlabsPerSuperslab / 4));
  if (superslab->head.bitmap_pages & page) return;
  superslab->head.bitmap_pages |= page;
  superslab->head.head_pages += 1;
  heap.counters.metadata_bytes.add(kPage);
}

// Bytes in live blocks, those kept on allocation lists included. Any thread.
uint64_t live_bytes_bound(const Heap &heap);

// Waits, from now on, until so many bytes more are live; earlier no ReuseWatch::at is set. Meanwhile it looks
// how long no eighth of them is taken.
void watch_reuse(Heap &heap, uint64_t now, uint64_t bytes);
void end_watch(Heap &heap);
void look_for_reuse(Heap &heap);

// Counts free memory that is taken into use, resident or not.
inline void count_taken(Heap &heap, size_t bytes) {
  heap.counters.taken_bytes.add(bytes);
  if (heap.counters.taken_bytes.get() >= heap.reuse.look_at) [[unlikely]]
    look_for_reuse(heap);
}

// Does a collection run?
inline bool is_collecting(const Heap &heap) {
  return heap.phases.phase == Phase::kSweep || heap.phases.phase == Phase::kCollect;
}

// Reports a misuse that comes to light later, in no call that was wrong. The heap knows nobody above it who
// could: this is defined in front/misuse.cpp.
void report_late(int code, const void *block);

// Lists of superslabs; the holder's.
void link_superslab(Heap &heap, SuperslabList &list, Superslab *superslab);
// False where a visitor has it pinned: it stays linked, and the holder tries again later.
bool unlink_superslab(Heap &heap, SuperslabList &list, Superslab *superslab);

}  // namespace ace

// The C interface's name for it.
struct ace_heap : ace::Heap {};
