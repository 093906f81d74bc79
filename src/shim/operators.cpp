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

using New = void *(*)(size_t);

New find_in(const char *name) {
  void *library = name == nullptr ? nullptr : dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return nullptr;
  const auto found = reinterpret_cast<New>(dlsym(library, "_Znwm"));
  dlclose(library);
  return found == New{operator new } ? nullptr : found;  // it may be linked to this library
}

// The one that the caller would come to without this library: in the global scope, else in its own, as a plugin
// of a program in C sees a libstdc++ that the program does not. Where the call is the last step of a function,
// who called that is taken for the caller: hence the usual libstdc++ last.
New find_next(const void *caller) {
  if (void *next = dlsym(RTLD_NEXT, "_Znwm"); next != nullptr) return reinterpret_cast<New>(next);
  Dl_info info{};
  dladdr(caller, &info);
  const New next = find_in(info.dli_fname);
  return next != nullptr ? next : find_in("libstdc++.so.6");
}

[[gnu::noinline]] void *allocate_or_throw(size_t size, const void *caller) {
  if (void *p = malloc(size); p != nullptr) return p;
  const New next = find_next(caller);
  if (next == nullptr) abort();  // a program without a libstdc++ that could throw
  return next(size);
}

[[gnu::always_inline]] inline void *allocate_object(size_t size) {
  if (Heap *heap = t_heap; heap != nullptr) [[likely]] {
    if (void *p = allocate_at_once(*heap, size); p != nullptr) [[likely]]
      return p;
  }
  return allocate_or_throw(size, __builtin_return_address(0));
}

}  // namespace

ACE_API void *operator new(size_t size) { return allocate_object(size); }
ACE_API void *operator new[](size_t size) { return allocate_object(size); }
ACE_API void operator delete(void *p) noexcept { free(p); }
ACE_API void operator delete[](void *p) noexcept { free(p); }
// Programs get the size wrong, by deleting an object by its base class, and other allocators do not mind.
ACE_API void operator delete(void *p, size_t) noexcept { free(p); }
ACE_API void operator delete[](void *p, size_t) noexcept { free(p); }
