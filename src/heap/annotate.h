// Tells the tools that watch a program's memory what of it is the program's: memcheck of Valgrind and
// AddressSanitizer. In hardened heaps each live block's bytes are, as many as were asked for, and nothing else
// is: not the padding and seal behind them, no free block, no memory that was never handed out. Plain heaps
// tell nothing, since their lists run through the free blocks.
//
// Everywhere else the allocator opens what it reads or writes of a hardened heap's blocks, and closes it behind
// itself, within an OpenMemory. Heap::is_watched says whether a tool is there; where neither is built in it is
// false for the compiler already, and nothing of this is left.
#pragma once
#include <pthread.h>

#include "heap/heap.h"

#if defined ACE_VALGRIND
#include <valgrind/memcheck.h>
#endif

#if defined __has_feature
#if __has_feature(address_sanitizer)
#define ACE_ASAN 1
#endif
#elif defined __SANITIZE_ADDRESS__
#define ACE_ASAN 1
#endif
#if defined ACE_ASAN
#pragma GCC visibility push(default)  // in one file with all the rest these would be hidden
#include <sanitizer/asan_interface.h>
#pragma GCC visibility pop
#endif

namespace ace {

#if defined ACE_VALGRIND || defined ACE_ASAN
inline constexpr bool kCanBeWatched = true;
#else
inline constexpr bool kCanBeWatched = false;
#endif

// Does memcheck run this process? Other tools of Valgrind do not care, and shall see what runs without them.
inline bool runs_in_memcheck() {
#if defined ACE_VALGRIND
  static char any;
  return VALGRIND_MAKE_MEM_DEFINED(&any, 1) != 0;
#else
  return false;
#endif
}

// Does a tool watch the heaps of this process?
inline bool has_watcher() {
#if defined ACE_ASAN
  return true;
#else
  return runs_in_memcheck();
#endif
}

inline bool is_watched(const Heap &heap) { return kCanBeWatched && heap.is_watched; }

// While one thread has opened something that is not the program's no other does: it could close it again.
class OpenMemory {
 public:
  explicit OpenMemory(const Heap &heap) : locked_(is_watched(heap)) {
    if (locked_) pthread_mutex_lock(&lock_);
  }
  ~OpenMemory() {
    if (locked_) pthread_mutex_unlock(&lock_);
  }
  OpenMemory(const OpenMemory &) = delete;
  OpenMemory &operator=(const OpenMemory &) = delete;
  static void reset_in_child() { lock_ = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP; }

 private:
  // A misuse that is found meanwhile is reported, and for that its seal is read.
  inline static pthread_mutex_t lock_ = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
  const bool locked_;
};

// [start, start + size) may be read and written, and holds something: the allocator's to use.
inline void open_memory([[maybe_unused]] const void *start, [[maybe_unused]] size_t size) {
#if defined ACE_ASAN
  __asan_unpoison_memory_region(start, size);
#endif
#if defined ACE_VALGRIND
  (void)VALGRIND_MAKE_MEM_DEFINED(start, size);
#endif
}

// It is nobody's.
inline void close_memory([[maybe_unused]] const void *start, [[maybe_unused]] size_t size) {
#if defined ACE_ASAN
  __asan_poison_memory_region(start, size);
#endif
#if defined ACE_VALGRIND
  (void)VALGRIND_MAKE_MEM_NOACCESS(start, size);
#endif
}

// It is no longer ours, or about to be unmapped. AddressSanitizer would take what is mapped there next for
// nobody's.
inline void forget_memory([[maybe_unused]] const void *start, [[maybe_unused]] size_t size) {
#if defined ACE_ASAN
  __asan_unpoison_memory_region(start, size);
#endif
}

// The first `size` of the `gross` bytes of an open block are the program's, and hold nothing it could use.
inline void tell_issued([[maybe_unused]] const Heap &heap, void *block, size_t size, size_t gross) {
  close_memory(static_cast<std::byte *>(block) + size, gross - size);
#if defined ACE_VALGRIND
  VALGRIND_MEMPOOL_ALLOC(&heap, block, size);
#endif
}

// A block that the program frees. Valgrind says by itself where it is none. It is open afterwards.
inline void tell_freed([[maybe_unused]] const Heap &heap, void *block, size_t gross) {
#if defined ACE_VALGRIND
  VALGRIND_MEMPOOL_FREE(&heap, block);
#endif
  open_memory(block, gross);
}

// A block of `old_size` bytes at `old_block` has become one of `size` in `gross` bytes at `block`, where the
// pages of the old one lie now. What lies between the end of the smaller size and `gross` is open.
inline void tell_resized([[maybe_unused]] const Heap &heap, [[maybe_unused]] void *old_block, void *block,
                         [[maybe_unused]] size_t old_size, size_t size, size_t gross) {
  close_memory(static_cast<std::byte *>(block) + size, gross - size);
#if defined ACE_VALGRIND
  VALGRIND_MEMPOOL_CHANGE(&heap, old_block, block, size);
  if (size > old_size)
    (void)VALGRIND_MAKE_MEM_UNDEFINED(static_cast<std::byte *>(block) + old_size, size - old_size);
#endif
}

// `behind`: bytes behind each block that are no other's, so that an access there is told as one beyond the
// block.
inline void tell_heap_begins([[maybe_unused]] const Heap &heap, [[maybe_unused]] unsigned behind) {
#if defined ACE_VALGRIND
  VALGRIND_CREATE_MEMPOOL(&heap, behind, 0);
  // Valgrind looks for leaks in pools only where there is a block of malloc's as well: let there be one.
  static char block;
  static std::atomic<char *> reachable{nullptr};
  if (reachable.exchange(&block, std::memory_order_relaxed) == nullptr)
    VALGRIND_MALLOCLIKE_BLOCK(&block, 1, 0, 1);
#endif
}

// All its blocks end.
inline void tell_heap_ends([[maybe_unused]] const Heap &heap) {
#if defined ACE_VALGRIND
  VALGRIND_DESTROY_MEMPOOL(&heap);
#endif
}

}  // namespace ace
