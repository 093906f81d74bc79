// Statistics of a heap, for the C interface and for reports.
#pragma once
#include "base/text.h"
#include "heap/heap.h"

namespace ace {

// `exact`: the caller holds the heap; otherwise see ace_heap_stats_shared.
void fill_stats(const Heap &heap, bool exact, ace_stats &stats);

// A heap's line of a JSON report, by a thread that need not hold it.
void add_shared_report(TextBuffer &text, const Heap &heap);

}  // namespace ace
