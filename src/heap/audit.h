// Every invariant of a heap, checked by walking it. The equations stand beside the fields that they are about;
// this is where they are held against the facts.
#pragma once
#include "heap/heap.h"

namespace ace {

// True where all hold; otherwise the first broken one is written to `message`. The holder's, while no other
// thread purges or frees into the heap.
bool audit_heap(Heap &heap, char *message, size_t length);

}  // namespace ace
