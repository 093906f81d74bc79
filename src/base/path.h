// Which way an operation went: through the hot code alone, or also through warm or cold code. Only the library
// libace-counting.so, which bench/micro asks for these numbers, is built to count; elsewhere nothing is left of
// an OnPath but its name.
#pragma once
#ifdef ACE_COUNT_PATHS
#include <atomic>
#include <cstdint>
#endif

namespace ace {

enum class Path : unsigned char {
  kHot,
  kWarm,  // an allocation list is filled, or a block goes back to the bitmap
  kCold   // the rest: other sizes, resizing, other heaps' blocks, system calls
};

#ifdef ACE_COUNT_PATHS

// Operations that left the hot path, of all threads. Those inside another one count as part of it.
inline std::atomic<uint64_t> g_warm_operations, g_cold_operations;

// Stands in a function that an operation comes to. When the outermost one ends the operation is over, and
// counted once, by the coldest path that it came to.
class OnPath {
 public:
  explicit OnPath(Path path) {
    ++t_depth;
    if (path > t_coldest) t_coldest = path;
  }
  OnPath(const OnPath &) = delete;
  OnPath &operator=(const OnPath &) = delete;
  ~OnPath() {
    if (--t_depth != 0) return;
    (t_coldest == Path::kWarm ? g_warm_operations : g_cold_operations).fetch_add(1, std::memory_order_relaxed);
    t_coldest = Path::kHot;
  }

  // A system call makes the operation that it is part of a cold one, and is none itself.
  static void note_system_call() {
    if (t_depth != 0) t_coldest = Path::kCold;
  }

 private:
  static inline thread_local unsigned t_depth;
  static inline thread_local Path t_coldest;
};

#else

struct [[maybe_unused]] OnPath {
  constexpr explicit OnPath(Path) {}
  static constexpr void note_system_call() {}
};

#endif

}  // namespace ace
