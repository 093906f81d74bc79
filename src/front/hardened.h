// Hardened heaps: what their allocations and frees do in place of the hot path, which they never take, since
// their bins have no list and their windows no block. heap/red_zone.h says what a block looks like,
// heap/scatter.h in which order they are issued.
#pragma once
#include "front/gate.h"
#include "heap/heap.h"

namespace ace {

void *allocate_hardened(Heap &heap, size_t size, unsigned group);

// The same for the hot path, which comes by the bin of that size without a seal: 1 to kTinyMax.
[[gnu::noinline]] void *allocate_sealed(Heap &heap, size_t size, Bin &unsealed);

// `alignment` is a power of two above kGranule and up to ACE_ALIGNMENT_MAX.
void *allocate_hardened_aligned(Heap &heap, size_t alignment, size_t size, unsigned group);

// No size is told with a free; what was asked for with size 0 may be freed without.
inline constexpr size_t kUntold = 0;

// Frees `p`, most likely a block of a slab of this heap, which is hardened: the prefix is the heap's. Whatever
// else it may be, free_judged frees or reports it.
void free_hardened(Heap &heap, SlabPrefix &prefix, void *p);
void free_hardened_sized(Heap &heap, SlabPrefix &prefix, void *p, size_t size);
void free_hardened_swept(Heap &heap, SlabPrefix &prefix, void *p, size_t size);

// A block of a hardened heap, to which the route leads, is about to be freed: wipes it. False, and reported,
// where it is free already, is not sound or is not of that size.
bool wipe_checked(const Heap *caller, const Route &way, void *p, size_t size, const char *function);

// The size that was asked for a block of a hardened heap, not free, to which the route leads; kBroken, and
// reported, where it is not sound.
size_t size_checked(const Route &way, const void *p, const char *function);

// What reallocate_hardened does, for a live block of a slab of this heap, which is hardened, and a size that
// fits into slabs. False, with nothing done, where it is not surely that.
bool reallocate_sealed(Heap &heap, void *p, size_t size, void *&result);

// The block, live by its route, or the heap are hardened.
void *reallocate_hardened(Heap &heap, const Route &way, void *p, size_t size, unsigned group);

}  // namespace ace
