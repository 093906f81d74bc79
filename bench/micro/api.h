// The shapes of the interfaces that are compared. Each member is one plain indirect call.
#pragma once
#include <stddef.h>

#include <cstdint>

namespace micro {

#define MICRO_INLINE [[gnu::always_inline]] inline

struct PlainApi {
  void *(*alloc_)(size_t);
  void (*free_)(void *);
  void *(*realloc_)(void *, size_t);
  void *(*aligned_)(size_t alignment, size_t size);

  MICRO_INLINE void *allocate(size_t size) const { return alloc_(size); }
  MICRO_INLINE void release(void *p, size_t) const { free_(p); }
  MICRO_INLINE void *resize(void *p, size_t size) const { return realloc_(p, size); }
  MICRO_INLINE void *allocate_aligned(size_t alignment, size_t size) const { return aligned_(alignment, size); }
};

// ace_heap_...; the last argument of resize and allocate_aligned is the kind of object.
struct AceHeapBase {
  void *heap;
  void *(*alloc_)(void *heap, size_t);
  void *(*realloc_)(void *heap, void *, size_t, unsigned);
  void *(*aligned_)(void *heap, size_t alignment, size_t size, unsigned);

  MICRO_INLINE void *allocate(size_t size) const { return alloc_(heap, size); }
  MICRO_INLINE void *resize(void *p, size_t size) const { return realloc_(heap, p, size, 0); }
  MICRO_INLINE void *allocate_aligned(size_t alignment, size_t size) const {
    return aligned_(heap, alignment, size, 0);
  }
};

struct AceHeapApi : AceHeapBase {
  void (*free_)(void *heap, void *);
  MICRO_INLINE void release(void *p, size_t) const { free_(heap, p); }
};

struct AceHeapSizedApi : AceHeapBase {
  void (*free_)(void *heap, void *, size_t);
  MICRO_INLINE void release(void *p, size_t size) const { free_(heap, p, size); }
};

// mi_heap_... or mi_theap_...; a free names no heap.
struct MimallocHeapApi {
  void *heap;
  void *(*alloc_)(void *heap, size_t);
  void (*free_)(void *);
  void *(*realloc_)(void *heap, void *, size_t);
  void *(*aligned_)(void *heap, size_t size, size_t alignment);

  MICRO_INLINE void *allocate(size_t size) const { return alloc_(heap, size); }
  MICRO_INLINE void release(void *p, size_t) const { free_(p); }
  MICRO_INLINE void *resize(void *p, size_t size) const { return realloc_(heap, p, size); }
  MICRO_INLINE void *allocate_aligned(size_t alignment, size_t size) const {
    return aligned_(heap, size, alignment);
  }
};

}  // namespace micro
