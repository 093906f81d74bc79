// The calling thread's heap, in C.
#include "ace/ace.h"
#include "api/thread_heap.h"
#include "front/cold.h"
#include "front/hot.h"

using namespace ace;

namespace {

// Any thread but the first.
[[gnu::noinline]] void *allocate_in_thread(size_t size) {
  Heap *heap = thread_heap();
  return heap == nullptr ? nullptr : allocate(*heap, size, 0);
}

// A thread that never allocated, or whose heap has been left behind, frees by the remote queue.
[[gnu::noinline]] void free_in_thread(void *p) {
  if (Heap *heap = t_heap; heap != nullptr) return free_block(*heap, p);
  free_outside_window(nullptr, p);
}

[[gnu::noinline]] void free_sized_in_thread(void *p, size_t size) {
  if (Heap *heap = t_heap; heap != nullptr) return free_sized(*heap, p, size);
  free_sized_outside_window(nullptr, p, size);
}

}  // namespace

extern "C" {

ace_heap *ace_thread_heap(void) noexcept { return static_cast<ace_heap *>(thread_heap()); }

void *ace_alloc(size_t size) noexcept {
  if (is_first_thread()) [[likely]]
    return allocate(*g_first_thread.heap, size, 0);
  return allocate_in_thread(size);
}

void *ace_calloc(size_t count, size_t size) noexcept {
  Heap *heap = thread_heap();
  return heap == nullptr ? nullptr : allocate_zeroed(*heap, count, size, 0);
}

void *ace_realloc(void *p, size_t size) noexcept {
  Heap *heap = thread_heap();
  return heap == nullptr ? nullptr : reallocate(*heap, p, size, 0);
}

void *ace_aligned_alloc(size_t alignment, size_t size) noexcept {
  Heap *heap = thread_heap();
  return heap == nullptr ? nullptr : allocate_aligned(*heap, alignment, size, 0);
}

void ace_free(void *p) noexcept {
  if (is_first_thread()) [[likely]]
    return free_block(*g_first_thread.heap, p);
  free_in_thread(p);
}

void ace_free_sized(void *p, size_t size) noexcept {
  if (is_first_thread()) [[likely]]
    return free_sized(*g_first_thread.heap, p, size);
  free_sized_in_thread(p, size);
}

size_t ace_usable_size(const void *p) noexcept { return usable_size(p); }

size_t ace_good_size(size_t size) noexcept { return good_size(size); }

}  // extern "C"
