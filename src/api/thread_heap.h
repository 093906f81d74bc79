// The calling thread's heap: made on first use, left behind when the thread ends, taken up by a later thread.
#pragma once
#include "heap/heap.h"

namespace ace {

// The heap that the hot paths may use without asking: nullptr also where heaps are withheld.
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
// The same, where it has one: nullptr before it is made, and when it has been left behind.
Heap *known_thread_heap();

// From now on t_heap is set for no thread, so that every call takes the way round the hot paths. Called before
// the first heap is made.
void withhold_thread_heaps();

// Heaps that were left behind give back what they hold for nothing; those without a block end. How much of it
// may stay is learned anew. Any thread. Returns the bytes.
size_t trim_abandoned_heaps();

// In the child of a fork: a first thread that is not the caller is gone, perhaps in the middle of a change to
// its heap, and a new thread may get its thread pointer.
void forget_first_heap();

// Around fork: no other thread is leaving its heap behind or taking one up.
void lock_abandoned_heaps();
void unlock_abandoned_heaps();

}  // namespace ace
