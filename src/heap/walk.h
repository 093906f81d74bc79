// All live blocks of a heap, each superslab's in the order of their addresses.
#pragma once
#include "heap/heap.h"

namespace ace {

// See ace_heap_walk and ace_heap_walk_next.
int walk_heap(Heap &heap, ace_visit_fn visit, void *context);
bool walk_next(Heap &heap, uintptr_t *position, ace_visit_fn visit, void *context);

}  // namespace ace
