// Warm: what the hot path calls when a list runs dry, and frees that do not go onto a list.
#include "base/path.h"
#include "front/hardened.h"
#include "front/hot.h"
#include "front/misuse.h"
#include "heap/carve.h"
#include "heap/front_cache.h"
#include "heap/remote.h"
#include "heap/slab.h"

namespace ace {
namespace {

// A block of another heap, or of a heap whose holder the caller is not.
void free_remote(Heap *caller, void *p, const Route &route) {
  bool marked = false;
  // A block of a hardened heap has been wiped by now, and looks free.
  const bool is_sealed = route.owner->nature == Nature::kHardened;
  // Also where the tag was overwritten. Not what others gather: they may have sent it a moment ago, and its
  // holder have issued it since. If they have not sent it yet, they find the second free when they do.
  const bool is_gathered = caller != nullptr && route.pool == Pool::kTiny && has_gathered(*caller, p);
  if (!is_gathered && !(is_sealed ? has_free_bit(route) : is_free(route, p))) {
    switch (route.pool) {
      case Pool::kTiny:
        marked = free_remote_tiny(*route.row, route.index);
        break;
      case Pool::kMid:
        marked = free_remote_mid(route.superslab, route.index);
        break;
      case Pool::kLarge:
        marked = free_remote_large(route.superslab);
        break;
      case Pool::kNone:
        break;
    }
  }
  if (!marked) return report_misuse(ACE_ERROR_DOUBLE_FREE, "free", p, route);
  if (caller != nullptr && !caller->is_thread_heap) caller->counters.misrouted_pointers.add_shared(1);
}

// Its owner may have written a free block's tag: into the cache goes what has none.
void untag_live(const Heap &heap, const SlabRow &row, void *p) {
  const Bin &bin = heap.bins[row.prefix.bin];
  auto *block = static_cast<Block *>(p);
  if (has_cache(heap) && block->tag == &bin && !is_tagged_free(bin, block)) block->tag = nullptr;
}

void free_local(Heap &heap, void *p, const Route &route) {
  switch (route.pool) {
    case Pool::kTiny:
      if (push(heap.bins[route.row->prefix.bin], block_of(p))) return;
      untag_live(heap, *route.row, block_of(p));
      if (!(has_cache(heap) ? free_to_cache(heap, route.superslab, *route.row, block_of(p))
                            : free_to_bitmap(heap, route.superslab, *route.row, block_of(p)))) {
        report_misuse(ACE_ERROR_DOUBLE_FREE, "free", p, route);
      }
      return;
    case Pool::kMid:
    case Pool::kLarge:
      // Another thread may have freed it, and the holder not yet taken it over.
      if (is_free(route, p)) return report_misuse(ACE_ERROR_DOUBLE_FREE, "free", p, route);
      if (route.pool == Pool::kMid) return free_mid(heap, route.superslab, route.index);
      return free_large(heap, route.superslab);
    case Pool::kNone:
      return;
  }
}

// Frees a block of at least `size` bytes of the slab, whose prefix it is, of this heap. False, with nothing
// done, where it is not that.
inline bool free_into_slab(Heap &heap, SlabPrefix &prefix, void *p, size_t size) {
  if (kHeader != 0 && size > kTinyMax) return false;
  // A head, and a slab that was never assigned, has blocks of no size; neither does a size of 0 come through.
  if (prefix.block_size <= size + kHeader - 1) [[unlikely]]
    return false;
  if (!starts_block(prefix, offset_in_slab(p) - kHeader)) [[unlikely]]
    return false;
  p = block_of(p);
  auto &row = reinterpret_cast<SlabRow &>(prefix);
  if constexpr (kFrontCache != 0)
    return free_to_cache(heap, superslab_of(p), row, p);  // no hardened heap comes here
  // A current slab whose entry in bin_of_slab another one has.
  if (prefix.state == SlabState::kCurrent && push(heap.bins[prefix.bin], p)) return true;
  return free_to_bitmap(heap, superslab_of(p), row, p);
}

// A caller may have no heap, and a slab that was never assigned has none either.
inline bool owns(const Heap *heap, const SlabPrefix &prefix) { return prefix.owner == heap && heap != nullptr; }

inline bool is_hardened(const Heap &heap) { return kCanHarden && heap.nature == Nature::kHardened; }

}  // namespace

void *allocate_other(Heap &heap, size_t size, unsigned group) {
  if (heap.nature == Nature::kHardened) return allocate_hardened(heap, size, group);
  report_misuse(ACE_ERROR_ENDED_HEAP, "alloc", &heap, route(nullptr));
  return nullptr;
}

void free_judged(Heap *heap, void *p, size_t size, const char *function) {
  const OnPath path(Path::kCold);
  if (p == nullptr) return;
  Route way = route(p);
  if (way.fault == 0 && size > way.size) way.fault = ACE_ERROR_SIZE_MISMATCH;
  if (way.fault != 0) return report_misuse(way.fault, function, p, way);
  if (way.owner->nature == Nature::kHardened && !wipe_checked(heap, way, p, size, function)) return;
  if (way.owner == heap) return free_local(*heap, p, way);
  free_remote(heap, p, way);
}

// Apart, since a hardened heap comes to allocate_after_refill at each allocation, and would save registers.
[[gnu::noinline]] static void *refill_and_issue(Heap &heap, Bin &bin) {
  do {
    if (bin.list != nullptr) report_late(ACE_ERROR_WRITE_AFTER_FREE, bin.list);
    bin.list = nullptr;  // what follows the block is lost
    if (!refill_bin(heap, bin_index(heap, bin))) return nullptr;
  } while (!is_sound(bin));
  return issue_from_list(heap, bin);
}

void *allocate_after_refill(Heap &heap, size_t size, Bin &bin) {
  const OnPath path(Path::kWarm);
  if (heap.nature == Nature::kPlain) [[likely]]
    return refill_and_issue(heap, bin);
  if (kCanHarden && heap.nature == Nature::kHardened) return allocate_sealed(heap, size, bin);
  return allocate_other(heap, size, bin_index(heap, bin) / kClasses);
}

void free_outside_window(Heap *heap, void *p) {
  const OnPath path(Path::kWarm);
  if (!is_ours(p)) [[unlikely]]
    return free_judged(heap, p, kUntold, "free");
  if (SlabPrefix &prefix = prefix_of(p); owns(heap, prefix)) [[likely]] {
    if (free_into_slab(*heap, prefix, p, 1)) [[likely]]
      return;
    if (is_hardened(*heap)) return free_hardened(*heap, prefix, p);
  }
  free_judged(heap, p, kUntold, "free");
}

// As whole programs do all the time, so it is not judged at length.
bool free_into_others_slab(Heap *heap, void *p) {
  const OnPath path(Path::kCold);
  if constexpr (kHeader != 0) return false;
  SlabPrefix &prefix = prefix_of(p);
  Heap *owner = prefix.owner;
  if (owner == heap || prefix.block_size == 0 || !starts_block(prefix, offset_in_slab(p))) return false;
  if (is_in_bitmap(superslab_of(p), p) || shared_tag(p) == &owner->bins[prefix.bin]) return false;
  auto &row = reinterpret_cast<SlabRow &>(prefix);
  // Of more bytes another is rarely of the same word. An explicit heap may be destroyed before it is told.
  constexpr uint32_t kMostGathered = 256;
  const bool gathers =
      kServesMalloc && heap != nullptr && prefix.block_size <= kMostGathered && owner->is_thread_heap;
  if (!gathers) return free_remote_tiny(row, granule_of(offset_in_slab(p)));
  return gather_remote_free(*heap, row, p);
}

// Apart from what is frequent, which then saves no registers.
[[gnu::noinline]] int try_free_otherwise(Heap &heap, void *p) {
  if (p != nullptr && is_foreign(p)) {
    heap.counters.foreign_pointers.add_shared(1);
    return 0;
  }
  free_judged(&heap, p, kUntold, "free");
  return 1;
}

// What no slab of a plain heap's own has a block for.
[[gnu::noinline]] int try_free_elsewhere(Heap &heap, void *p) {
  if (is_ours(p)) {
    SlabPrefix &prefix = prefix_of(p);
    if (prefix.owner != &heap) {
      if (heap.is_thread_heap && free_into_others_slab(&heap, p)) return 1;
    } else if (is_hardened(heap)) {
      free_hardened(heap, prefix, p);
      return 1;
    }
  }
  return try_free_otherwise(heap, p);
}

int try_free_outside_window(Heap &heap, void *p) {
  const OnPath path(Path::kWarm);
  if (is_ours(p)) [[likely]] {
    SlabPrefix &prefix = prefix_of(p);
    if (prefix.owner == &heap && free_into_slab(heap, prefix, p, 1)) [[likely]]
      return 1;
  }
  return try_free_elsewhere(heap, p);
}

[[gnu::noinline]] void free_elsewhere_or(Heap &heap, void *p, void (*free_foreign)(void *)) {
  if (!try_free_elsewhere(heap, p)) free_foreign(p);
}

// As free_into_others_slab, where others of the block's word are gathered: then its slab has been looked at,
// and is the same still, since they count as used. `p` is ours.
inline bool gather_beside_others(Heap &heap, void *p) {
  RemoteBatch &batch = heap.batch;
  Superslab *superslab = superslab_of(p);
  if (batch.word.load(std::memory_order_relaxed) != &remote_word(superslab, p)) return false;
  const uint64_t bits = batch.bits.load(std::memory_order_relaxed), bit = free_bit(p);
  if (bits == 0) return false;
  const uint64_t free = free_word(superslab, p).load(std::memory_order_relaxed);
  if (((bits | free) & bit) != 0) return false;
  const SlabPrefix &prefix = prefix_of(p);
  const Bin *bin = &prefix.owner->bins[prefix.bin];
  // A size of 0: what was gathered was freed twice, and its slab is gone.
  if (prefix.block_size == 0 || !starts_block(prefix, offset_in_slab(p)) || shared_tag(p) == bin) return false;
  set_shared_tag(p, bin);
  batch.bits.store(bits | bit, std::memory_order_release);
  return true;
}

// Apart, since one thread may free all that another allocates.
[[gnu::noinline]] void free_into_others_slab_or(Heap &heap, void *p, void (*free_foreign)(void *)) {
  if (gather_beside_others(heap, p)) return;
  free_elsewhere_or(heap, p, free_foreign);
}

void free_outside_window_or(Heap &heap, void *p, void (*free_foreign)(void *)) {
  const OnPath path(Path::kWarm);
  if (is_ours(p)) [[likely]] {
    SlabPrefix &prefix = prefix_of(p);
    if (prefix.owner != &heap) [[unlikely]]
      return free_into_others_slab_or(heap, p, free_foreign);
    if (free_into_slab(heap, prefix, p, 1)) [[likely]]
      return;
  }
  free_elsewhere_or(heap, p, free_foreign);
}

// An in-place shrink changes the size, not the class: any size up to the block's may be right.
void free_sized_outside_window(Heap *heap, void *p, size_t size) {
  const OnPath path(Path::kWarm);
  if (!is_ours(p)) [[unlikely]]
    return free_judged(heap, p, size, "free_sized");
  if (SlabPrefix &prefix = prefix_of(p); owns(heap, prefix)) [[likely]] {
    if (free_into_slab(*heap, prefix, p, size)) [[likely]]
      return;
    if (is_hardened(*heap)) return free_hardened_sized(*heap, prefix, p, size);
  }
  free_judged(heap, p, size, "free_sized");
}

void free_swept(Heap &heap, void *p, size_t size) {
  const OnPath path(Path::kWarm);
  if (SlabPrefix &prefix = prefix_of(p); prefix.owner == &heap) [[likely]] {
    if (free_into_slab(heap, prefix, p, size)) [[likely]]
      return;
    if (is_hardened(heap)) return free_hardened_swept(heap, prefix, p, size);
  }
  free_judged(&heap, p, size, "free_swept");
}

// The block carries the tag of a free one: on the list, or freed by another thread, it is freed twice;
// otherwise its owner wrote the tag.
void free_suspect(Bin &bin, void *p) {
  const OnPath path(Path::kWarm);
  if (is_tagged_free(bin, p)) {
    p = user_part(p);
    return report_misuse(ACE_ERROR_DOUBLE_FREE, "free", p, route(p));
  }
  auto *block = static_cast<Block *>(p);
  block->next = bin.list;
  bin.list = block;
}

}  // namespace ace
