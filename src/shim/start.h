// How a thread of any program comes to its heap, from the first call in the process on, and how the process's
// use of it is told: recorded, reported.
#pragma once
#include "api/thread_heap.h"
#include "trace/recorder.h"

namespace ace::shim {

// The caller's heap; makes or adopts one. nullptr where there is none: no memory, or it is too early
// (is_early).
Heap *own_heap();

// Of a thread that has never had a heap; kFreesBeforeHeap and more of any other.
inline constexpr unsigned kFreesBeforeHeap = 64;
extern constinit thread_local unsigned t_frees_without_heap;

// Set where own_heap gave none and allocate_early may: before libc is set up, and in the midst of making a
// heap.
bool is_early();

// Where the run is recorded no thread's t_heap is set, so that every call comes to the functions that note it.
// nullptr: it is not.
extern trace::Stream *g_stream;

inline void note_allocation(bool zeroed, const void *p, size_t size) {
  if (g_stream == nullptr || p == nullptr) return;
  Locked locked(g_stream->lock());
  g_stream->note_allocation(0, zeroed, p, size);
}
inline void note_free(const void *p) {
  if (g_stream == nullptr || p == nullptr) return;
  Locked locked(g_stream->lock());
  g_stream->note_free(p);
}

}  // namespace ace::shim
