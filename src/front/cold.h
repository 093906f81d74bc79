// The rare operations: sizes outside the tiny range, alignment, resizing, questions about a block.
#pragma once
#include "front/hot.h"

namespace ace {

// For aligned requests: `alignment` is a power of two up to ACE_ALIGNMENT_MAX, else nullptr.
void *allocate_aligned(Heap &heap, size_t alignment, size_t size, unsigned group);

// The first class whose blocks hold `size` bytes, 1 to kTinyMax, and are all aligned; kClasses where there is
// none.
unsigned aligned_class(size_t size, size_t alignment);

// Zeroed; nullptr where the product overflows.
void *allocate_zeroed(Heap &heap, size_t count, size_t size, unsigned group);

// As ace_realloc. `p` may be any heap's; a moved block comes from `heap`.
void *reallocate(Heap &heap, void *p, size_t size, unsigned group);

// The usable size of the block at `p`; misuse is reported, and 0 returned.
size_t usable_size(const void *p);

// The usable size of a new block of `size` bytes in a plain heap; `size` where there can be none.
size_t good_size(size_t size);

// Does `p`, which is not null, start a live block, and one that is sound? Nothing is reported.
bool is_live(const void *p);

}  // namespace ace
