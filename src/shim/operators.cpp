// C++'s plain operators: most calls of a C++ program. libstdc++'s own would come to malloc and free as well, by
// two or three calls more; its forms with an alignment or std::nothrow still do. It is also who asks the new
// handler and throws: this library has no C++ runtime to do so.
#include <dlfcn.h>
#include <stdlib.h>

#include <new>

#include "front/hot.h"
#include "shim/start.h"

using namespace ace;

namespace {

[[gnu::noinline]] void *allocate_or_throw(size_t size) {
  if (void *p = malloc(size); p != nullptr) return p;
  const auto next = reinterpret_cast<void *(*)(size_t)>(dlsym(RTLD_NEXT, "_Znwm"));
  if (next == nullptr) abort();  // a program without a libstdc++ that could throw
  return next(size);
}

[[gnu::always_inline]] inline void *allocate_object(size_t size) {
  if (Heap *heap = t_heap; heap != nullptr) [[likely]] {
    if (void *p = allocate(*heap, size, 0); p != nullptr) [[likely]]
      return p;
  }
  return allocate_or_throw(size);
}

}  // namespace

ACE_API void *operator new(size_t size) { return allocate_object(size); }
ACE_API void *operator new[](size_t size) { return allocate_object(size); }
ACE_API void operator delete(void *p) noexcept { free(p); }
ACE_API void operator delete[](void *p) noexcept { free(p); }
// Programs get the size wrong, by deleting an object by its base class, and other allocators do not mind.
ACE_API void operator delete(void *p, size_t) noexcept { free(p); }
ACE_API void operator delete[](void *p, size_t) noexcept { free(p); }
