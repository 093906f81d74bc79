// The malloc family. What most calls execute is the first function of each pair: the thread has a heap, and the
// heap's own functions do the rest. The second one makes the heap, serves early callers and those whose thread
// is ending, and notes what is recorded.
//
// As glibc's where the standards leave a choice: realloc to 0 frees; memalign rounds its alignment up to a
// power of two; every block is aligned to 16 bytes.
#include <errno.h>
#include <malloc.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <bit>

#include "front/cold.h"
#include "front/hot.h"
#include "heap/purge.h"
#include "heap/superslab_pool.h"
#include "shim/outside.h"
#include "shim/start.h"

using namespace ace;
using namespace ace::shim;

namespace {

[[gnu::noinline, gnu::cold]] void *no_memory() {
  errno = ENOMEM;
  return nullptr;
}

// Gives back all that the heap holds for nothing: what it has mapped may be what the system refuses.
[[gnu::noinline, gnu::cold]] bool make_room(Heap &heap, size_t size) {
  if (size > kRequestMax) return false;
  trim_heap(heap, SIZE_MAX);
  trim_abandoned_heaps();
  unmap_kept_superslabs();
  return true;
}

// A block of `size` bytes, by `attempt(heap)`; noted where the run is recorded. Where the thread has no heap,
// it may be too early for one.
template <typename Attempt>
inline void *allocate_by(Attempt attempt, bool zeroed, size_t alignment, size_t size) {
  Heap *heap = own_heap();
  void *p = nullptr;
  if (heap != nullptr) {
    p = attempt(*heap);
    if (p == nullptr && make_room(*heap, size)) p = attempt(*heap);
    note_allocation(zeroed, p, size);
  } else if (is_early()) {
    p = allocate_early(alignment, size);
    if (zeroed && p != nullptr) memset(p, 0, size);  // another early block may have been here
  }
  return p != nullptr ? p : no_memory();
}

[[gnu::noinline]] void *allocate_slowly(size_t size) {
  return allocate_by([=](Heap &heap) { return allocate(heap, size, 0); }, false, kGranule, size);
}

// Apart, so that malloc itself needs no stack.
[[gnu::noinline]] void *allocate_otherwise(Heap &heap, size_t size) {
  void *p = allocate(heap, size, 0);
  return p != nullptr ? p : allocate_slowly(size);
}

[[gnu::noinline]] void *allocate_zeroed_slowly(size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return no_memory();
  return allocate_by([=](Heap &heap) { return allocate_zeroed(heap, 1, bytes, 0); }, true, kGranule, bytes);
}

// `alignment` is a power of two.
[[gnu::noinline]] void *allocate_aligned_slowly(size_t alignment, size_t size) {
  const auto attempt = [=](Heap &heap) {
    return alignment > ACE_ALIGNMENT_MAX ? allocate_far_aligned(alignment, size)
                                         : allocate_aligned(heap, alignment, size, 0);
  };
  return allocate_by(attempt, false, alignment, size);
}

void *allocate_aligned_for(size_t alignment, size_t size) {
  if (Heap *heap = t_heap; heap != nullptr && alignment <= ACE_ALIGNMENT_MAX) {
    if (void *p = allocate_aligned(*heap, alignment, size, 0); p != nullptr) [[likely]]
      return p;
  }
  return allocate_aligned_slowly(alignment, size);
}

// Any pointer, of any thread's heap, or of none.
[[gnu::noinline]] void free_slowly(void *p) {
  note_free(p);
  if (Heap *heap = known_thread_heap(); heap != nullptr) return free_outside_window_or(*heap, p, free_outside);
  if (p == nullptr) return;
  if (is_ours(p)) {
    // Who only frees sends in batches from some frees on, as who allocates does. Not at once, and no thread
    // that has had a heap: one that is ending would leave it behind.
    if (++t_frees_without_heap == kFreesBeforeHeap) {
      if (Heap *heap = own_heap(); heap != nullptr) return free_outside_window_or(*heap, p, free_outside);
    }
    if (free_into_others_slab(nullptr, p)) return;
  }
  if (is_foreign(p)) return free_outside(p);
  free_outside_window(nullptr, p);
}

// A block outside all heaps moves into one.
[[gnu::noinline]] void *reallocate_outside(void *p, size_t size) {
  const size_t usable = usable_outside(p);
  if (usable == 0) {  // none of ours: what it holds cannot be known
    report_interior("realloc", p);
    return no_memory();
  }
  void *moved = malloc(size);
  if (moved == nullptr) return nullptr;
  memcpy(moved, p, std::min(size, usable));
  note_free(p);
  free_outside(p);
  return moved;
}

// As a free and an allocation where that is recorded: another thread may be given the old block before it could
// be said that it has moved.
[[gnu::noinline]] void *reallocate_slowly(void *p, size_t size) {
  if (p == nullptr) return malloc(size);
  Heap *heap = own_heap();
  if (heap == nullptr) return no_memory();  // the block is a heap's, and its thread could not have another one
  if (!is_live(p)) {
    reallocate(*heap, p, size, 0);  // reports it
    return no_memory();
  }
  const size_t before = usable_size(p);
  note_free(p);
  void *moved = reallocate(*heap, p, size, 0);
  if (moved == nullptr && make_room(*heap, size)) moved = reallocate(*heap, p, size, 0);
  note_allocation(false, moved != nullptr ? moved : p, moved != nullptr ? size : before);
  return moved != nullptr ? moved : no_memory();
}

size_t page_size() { return static_cast<size_t>(getpagesize()); }

}  // namespace

#define ACE_ALSO(name) __attribute__((visibility("default"), alias(#name)))

extern "C" {

ACE_API void *malloc(size_t size) noexcept {
  if (Heap *heap = t_heap; heap != nullptr) [[likely]] {
    if (void *p = allocate_at_once(*heap, size); p != nullptr) [[likely]]
      return p;
    return allocate_otherwise(*heap, size);
  }
  return allocate_slowly(size);
}

ACE_API void free(void *p) noexcept {
  if (Heap *heap = t_heap; heap != nullptr) [[likely]] {
    if (push_by_address(*heap, p)) [[likely]]
      return;
    return free_outside_window_or(*heap, p, free_outside);
  }
  free_slowly(p);
}

ACE_API void *calloc(size_t count, size_t size) noexcept {
  if (Heap *heap = t_heap; heap != nullptr) [[likely]] {
    if (void *p = allocate_zeroed(*heap, count, size, 0); p != nullptr) [[likely]]
      return p;
  }
  return allocate_zeroed_slowly(count, size);
}

ACE_API void *realloc(void *p, size_t size) noexcept {
  if (p != nullptr && size == 0) {
    free(p);
    return nullptr;
  }
  if (p != nullptr && is_foreign(p)) [[unlikely]]
    return reallocate_outside(p, size);
  if (Heap *heap = t_heap; heap != nullptr) [[likely]] {
    if (void *moved = reallocate(*heap, p, size, 0); moved != nullptr) [[likely]]
      return moved;
    if (p != nullptr && !is_live(p)) return no_memory();  // a misuse, and reported: no lack of memory
  }
  return reallocate_slowly(p, size);
}

ACE_API void *reallocarray(void *p, size_t count, size_t size) noexcept {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return no_memory();
  return realloc(p, bytes);
}

ACE_API void *memalign(size_t alignment, size_t size) noexcept {
  if (alignment > kRequestMax) {
    errno = EINVAL;
    return nullptr;
  }
  return allocate_aligned_for(std::bit_ceil(alignment), size);
}

ACE_API void *aligned_alloc(size_t alignment, size_t size) noexcept {
  if (!is_power_of_two(alignment)) {
    errno = EINVAL;
    return nullptr;
  }
  return allocate_aligned_for(alignment, size);
}

// Says by its value what went wrong, and leaves errno and *result alone.
ACE_API int posix_memalign(void **result, size_t alignment, size_t size) noexcept {
  if (!is_power_of_two(alignment) || alignment % sizeof(void *) != 0) return EINVAL;
  const int error = errno;
  void *p = allocate_aligned_for(alignment, size);
  errno = error;
  if (p == nullptr) return ENOMEM;
  *result = p;
  return 0;
}

ACE_API void *valloc(size_t size) noexcept { return allocate_aligned_for(page_size(), size); }

ACE_API void *pvalloc(size_t size) noexcept {
  const size_t page = page_size();
  if (size > kRequestMax) return no_memory();
  return allocate_aligned_for(page, round_up(std::max(size, size_t{1}), page));
}

ACE_API size_t malloc_usable_size(void *p) noexcept {
  if (p != nullptr && is_foreign(p)) [[unlikely]]
    return usable_outside(p);
  return usable_size(p);
}

// Gone from the headers; programs that were linked long ago still ask for it.
ACE_ALSO(free) void cfree(void *p) noexcept;

ACE_ALSO(malloc) void *__libc_malloc(size_t size) noexcept;
ACE_ALSO(calloc) void *__libc_calloc(size_t count, size_t size) noexcept;
ACE_ALSO(realloc) void *__libc_realloc(void *p, size_t size) noexcept;
ACE_ALSO(free) void __libc_free(void *p) noexcept;
ACE_ALSO(memalign) void *__libc_memalign(size_t alignment, size_t size) noexcept;
ACE_ALSO(valloc) void *__libc_valloc(size_t size) noexcept;
ACE_ALSO(pvalloc) void *__libc_pvalloc(size_t size) noexcept;
ACE_ALSO(posix_memalign) int __posix_memalign(void **result, size_t alignment, size_t size) noexcept;

}  // extern "C"
