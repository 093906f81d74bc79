// The calling thread's heap: made on first use, left behind when the thread ends, taken up by a later thread.
#pragma once
#include "heap/heap.h"

namespace ace {

extern constinit thread_local Heap *t_heap;

// The first thread that has a heap, in most processes the only one. Its heap is found by the thread pointer: a
// thread-local variable of a shared library costs a call. Only that thread reads `heap`, and it wrote it.
struct FirstThread {
  std::atomic<void *> pointer;
  Heap *heap;
};
extern FirstThread g_first_thread;

inline bool is_first_thread() {
  return __builtin_thread_pointer() == g_first_thread.pointer.load(std::memory_order_relaxed);
}

// The thread's heap; makes or adopts one. nullptr where there is no memory.
Heap *thread_heap();

// In the child of a fork: a first thread that is not the caller is gone, perhaps in the middle of a change to
// its heap, and a new thread may get its thread pointer.
void forget_first_thread();

// Around fork: no other thread is leaving its heap behind or taking one up.
void lock_abandoned_heaps();
void unlock_abandoned_heaps();

}  // namespace ace
