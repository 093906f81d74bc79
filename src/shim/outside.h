// Blocks that lie outside all heaps: those of the time before there can be a heap, those of alignments that no
// heap has, and those that are none of ours.
#pragma once
#include <cstddef>

namespace ace::shim {

// Memory for what libc and the loader ask for before the environment can be read, and for what is asked for in
// the midst of making a heap. nullptr where it is used up. `alignment` is a power of two.
void *allocate_early(size_t alignment, size_t size);

// A block of an alignment above ACE_ALIGNMENT_MAX, a power of two: a mapping of its own. nullptr where there is
// none.
void *allocate_far_aligned(size_t alignment, size_t size);

// Frees `p`, which is_foreign to the heaps. A pointer into a block is reported; what is neither of the two
// above is left alone: its own allocator, in another namespace of the loader perhaps, is not to be found.
void free_outside(void *p);

// How many bytes of it may be used; 0 where it is not ours.
size_t usable_outside(const void *p);

// Reports such a pointer where it points into a block of the second kind, or into a heap's large one.
bool report_interior(const char *function, const void *p);

// Pointers that were left alone so far.
size_t foreign_frees();

// Around fork.
void lock_outside();
void unlock_outside();

}  // namespace ace::shim
