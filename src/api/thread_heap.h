// The calling thread's heap: made on first use, left behind when the thread ends, taken up by a later thread.
#pragma once
#include "heap/heap.h"

namespace ace {

// nullptr before the thread's first allocation and after its heap was left behind.
extern constinit thread_local Heap *t_heap;

// The thread's heap; makes or adopts one. nullptr where there is no memory.
Heap *thread_heap();

// Around fork: no other thread is leaving its heap behind or taking one up.
void lock_abandoned_heaps();
void unlock_abandoned_heaps();

}  // namespace ace
