#include "front/hardened.h"
#include "front/misuse.h"

#include <string.h>

#include <algorithm>

#include "base/path.h"
#include "front/cold.h"
#include "heap/annotate.h"
#include "heap/limit.h"
#include "heap/mid.h"
#include "heap/red_zone.h"
#include "heap/remote.h"
#include "heap/scatter.h"

namespace ace {
namespace {

// Something was written to a block while it was free. Nobody may have the block with that in it.
[[gnu::noinline, gnu::cold]] void report_spoiled(void *block, size_t gross) {
  report_misuse(ACE_ERROR_WRITE_AFTER_FREE, "alloc", block, route(block));
  memset(block, 0, gross);
}

// Puts a page run's or mapping's block into use.
void *begin_large(Heap &heap, void *block, size_t size) {
  if (block == nullptr) return nullptr;
  const size_t gross = route(block).size;
  const OpenMemory open(heap);
  if (is_watched(heap)) open_memory(block, gross);
  if (heap.spoiled != nullptr) {
    heap.spoiled = nullptr;
    report_spoiled(block, gross);
  }
  put_seal(heap, block, gross, size);
  if (is_watched(heap)) tell_issued(heap, block, size, gross);
  return block;
}

[[gnu::noinline]] void *allocate_sealed_pages(Heap &heap, size_t size) {
  if (size <= kMidMax - kSeal)
    return begin_large(heap, allocate_mid(heap, pages_for(size + kSeal), kPage), size);
  if (size > kRequestMax) return nullptr;
  return begin_large(heap, allocate_large(heap, size + kSeal, kPage), size);
}

[[gnu::noinline, gnu::cold]] void *issue_spoiled(Heap &heap, void *block, size_t gross, size_t size) {
  report_spoiled(block, gross);
  put_seal(heap, block, gross, size);
  return block;
}

[[gnu::noinline, gnu::cold]] void *issue_watched(Heap &heap, void *block, size_t gross, size_t size) {
  const OpenMemory open(heap);
  open_memory(block, gross);
  if (!is_zero(block, gross)) report_spoiled(block, gross);
  put_seal(heap, block, gross, size);
  tell_issued(heap, block, size, gross);
  return block;
}

[[gnu::noinline]] void *refill_and_allocate(Heap &heap, Bin &bin, size_t size);

// What is rare here and in free_from_slab ends in a call of what goes on with it: so there is nothing to save.
[[gnu::always_inline]] inline void *allocate_from(Heap &heap, Bin &bin, size_t gross, size_t size) {
  if (!has_scattered(bin)) [[unlikely]]
    return refill_and_allocate(heap, bin, size);
  std::byte *block = take_scattered(bin);
  if (is_watched(heap)) [[unlikely]]
    return issue_watched(heap, block, gross, size);
  if (!is_zero(block, gross)) [[unlikely]]
    return issue_spoiled(heap, block, gross, size);
  put_first_seal(heap, block, gross, size);
  return block;
}

void *refill_and_allocate(Heap &heap, Bin &bin, size_t size) {
  const unsigned index = bin_index(heap, bin);
  if (!refill_bin(heap, index)) return nullptr;
  return allocate_from(heap, bin, kClassSize[class_of_bin(index)], size);
}

[[gnu::noinline]] void wipe_and_free(Heap &heap, SlabRow &row, void *p, size_t gross) {
  const OpenMemory open(heap);
  if (is_watched(heap)) tell_freed(heap, p, gross);
  memset(p, 0, gross);
  if (is_watched(heap)) close_memory(p, gross);
  free_to_bitmap(heap, superslab_of(p), row, p);
}

// Resizes the block, seal included, without a copy, and says what became of it in `gross`; nullptr where that
// cannot be.
void *resize_block(Heap &heap, const Route &way, void *p, size_t needed, size_t &gross) {
  switch (way.pool) {
    case Pool::kTiny:
      return needed <= kTinyMax && class_of(needed) == way.row->prefix.size_class ? p : nullptr;
    case Pool::kMid: {
      if (needed <= kTinyMax || needed > kMidMax) return nullptr;
      const size_t pages = pages_for(needed) * kPage;
      if (pages < gross) {
        std::byte *rest = static_cast<std::byte *>(p) + pages;
        wipe_run(rest, gross - pages);
        if (is_watched(heap)) close_memory(rest, gross - pages);
      }
      if (pages != gross && !resize_mid(heap, way.superslab, way.index, pages_for(needed))) return nullptr;
      gross = pages;
      return p;
    }
    case Pool::kLarge:
      if (needed <= kMidMax) return nullptr;
      if (round_up(needed, kPage) == gross) return p;
      p = resize_large(heap, way.superslab, needed);
      if (p != nullptr) gross = large_block_size(superslab_of(p));
      return p;
    case Pool::kNone:
      break;
  }
  return nullptr;
}

// Resizes without a copy; nullptr where that cannot be.
void *resize_sealed(Heap &heap, const Route &way, void *p, size_t old_size, size_t size) {
  const OpenMemory open(heap);
  const bool watched = is_watched(heap);
  const auto behind = [&](void *block) { return static_cast<std::byte *>(block) + old_size; };
  if (watched) open_memory(behind(p), way.size - old_size);
  size_t gross = way.size;
  void *resized = resize_block(heap, way, p, size + kSeal, gross);
  if (resized == nullptr) {
    if (watched) close_memory(behind(p), way.size - old_size);
    return nullptr;
  }
  if (watched && gross > old_size) open_memory(behind(resized), gross - old_size);
  if (heap.spoiled != nullptr) {
    // Pages that the run has grown by: their contents are undefined, but what was written to them is told.
    heap.spoiled = nullptr;
    report_misuse(ACE_ERROR_WRITE_AFTER_FREE, "realloc", resized, route(resized));
  }
  wipe_old_seal(resized, old_size, size, way.size);
  put_seal(heap, resized, gross, size);
  if (watched) tell_resized(heap, p, resized, old_size, size, gross);
  return resized;
}

// The block stays as it is, but for the size that was asked for.
void shrink_sealed(const Heap &owner, void *p, size_t gross, size_t old_size, size_t size) {
  const OpenMemory open(owner);
  if (is_watched(owner)) open_memory(static_cast<std::byte *>(p) + old_size, gross - old_size);
  put_seal(owner, p, gross, size);
  if (is_watched(owner)) tell_resized(owner, p, p, old_size, size, gross);
}

// Does a block start at `p` in the slab, of this heap, whose prefix it is? Live it is where its seal is sound:
// what is free, whoever freed it, is zero, and zeroes are no seal.
inline bool is_block(const SlabPrefix &prefix, const void *p) {
  return prefix.capacity != 0 && starts_block(prefix, offset_in_slab(p));
}

[[gnu::noinline]] void free_watched(Heap &heap, SlabPrefix &prefix, void *p, size_t size,
                                    const char *function) {
  const size_t gross = block_size_of(prefix), asked = is_block(prefix, p) ? read_seal(heap, p, gross) : kBroken;
  if (asked == kBroken || (size != kUntold && size != asked)) return free_judged(&heap, p, size, function);
  wipe_and_free(heap, reinterpret_cast<SlabRow &>(prefix), p, gross);
}

// Inlined for each caller, so that what is constant there takes no register.
[[gnu::always_inline]] inline void free_from_slab(Heap &heap, SlabPrefix &prefix, void *p, size_t size,
                                                  const char *function) {
  if (is_watched(heap)) [[unlikely]]
    return free_watched(heap, prefix, p, size, function);
  if (!is_block(prefix, p)) [[unlikely]]
    return free_judged(&heap, p, size, function);
  const size_t gross = block_size_of(prefix);
  size_t asked;
  if (!(size == kUntold ? check_seal(heap, p, gross, asked) : check_seal_of(heap, p, gross, size))) [[unlikely]]
    return free_judged(&heap, p, size, function);
  auto &row = reinterpret_cast<SlabRow &>(prefix);
  if (gross > kShortWipe) return wipe_and_free(heap, row, p, gross);
  wipe_short(p, gross);
  free_to_bitmap(heap, superslab_of(p), row, p);
}

}  // namespace

void *allocate_hardened(Heap &heap, size_t size, unsigned group) {
  if (size > kTinyMax - kSeal) return allocate_sealed_pages(heap, size);
  const unsigned c = class_of(size + kSeal);
  return allocate_from(heap, heap.bins[group * kClasses + c], kClassSize[c], size);
}

void *allocate_sealed(Heap &heap, size_t size, Bin &unsealed) {
  if (size > kTinyMax - kSeal) [[unlikely]]
    return allocate_sealed_pages(heap, size);
  const unsigned c = class_of(size + kSeal);
  return allocate_from(heap, (&unsealed)[c - class_of(size)], kClassSize[c], size);
}

void *allocate_hardened_aligned(Heap &heap, size_t alignment, size_t size, unsigned group) {
  if (size + kSeal <= kTinyMax) {
    const unsigned c = aligned_class(size + kSeal, alignment);
    if (c < kClasses) return allocate_from(heap, heap.bins[group * kClasses + c], kClassSize[c], size);
  }
  alignment = std::max(alignment, size_t{kPage});
  if (size <= kMidMax - kSeal)
    return begin_large(heap, allocate_mid(heap, pages_for(size + kSeal), alignment), size);
  return begin_large(heap, allocate_large(heap, size + kSeal, alignment), size);
}

void free_hardened(Heap &heap, SlabPrefix &prefix, void *p) {
  free_from_slab(heap, prefix, p, kUntold, "free");
}
void free_hardened_sized(Heap &heap, SlabPrefix &prefix, void *p, size_t size) {
  free_from_slab(heap, prefix, p, size, "free_sized");
}
void free_hardened_swept(Heap &heap, SlabPrefix &prefix, void *p, size_t size) {
  free_from_slab(heap, prefix, p, size, "free_swept");
}

size_t size_checked(const Route &way, const void *p, const char *function) {
  const size_t asked = read_seal(*way.owner, p, way.size);
  if (asked == kBroken) report_misuse(ACE_ERROR_OVERFLOW, function, p, way);
  return asked;
}

bool wipe_checked(const Heap *caller, const Route &way, void *p, size_t size, const char *function) {
  if (is_free_here(caller, way, p)) {
    report_misuse(ACE_ERROR_DOUBLE_FREE, function, p, way);
    return false;
  }
  const size_t asked = size_checked(way, p, function);
  if (asked == kBroken) return false;
  if (size != kUntold && size != asked) {
    report_misuse(ACE_ERROR_SIZE_MISMATCH, function, p, way);
    return false;
  }
  const OpenMemory open(*way.owner);
  if (is_watched(*way.owner)) tell_freed(*way.owner, p, way.size);
  if (way.pool == Pool::kTiny) wipe(p, way.size);
  if (way.pool == Pool::kMid) wipe_run(p, way.size);  // a large one's mapping ends with its block
  if (is_watched(*way.owner)) close_memory(p, way.size);
  return true;
}

bool reallocate_sealed(Heap &heap, void *p, size_t size, void *&result) {
  if (is_watched(heap) || !is_ours(p) || size > kTinyMax - kSeal) return false;
  SlabPrefix &prefix = prefix_of(p);
  if (prefix.owner != &heap || !is_block(prefix, p)) return false;
  const size_t gross = block_size_of(prefix);
  size_t old_size;
  if (!check_seal(heap, p, gross, old_size)) return false;
  result = p;
  if (class_of(size + kSeal) != prefix.size_class) {
    const Shrinking shrinking(heap, size <= old_size);
    if (void *moved = allocate_hardened(heap, size, prefix.kind_group)) {
      memcpy(moved, p, std::min(size, old_size));
      free_hardened(heap, prefix, p);
      result = moved;
      return true;
    }
    if (size > old_size) result = nullptr;  // shrinking never fails
  }
  if (result != nullptr) {
    wipe_old_seal(p, old_size, size, gross);
    put_seal(heap, p, gross, size);
  }
  return true;
}

void *reallocate_hardened(Heap &heap, const Route &way, void *p, size_t size, unsigned group) {
  const bool sealed = way.owner->nature == Nature::kHardened;
  const size_t old_size = sealed ? size_checked(way, p, "realloc") : way.size;
  if (old_size == kBroken || size > kRequestMax) return nullptr;
  if (way.owner == &heap) {
    if (void *resized = resize_sealed(heap, way, p, old_size, size)) return resized;
    if (way.pool == Pool::kTiny) group = way.row->prefix.kind_group;
  }
  const Shrinking shrinking(heap, size <= old_size);
  void *moved = allocate(heap, size, group);
  if (moved == nullptr) {  // shrinking never fails
    if (size > old_size) return nullptr;
    if (sealed) shrink_sealed(*way.owner, p, way.size, old_size, size);
    return p;
  }
  memcpy(moved, p, std::min(size, old_size));
  free_block(heap, p);
  return moved;
}

}  // namespace ace
