// The list of all heaps of the process, for those who visit heaps that they do not hold: reports, the worker.
#pragma once
#include "heap/heap.h"

namespace ace {

void enter_heap(Heap &heap);

// Takes the heap off the list and waits until no visitor is inside.
void leave_heap(Heap &heap);

// Calls visit(heap, context) for each heap, which is not destroyed meanwhile. No lock is held during the call.
// Any thread.
void visit_heaps(void (*visit)(Heap &heap, void *context), void *context);

// Around fork: the list and every heap's list of superslabs are whole in the child. The lock of the list
// comes before the heaps' own.
void lock_all_heaps();
void unlock_all_heaps();

// In the child of a fork, while locked: the visitors were other threads.
void forget_visitors();

}  // namespace ace
