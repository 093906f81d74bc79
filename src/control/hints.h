// Hints: the host says what its runtime does, and the heap's phase, counters and memory follow.
#pragma once
#include "heap/heap.h"

namespace ace {

// False for an unknown hint. The holder's.
bool take_hint(Heap &heap, ace_hint_code hint, uint64_t value);

// What the hints have said so far is over: the heap is another's from now on. The holder's.
void forget_hints(Heap &heap);

}  // namespace ace
