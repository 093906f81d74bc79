// The calling thread's heap, in C.
#include "ace/ace.h"
#include "api/thread_heap.h"
#include "front/cold.h"
#include "front/hot.h"

using namespace ace;

namespace {

inline Heap *own_heap() {
  Heap *heap = t_heap;
  return heap != nullptr ? heap : thread_heap();
}

}  // namespace

extern "C" {

ace_heap *ace_thread_heap(void) noexcept { return static_cast<ace_heap *>(own_heap()); }

void *ace_alloc(size_t size) noexcept {
  Heap *heap = own_heap();
  return heap == nullptr ? nullptr : allocate(*heap, size, 0);
}

void *ace_calloc(size_t count, size_t size) noexcept {
  Heap *heap = own_heap();
  return heap == nullptr ? nullptr : allocate_zeroed(*heap, count, size, 0);
}

void *ace_realloc(void *p, size_t size) noexcept {
  Heap *heap = own_heap();
  return heap == nullptr ? nullptr : reallocate(*heap, p, size, 0);
}

void *ace_aligned_alloc(size_t alignment, size_t size) noexcept {
  Heap *heap = own_heap();
  return heap == nullptr ? nullptr : allocate_aligned(*heap, alignment, size, 0);
}

void ace_free(void *p) noexcept {
  // A thread that never allocated, or whose heap has been left behind, frees by the remote queue.
  Heap *heap = t_heap;
  if (heap != nullptr) return free_block(*heap, p);
  free_outside_window(nullptr, p);
}

void ace_free_sized(void *p, size_t size) noexcept {
  Heap *heap = t_heap;
  if (heap != nullptr) return free_sized(*heap, p, size);
  free_sized_outside_window(nullptr, p, size);
}

size_t ace_usable_size(const void *p) noexcept { return usable_size(p); }

}  // extern "C"
