// How the mallocs that we compare with are told to give their free memory back, each by the function it has for
// that: so a peer can be told at the same moments as ACE.
#pragma once
#include <dlfcn.h>
#include <stddef.h>

namespace ace::replay {

struct MallocPurge {
  const char *name;
  void (*run)(void *function);
};

// Not only what is in the arenas: also what this thread keeps for itself.
inline void purge_jemalloc(void *function) {
  auto mallctl = reinterpret_cast<int (*)(const char *, void *, size_t *, void *, size_t)>(function);
  mallctl("thread.tcache.flush", nullptr, nullptr, nullptr, 0);
  mallctl("arena.4096.purge", nullptr, nullptr, nullptr, 0);  // 4096: MALLCTL_ARENAS_ALL
}
inline void purge_mimalloc(void *function) { reinterpret_cast<void (*)(bool)>(function)(true); }
inline void purge_tcmalloc(void *function) { reinterpret_cast<void (*)()>(function)(); }
inline void purge_glibc(void *function) { reinterpret_cast<int (*)(size_t)>(function)(0); }

// In this order: some peers have a malloc_trim that does nothing.
inline constexpr MallocPurge kMallocPurges[] = {{"mi_collect", purge_mimalloc},
                                                {"mallctl", purge_jemalloc},
                                                {"MallocExtension_ReleaseFreeMemory", purge_tcmalloc},
                                                {"malloc_trim", purge_glibc}};

// That of the process's malloc and its function; nullptr where it has none.
inline const MallocPurge *find_malloc_purge(void *&function) {
  for (const MallocPurge &purge : kMallocPurges) {
    function = dlsym(RTLD_DEFAULT, purge.name);
    if (function != nullptr) return &purge;
  }
  return nullptr;
}

}  // namespace ace::replay
