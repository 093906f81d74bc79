#include "front/cold.h"
#include "front/misuse.h"

#include "base/path.h"
#include "front/hardened.h"
#include "heap/annotate.h"
#include "heap/limit.h"
#include "heap/red_zone.h"
#include "heap/slab.h"

#include <string.h>

#include <algorithm>
#include <array>
#include <bit>

namespace ace {
namespace {

// Requests above become page runs.
constexpr size_t kSlabsMax = kRoutes == Routes::pool_only ? 0 : kTinyMax - kHeader;

// For an alignment, 16 << row, and a class: the next class from there on whose blocks are all aligned; kClasses
// where there is none. Slabs are aligned to their size, so a block is where its size is a multiple of the
// alignment.
constexpr unsigned kAlignments = std::countr_zero(kTinyMax / kGranule) + 1;
constexpr std::array<std::array<uint8_t, kClasses>, kAlignments> make_aligned_classes() {
  std::array<std::array<uint8_t, kClasses>, kAlignments> table{};
  for (unsigned row = 0; row < kAlignments; ++row) {
    for (unsigned c = kClasses, next = kClasses; c-- > 0;) {
      if (kClassSize[c] % (kGranule << row) == 0) next = c;
      table[row][c] = static_cast<uint8_t>(next);
    }
  }
  return table;
}
constexpr auto kAlignedClass = make_aligned_classes();

// A shrunk block stays where it is while what it loses is less than half of it, and little: a quarter, or less
// than a cache line. Hosts build texts in buffers that are cut to size at the end, and what is cut off would be
// lost for as long as the text lives.
bool fits_in_place(size_t size, size_t block_size) {
  if (size > block_size || size < block_size / 2) return false;
  const size_t lost = block_size - size;
  return lost < 64 || lost <= block_size / 4;
}

// The slab of `p`, where that is surely a live block of one of this heap's; nullptr: the longer way must judge.
const SlabPrefix *slab_of_live(Heap &heap, const void *p) {
  if (!is_ours(p)) return nullptr;
  SlabPrefix &prefix = prefix_of(p);
  if (prefix.owner != &heap || prefix.block_size == 0) return nullptr;  // 0 outside slabs
  if (!starts_block(prefix, offset_in_slab(p) - kHeader)) return nullptr;
  p = block_of(p);
  auto &row = reinterpret_cast<SlabRow &>(prefix);
  if (row.remote.words.load(std::memory_order_relaxed) != 0) return nullptr;
  const bool is_free =
      is_in_bitmap(superslab_of(p), p) || static_cast<const Block *>(p)->tag == &heap.bins[prefix.bin];
  return is_free ? nullptr : &prefix;
}

// Resizes a mid or large block of the caller's heap without copying; nullptr where that cannot be.
void *resize_in_place(Heap &heap, const Route &way, void *p, size_t size) {
  if (way.owner != &heap) return nullptr;
  if (way.pool == Pool::kMid && size > kSlabsMax && size <= kMidMax) {
    return resize_mid(heap, way.superslab, way.index, pages_for(size)) ? p : nullptr;
  }
  if (way.pool == Pool::kLarge && size > kMidMax) return resize_large(heap, way.superslab, size);
  return nullptr;
}

// For a run that could not grow where it is. Runs that grow side by side leave room for one another, so that
// each moves once in several steps.
void *allocate_growing(Heap &heap, size_t size) {
  return allocate_mid(heap, pages_for(size), kPage, pages_for(size) / 2);
}

void *allocate_for_move(Heap &heap, size_t old_size, size_t size, unsigned group) {
  const Shrinking shrinking(heap, size <= old_size);
  return allocate(heap, size, group);
}

// The end of a realloc: `moved` is the new block, or nullptr where there is no memory; shrinking never fails.
void *move_block(Heap &heap, void *p, size_t old_size, void *moved, size_t size) {
  if (moved == nullptr) return size <= old_size ? p : nullptr;
  memcpy(moved, p, std::min(size, old_size));
  free_block(heap, p);
  return moved;
}

}  // namespace

unsigned aligned_class(size_t size, size_t alignment) {
  if (alignment > kTinyMax) return kClasses;
  return kAlignedClass[static_cast<unsigned>(std::countr_zero(alignment / kGranule))][class_of(size)];
}

void *allocate_rare(Heap &heap, size_t size, unsigned group) {
  const OnPath path(Path::kCold);
  if (heap.nature != Nature::kPlain) return allocate_other(heap, size, group);
  if (size == 0) return allocate(heap, 1, group);
  if (size <= kMidMax) return allocate_mid(heap, pages_for(size), kPage);
  if (size > kRequestMax) return nullptr;
  return allocate_large(heap, size, kPage);
}

void *allocate_aligned(Heap &heap, size_t alignment, size_t size, unsigned group) {
  const OnPath path(Path::kCold);
  if (!is_power_of_two(alignment) || alignment > ACE_ALIGNMENT_MAX || size > kRequestMax) return nullptr;
  if (alignment <= kGranule) return allocate(heap, size, group);
  if (heap.nature == Nature::kHardened) return allocate_hardened_aligned(heap, alignment, size, group);
  if (heap.nature != Nature::kPlain) return allocate_other(heap, size, group);
  if (size == 0) size = 1;
  if (kHeader == 0 && size <= kSlabsMax) {
    unsigned c = aligned_class(size, alignment);
    if (c < kClasses) return allocate(heap, kClassSize[c], group);
  }
  if (alignment < kPage) alignment = kPage;
  if (size <= kMidMax) return allocate_mid(heap, pages_for(size), alignment);
  return allocate_large(heap, size, alignment);
}

void *allocate_zeroed(Heap &heap, size_t count, size_t size, unsigned group) {
  const OnPath path(Path::kCold);
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return nullptr;
  void *p = allocate(heap, bytes, group);
  if (p == nullptr) return nullptr;
  // A large block is a fresh mapping most of the time, zero already.
  if (bytes <= kMidMax || !large_is_zero(p)) {
    memset(p, 0, bytes);
  } else if (is_watched(heap)) {
    open_memory(p, bytes);
  }
  return p;
}

void *reallocate(Heap &heap, void *p, size_t size, unsigned group) {
  const OnPath path(Path::kCold);
  if (p == nullptr) return allocate(heap, size, group);
  // Most of what VMs resize is a string that is trimmed, a buffer that grows inside its class.
  if (const SlabPrefix *slab = slab_of_live(heap, p); slab != nullptr && size - 1 < kRequestMax) {
    if (fits_in_place(size + kHeader, slab->block_size)) return p;
    const size_t old_size = slab->block_size - kHeader;
    return move_block(heap, p, old_size, allocate_for_move(heap, old_size, size, slab->kind_group), size);
  }
  if (heap.nature == Nature::kHardened) {
    if (void *resized; reallocate_sealed(heap, p, size, resized)) return resized;
  }
  Route way = route(p);
  if (way.fault == 0 && is_free_here(&heap, way, p)) way.fault = ACE_ERROR_DOUBLE_FREE;
  if (way.fault != 0) {
    report_misuse(way.fault, "realloc", p, way);
    return nullptr;
  }
  if (heap.nature == Nature::kHardened || way.owner->nature == Nature::kHardened)
    return reallocate_hardened(heap, way, p, size, group);
  if (size > kRequestMax) return nullptr;
  if (way.pool == Pool::kTiny && fits_in_place(size, way.size)) return p;
  if (void *resized = resize_in_place(heap, way, p, size)) return resized;
  // Where a block of a large mapping could not grow, another mapping of that size would fail as well.
  if (way.pool == Pool::kLarge && way.owner == &heap && size > kMidMax) return nullptr;

  if (way.pool == Pool::kTiny && way.owner == &heap) group = way.row->prefix.kind_group;
  void *moved = way.pool == Pool::kMid && way.owner == &heap && size > way.size && size <= kMidMax
                    ? allocate_growing(heap, size)
                    : allocate_for_move(heap, way.size, size, group);
  if (moved == nullptr && size > way.size) {
    // The host was asked for a whole block. What room it made may do for the rest of this one.
    if (void *resized = resize_in_place(heap, way, p, size)) return resized;
  }
  return move_block(heap, p, way.size, moved, size);
}

size_t usable_size(const void *p) {
  if (p == nullptr) return 0;
  Route way = route(p);
  if (way.fault == 0 && is_free(way, p)) way.fault = ACE_ERROR_DOUBLE_FREE;
  if (way.fault != 0) {
    report_misuse(way.fault, "usable_size", p, way);
    return 0;
  }
  if (way.owner->nature != Nature::kHardened) return way.size;
  const size_t size = size_checked(way, p, "usable_size");
  return size == kBroken ? 0 : size;
}

size_t good_size(size_t size) {
  if (size > kRequestMax) return size;
  size = std::max(size, size_t{1}) + kHeader;
  if (size <= kTinyMax) return kClassSize[class_of(size)] - kHeader;
  if (size <= kMidMax) return pages_for(size) * kPage - kHeader;
  return large_block_size_for(size) - kHeader;
}

bool is_live(const void *p) {
  const Route way = route(p);
  if (way.fault != 0 || is_free(way, p)) return false;
  return way.owner->nature != Nature::kHardened || read_seal(*way.owner, p, way.size) != kBroken;
}

}  // namespace ace
