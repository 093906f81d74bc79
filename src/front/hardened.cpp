#include "front/hardened.h"

#include <string.h>

#include <algorithm>

#include "base/path.h"
#include "front/cold.h"
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
  if (heap.spoiled != nullptr) {
    heap.spoiled = nullptr;
    report_spoiled(block, gross);
  }
  put_seal(heap, block, gross, size);
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

[[gnu::noinline]] void *refill_and_allocate(Heap &heap, unsigned bin, size_t size);

// What is rare here and in free_hardened ends in a call of what goes on with it: so there is nothing to save.
inline void *allocate_from(Heap &heap, unsigned bin, size_t size) {
  if (!can_issue(heap.bins[bin])) [[unlikely]]
    return refill_and_allocate(heap, bin, size);
  std::byte *block = take_scattered(heap, bin);
  const size_t gross = kClassSize[class_of_bin(bin)];
  if (!is_zero(block, gross)) [[unlikely]]
    return issue_spoiled(heap, block, gross, size);
  put_seal(heap, block, gross, size);
  return block;
}

void *refill_and_allocate(Heap &heap, unsigned bin, size_t size) {
  return refill_bin(heap, bin) ? allocate_from(heap, bin, size) : nullptr;
}

[[gnu::noinline]] void wipe_and_free(Heap &heap, SlabRow &row, void *p, size_t gross) {
  memset(p, 0, gross);
  free_to_bitmap(heap, superslab_of(p), row, p);
}

unsigned bin_for(size_t size, unsigned group) { return group * kClasses + class_of(size + kSeal); }

// Resizes without a move; nullptr where that cannot be.
void *resize_sealed(Heap &heap, const Route &way, void *p, size_t size) {
  const size_t needed = size + kSeal;
  size_t gross = way.size;
  switch (way.pool) {
    case Pool::kTiny:
      if (needed > kTinyMax || class_of(needed) != way.row->prefix.size_class) return nullptr;
      break;
    case Pool::kMid: {
      if (needed <= kTinyMax || needed > kMidMax) return nullptr;
      const size_t pages = pages_for(needed) * kPage;
      if (pages < gross) memset(static_cast<std::byte *>(p) + pages, 0, gross - pages);
      if (pages != gross && !resize_mid(heap, way.superslab, way.index, pages_for(needed))) return nullptr;
      gross = pages;
      break;
    }
    case Pool::kLarge:
      if (needed <= kMidMax) return nullptr;
      if (pages_for(needed) * kPage == gross) break;
      p = resize_large(heap, way.superslab, needed);
      if (p == nullptr) return nullptr;
      gross = large_block_size(superslab_of(p));
      break;
    case Pool::kNone:
      return nullptr;
  }
  if (heap.spoiled != nullptr) {
    heap.spoiled =
        nullptr;  // pages that the run has grown by: their contents are undefined, but what was written
    report_misuse(ACE_ERROR_WRITE_AFTER_FREE, "realloc", p, route(p));  // to them is told
  }
  put_seal(heap, p, gross, size);
  return p;
}

}  // namespace

void *allocate_hardened(Heap &heap, size_t size, unsigned group) {
  if (size <= kTinyMax - kSeal) [[likely]]
    return allocate_from(heap, bin_for(size, group), size);
  return allocate_sealed_pages(heap, size);
}

void *allocate_hardened_aligned(Heap &heap, size_t alignment, size_t size, unsigned group) {
  if (size + kSeal <= kTinyMax) {
    const unsigned c = aligned_class(size + kSeal, alignment);
    if (c < kClasses) return allocate_from(heap, group * kClasses + c, size);
  }
  alignment = std::max(alignment, size_t{kPage});
  if (size <= kMidMax - kSeal)
    return begin_large(heap, allocate_mid(heap, pages_for(size + kSeal), alignment), size);
  return begin_large(heap, allocate_large(heap, size + kSeal, alignment), size);
}

void free_hardened(Heap &heap, void *p, size_t size, const char *function) {
  SlabPrefix &prefix = prefix_of(p);
  auto &row = reinterpret_cast<SlabRow &>(prefix);
  if (prefix.owner != &heap || prefix.capacity == 0 || !starts_block(prefix, offset_in_slab(p))) [[unlikely]]
    return free_judged(&heap, p, size, function);
  // What is free, whoever freed it, is zero, and zeroes are no seal.
  const size_t gross = block_size_of(prefix), asked = read_seal(heap, p, gross);
  if (asked == kBroken || (size != kUntold && size != asked)) [[unlikely]]
    return free_judged(&heap, p, size, function);
  if (gross > kShortWipe) return wipe_and_free(heap, row, p, gross);
  wipe_short(p, gross);
  free_to_bitmap(heap, superslab_of(p), row, p);
}

size_t size_checked(const Route &way, const void *p, const char *function) {
  const size_t asked = read_seal(*way.owner, p, way.size);
  if (asked == kBroken) report_misuse(ACE_ERROR_OVERFLOW, function, p, way);
  return asked;
}

bool wipe_checked(const Route &way, void *p, size_t size, const char *function) {
  if (is_free(way, p)) {
    report_misuse(ACE_ERROR_DOUBLE_FREE, function, p, way);
    return false;
  }
  const size_t asked = size_checked(way, p, function);
  if (asked == kBroken) return false;
  if (size != kUntold && size != asked) {
    report_misuse(ACE_ERROR_SIZE_MISMATCH, function, p, way);
    return false;
  }
  if (way.pool != Pool::kLarge) wipe(p, way.size);  // a mapping ends with its block
  return true;
}

void *reallocate_hardened(Heap &heap, const Route &way, void *p, size_t size, unsigned group) {
  const bool sealed = way.owner->nature == Nature::kHardened, own = way.owner == &heap;
  const size_t old_size = sealed ? size_checked(way, p, "realloc") : way.size;
  if (old_size == kBroken || size > kRequestMax) return nullptr;
  if (own) {
    if (void *resized = resize_sealed(heap, way, p, size)) return resized;
    if (way.pool == Pool::kTiny) group = way.row->prefix.kind_group;
  }
  void *moved = allocate(heap, size, group);
  if (moved == nullptr) {  // shrinking never fails
    if (size > old_size) return nullptr;
    if (sealed) put_seal(*way.owner, p, way.size, size);
    return p;
  }
  memcpy(moved, p, std::min(size, old_size));
  free_block(heap, p);
  return moved;
}

}  // namespace ace
