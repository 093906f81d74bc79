// Statistics of a heap, for the C interface and for reports.
#pragma once
#include "heap/heap.h"

namespace ace {

// `exact`: the caller holds the heap; otherwise see ace_heap_stats_shared.
void fill_stats(const Heap &heap, bool exact, ace_stats &stats);

}  // namespace ace
