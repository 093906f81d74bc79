// CPython's allocator domains on ACE.
//
// mem and obj are called under the GIL: they share one heap that needs no lock. raw comes from any thread,
// but makes up one call in a hundred: a second heap behind a mutex is cheap enough there, keeps the blocks of
// many threads together, and can tell foreign pointers.
//
// From 3.12 on an interpreter may have a GIL of its own, and then calls to mem and obj overlap: from the moment
// that a second interpreter is made each has a heap of its own (interpreters.cpp). That moment is known: its
// state, far above 64 KiB, is a single element asked of PyMem_RawCalloc, by a thread that holds a GIL; as there
// was only one GIL until then, nobody is inside the heap. Some other request that looks like it costs speed,
// nothing else.
//
// Pointers that are none of ours go to the allocator that was there before us.
#include <pthread.h>

#include <atomic>

#include "python/hook/census.h"
#include "python/hook/cpython.h"
#include "python/hook/hook.h"

namespace ace::python {
namespace {

constexpr size_t kInterpreterStateMin = size_t{64} << 10;  // 195 KB in 3.13, 384 KB in 3.12

ace_py_allocator g_original[kDomains];

// The heap of mem and obj, and the same for each of them while nothing but allocation has to be done: null from
// the moment that there may be several GILs, and for one of them until the collector is attached. That is mem
// where both are taken: a call in ten, which is soon enough. Written under the only GIL.
ace_heap *g_vm_heap;
ace_heap *g_straight[kDomains];
std::atomic<bool> g_many_gils;  // read without one, too
bool g_vm_used;                 // after CPython's initialisation

// Where there are many GILs, for the few calls of threads that run no interpreter. Made when first needed.
ace_heap *g_stray_heap;
pthread_mutex_t g_stray_lock = PTHREAD_MUTEX_INITIALIZER;

// Guarded by g_raw_lock.
ace_heap *g_raw_heap;
bool g_raw_used;
pthread_mutex_t g_raw_lock = PTHREAD_MUTEX_INITIALIZER;

bool has_many_gils() { return g_many_gils.load(std::memory_order_relaxed); }

class Locked {
 public:
  explicit Locked(pthread_mutex_t &mutex, bool needed = true) : mutex_(needed ? &mutex : nullptr) {
    if (mutex_ != nullptr) pthread_mutex_lock(mutex_);
  }
  ~Locked() {
    if (mutex_ != nullptr) pthread_mutex_unlock(mutex_);
  }
  Locked(const Locked &) = delete;
  Locked &operator=(const Locked &) = delete;

 private:
  pthread_mutex_t *mutex_;
};

// ---- mem and obj

// The heap that the calling thread may use, and what makes it the holder where the GIL does not. A heap of
// nullptr has no memory.
class Holder {
 public:
  Holder()
      : heap_(has_many_gils() ? heap_of_this_interpreter(g_vm_heap) : g_vm_heap),
        locked_(g_stray_lock, heap_ == nullptr) {
    if (heap_ == nullptr) {
      if (g_stray_heap == nullptr) g_stray_heap = make_interpreter_heap();
      heap_ = g_stray_heap;
    }
    if (!g_vm_used) g_vm_used = ask_to_attach();
  }
  ace_heap *heap() const { return heap_; }

 private:
  ace_heap *heap_;
  Locked locked_;
};

template <Domain kDomain, ace_kind kKind>
struct VmDomain {
  static void *allocate(void *, size_t size) {
    if (ace_heap *heap = g_straight[kDomain]; heap != nullptr) [[likely]]
      return allocate_in(heap, size);
    return allocate_slowly(size);
  }

  static void *allocate_zeroed(void *, size_t count, size_t size) {
    if (ace_heap *heap = g_straight[kDomain]; heap != nullptr) [[likely]]
      return ace_heap_calloc(heap, count, size, kKind);
    return allocate_zeroed_slowly(count, size);
  }

  static void *reallocate(void *, void *p, size_t size) {
    if (ace_heap *heap = g_straight[kDomain]; heap != nullptr) [[likely]]
      return reallocate_in(heap, p, size);
    return reallocate_slowly(p, size);
  }

  static void release(void *, void *p) {
    if (ace_heap *heap = g_straight[kDomain]; heap != nullptr) [[likely]]
      return release_in(heap, p);
    release_slowly(p);
  }

  static constexpr ace_py_allocator kAllocator{nullptr, allocate, allocate_zeroed, reallocate, release};

 private:
  static void *allocate_in(ace_heap *heap, size_t size) {
    if constexpr (kKind == 0) return ace_heap_alloc(heap, size);
    return ace_heap_alloc_kind(heap, size, kKind);
  }

  static void *reallocate_in(ace_heap *heap, void *p, size_t size) {
    void *result;
    if (ace_heap_try_realloc(heap, p, size, kKind, &result)) [[likely]]
      return result;
    const ace_py_allocator &original = g_original[kDomain];
    return original.reallocate(original.context, p, size);
  }

  static void release_in(ace_heap *heap, void *p) {
    if (ace_heap_try_free(heap, p)) [[likely]]
      return;
    const ace_py_allocator &original = g_original[kDomain];
    original.release(original.context, p);
  }

  [[gnu::noinline]] static void *allocate_slowly(size_t size) {
    Holder holder;
    return holder.heap() == nullptr ? nullptr : allocate_in(holder.heap(), size);
  }

  [[gnu::noinline]] static void *allocate_zeroed_slowly(size_t count, size_t size) {
    Holder holder;
    return holder.heap() == nullptr ? nullptr : ace_heap_calloc(holder.heap(), count, size, kKind);
  }

  [[gnu::noinline]] static void *reallocate_slowly(void *p, size_t size) {
    Holder holder;
    return holder.heap() == nullptr ? nullptr : reallocate_in(holder.heap(), p, size);
  }

  [[gnu::noinline]] static void release_slowly(void *p) {
    Holder holder;
    // Where the stray heap has no memory any heap passes the block on to its owner, if it is one of ours.
    if (holder.heap() != nullptr) return release_in(holder.heap(), p);
    if (ace_owner_of(p) != nullptr) return ace_free(p);
    g_original[kDomain].release(g_original[kDomain].context, p);
  }
};

// ---- raw

void *listen_for_interpreters(void *p, size_t count, size_t size) {
  if (count != 1 || size < kInterpreterStateMin || p == nullptr || !Py_IsInitialized()) return p;
  note_state_block(p, size);
  g_many_gils.store(true, std::memory_order_relaxed);
  g_straight[kMem] = g_straight[kObj] = nullptr;
  return p;
}

void note_raw_use() {
  if (!g_raw_used) g_raw_used = Py_IsInitialized();
}

// CPython puts its own raw allocator back for moments, for the whole process (_PyMem_SetDefaultAllocator). With
// one GIL nobody is there to notice; with several, another interpreter's block may be freed by it in such a
// moment. So from the second GIL on raw memory comes from the original. What is older and freed just then is
// still at risk. Is `p` the original's, or null, and to come from there?
bool is_original(const void *p) {
  if (!has_many_gils()) return false;
  return p == nullptr || (!ace_heap_owns(g_raw_heap, p) && ace_owner_of(p) == nullptr);
}

void *raw_allocate(void *, size_t size) {
  if (has_many_gils()) [[unlikely]]
    return g_original[kRaw].allocate(g_original[kRaw].context, size);
  Locked locked(g_raw_lock);
  note_raw_use();
  return ace_heap_alloc(g_raw_heap, size);
}

void *raw_allocate_zeroed(void *, size_t count, size_t size) {
  if (has_many_gils()) [[unlikely]]
    return g_original[kRaw].allocate_zeroed(g_original[kRaw].context, count, size);
  Locked locked(g_raw_lock);
  note_raw_use();
  return ace_heap_calloc(g_raw_heap, count, size, 0);
}

void *raw_reallocate(void *, void *p, size_t size) {
  if (!is_original(p)) {
    Locked locked(g_raw_lock);
    void *result;
    if (ace_heap_try_realloc(g_raw_heap, p, size, 0, &result)) [[likely]]
      return result;
  }
  return g_original[kRaw].reallocate(g_original[kRaw].context, p, size);
}

void raw_release(void *, void *p) {
  if (has_many_gils() && p != nullptr) end_interpreter(p);
  if (!is_original(p)) {
    Locked locked(g_raw_lock);
    if (ace_heap_try_free(g_raw_heap, p)) [[likely]]
      return;
  }
  g_original[kRaw].release(g_original[kRaw].context, p);
}

// The same calls where interpreters with a GIL of their own have to be noticed.
void *listening_raw_allocate_zeroed(void *context, size_t count, size_t size) {
  return listen_for_interpreters(raw_allocate_zeroed(context, count, size), count, size);
}

void *listening_original_allocate_zeroed(void *context, size_t count, size_t size) {
  return listen_for_interpreters(g_original[kRaw].allocate_zeroed(context, count, size), count, size);
}
void listening_original_release(void *context, void *p) {
  if (has_many_gils() && p != nullptr) end_interpreter(p);
  g_original[kRaw].release(context, p);
}

// ---- installation

Plan g_plan;

ace_heap *make_heap(const char *name, unsigned kind_groups, size_t limit, Reserve *reserve) {
  ace_heap_config config{};
  config.struct_size = sizeof config;
  config.name = name;
  config.kind_groups = kind_groups;
  config.limit = limit;
  config.on_limit = near_limit;
  config.on_limit_context = reserve;
  return ace_heap_create(&config);
}

void set(Domain domain, const ace_py_allocator &allocator) {
  ace_py_allocator copy = allocator;
  PyMem_SetAllocator(domain, &copy);
}

void set_all() {
  g_straight[kMem] = nullptr;
  g_straight[kObj] = g_plan.domains & 1u << kMem && !has_many_gils() ? g_vm_heap : nullptr;
  const bool takes_raw = g_raw_heap != nullptr, takes_vm = g_vm_heap != nullptr;
  const bool listens = takes_vm && g_plan.own_gils;
  if (takes_raw) {
    set(kRaw, {nullptr, raw_allocate, listens ? listening_raw_allocate_zeroed : raw_allocate_zeroed,
               raw_reallocate, raw_release});
  } else if (listens) {
    ace_py_allocator listening = g_original[kRaw];
    listening.allocate_zeroed = listening_original_allocate_zeroed;
    listening.release = listening_original_release;
    set(kRaw, listening);
  }
  if (g_plan.domains & 1u << kMem) set(kMem, VmDomain<kMem, 0>::kAllocator);
  if (g_plan.domains & 1u << kObj) {
    set(kObj, g_plan.segregate ? VmDomain<kObj, 1>::kAllocator : VmDomain<kObj, 0>::kAllocator);
  }
}

}  // namespace

bool install(const Plan &plan) {
  const bool takes_raw = plan.domains & 1u << kRaw, takes_mem = plan.domains & 1u << kMem,
             takes_obj = plan.domains & 1u << kObj, takes_vm = takes_mem || takes_obj;
  if (takes_vm) g_vm_heap = make_heap("python", plan.segregate ? 2 : 1, 0, main_reserve());
  if (takes_raw) g_raw_heap = make_heap("python raw", 1, 0, main_reserve());
  if ((takes_vm && g_vm_heap == nullptr) || (takes_raw && g_raw_heap == nullptr)) {
    ace_heap_destroy(g_vm_heap);
    ace_heap_destroy(g_raw_heap);
    g_vm_heap = g_raw_heap = nullptr;
    return false;
  }
  watch_forks_of_python();
  for (int domain = kRaw; domain < kDomains; ++domain) PyMem_GetAllocator(domain, &g_original[domain]);
  g_many_gils.store(plan.assume_many_gils, std::memory_order_relaxed);
  g_plan = plan;
  begin_limit(takes_vm ? g_vm_heap : g_raw_heap, plan.limit);
  set_all();
  return true;
}

void install_again() {
  forget_program();
  forget_limits();
  g_vm_used = g_raw_used = false;
  ask_to_attach_anew();
  set_all();
}

void go_straight() {
  g_vm_used = true;
  if (!has_many_gils()) g_straight[kMem] = g_straight[kObj] = g_vm_heap;
}

void hint(ace_hint_code code, uint64_t value, bool also_raw) {
  if (g_vm_heap != nullptr) {
    ace_hint(g_vm_heap, code, value);
    if (code == ACE_HINT_COLLECT_END) arm_limit_after_collection();
  }
  // The collector frees next to nothing in raw, but a full collection is a good moment to give back memory.
  if (also_raw && code != ACE_HINT_COLLECTED) hint_raw(code, value);
}

void hint_raw(ace_hint_code code, uint64_t value) {
  if (g_raw_heap == nullptr) return;
  Locked locked(g_raw_lock);
  ace_hint(g_raw_heap, code, value);
}

size_t trim() {
  size_t returned = 0;
  if (g_vm_heap != nullptr) returned += ace_trim(g_vm_heap, SIZE_MAX);
  if (g_raw_heap != nullptr) {
    Locked locked(g_raw_lock);
    returned += ace_trim(g_raw_heap, SIZE_MAX);
  }
  return returned;
}

const char *read_stats(Domain domain, ace_stats &stats) {
  ace_heap *heap = domain == kRaw ? g_raw_heap : g_vm_heap;
  if (heap == nullptr) return nullptr;
  Locked locked(g_raw_lock, domain == kRaw);
  ace_heap_stats(heap, &stats, sizeof stats);
  if (stats.limit_bytes != 0) stats.limit_bytes = present_limit();
  return ace_heap_name(heap);
}

bool step_census(Census &census) {
  if (!census.is_raw()) {
    if (g_vm_heap != nullptr && census.step(g_vm_heap)) return true;
    census.begin_raw();
    return g_raw_heap != nullptr;
  }
  Locked locked(g_raw_lock);
  return census.step(g_raw_heap);
}

ace_heap *make_interpreter_heap() {
  Reserve *reserve = make_reserve(g_plan.limit);
  if (reserve == nullptr) return nullptr;
  ace_heap *heap = make_heap("python interpreter", g_plan.segregate ? 2 : 1, g_plan.limit, reserve);
  // Nobody tells of its collections. That there are hints at all says that a worker may look at it.
  if (heap != nullptr) ace_hint(heap, ACE_HINT_BURST_END, 0);
  return heap;
}

void lock_domains() {
  pthread_mutex_lock(&g_stray_lock);
  pthread_mutex_lock(&g_raw_lock);
}

void unlock_domains() {
  pthread_mutex_unlock(&g_raw_lock);
  pthread_mutex_unlock(&g_stray_lock);
}

Standing standing() {
  Standing s{g_vm_heap, g_raw_heap, g_vm_used || g_raw_used, false, has_many_gils()};
  const int domain = g_original[kObj].allocate == nullptr ? kDomains : g_vm_heap != nullptr ? kObj : kRaw;
  if (s.used || domain == kDomains) return s;
  ace_py_allocator now{};
  PyMem_GetAllocator(domain, &now);
  s.replaced = now.allocate != raw_allocate && now.allocate != VmDomain<kObj, 0>::allocate &&
               now.allocate != VmDomain<kObj, 1>::allocate;
  return s;
}

bool report_heap(ace_heap *heap, int fd, const char *format) {
  if (heap == nullptr) return true;
  Locked locked(heap == g_raw_heap ? g_raw_lock : g_stray_lock);
  return ace_heap_report(heap, fd, format) == 0;
}

}  // namespace ace::python
