// Recording: stands in front of the domains that were taken over, and tells the trace of each call.
#include "preload/hosts.h"
#include "python/hook/cpython.h"
#include "python/hook/hook.h"
#include "trace/recorder.h"

namespace ace::python {
namespace {

// mem and obj: under the GIL. `kShared`: where interpreters may have a GIL each, and for raw, which any thread
// may call.
template <Domain kDomain, bool kShared>
struct Recorded {
  static inline ace_py_allocator inner;
  static inline trace::Stream *stream;
  static constexpr unsigned kKind = kDomain == kObj ? 1 : 0;

  // Never held around the domain's own call, within which a lock may be waited for that a hint is told under.
  class Turn {
   public:
    Turn() {
      if (kShared) stream->lock().lock();
    }
    ~Turn() {
      if (kShared) stream->lock().unlock();
    }
    Turn(const Turn &) = delete;
    Turn &operator=(const Turn &) = delete;
  };

  static void note(bool zeroed, const void *p, size_t size) {
    if (p == nullptr) return;
    Turn turn;
    stream->note_allocation(kKind, zeroed, p, size);
  }

  static void *allocate(void *, size_t size) {
    void *p = inner.allocate(inner.context, size);
    note(false, p, size);
    return p;
  }

  static void *allocate_zeroed(void *, size_t count, size_t size) {
    void *p = inner.allocate_zeroed(inner.context, count, size);
    note(true, p, count * size);
    return p;
  }

  static void *reallocate(void *, void *p, size_t size) {
    // Another thread may be given the old block before this one could say that it has moved: there it counts as
    // freed, and what it moves to as new. Of mem and obj only who holds the heap could be.
    constexpr bool kMayBeReused = kDomain == kRaw;
    size_t before = size;
    if (kMayBeReused && p != nullptr) {
      if (ace_owner_of(p) != nullptr) before = ace_usable_size(p);
      Turn turn;
      stream->note_free(p);
    }
    void *moved = inner.reallocate(inner.context, p, size);
    if (kMayBeReused || p == nullptr) {
      note(false, moved != nullptr ? moved : p, moved != nullptr ? size : before);
    } else if (moved != nullptr) {
      Turn turn;
      stream->note_realloc(p, moved, size);
    }
    return moved;
  }

  static void release(void *, void *p) {
    if (p != nullptr) {
      Turn turn;
      stream->note_free(p);
    }
    inner.release(inner.context, p);
  }

  static void stand_before(trace::Stream *of_heap) {
    stream = of_heap;
    PyMem_GetAllocator(kDomain, &inner);
    ace_py_allocator ours{nullptr, allocate, allocate_zeroed, reallocate, release};
    PyMem_SetAllocator(kDomain, &ours);
  }
};

template <bool kShared>
void record_vm(trace::Stream *stream, unsigned domains) {
  if (domains & 1u << kMem) Recorded<kMem, kShared>::stand_before(stream);
  if (domains & 1u << kObj) Recorded<kObj, kShared>::stand_before(stream);
}

}  // namespace

void record_cpython(const char *host) {
  const Standing s = standing();
  const bool may_share = found().minor >= 12;
  const auto domains = static_cast<unsigned>(ace_option_number("domains"));
  trace::Stream *vm = s.vm_heap == nullptr ? nullptr : trace::open_stream(host, s.vm_heap, may_share);
  if (vm != nullptr) (may_share ? record_vm<true> : record_vm<false>)(vm, domains);
  trace::Stream *raw = s.raw_heap == nullptr ? nullptr : trace::open_stream(host, s.raw_heap, true);
  if (raw != nullptr) Recorded<kRaw, true>::stand_before(raw);
}

}  // namespace ace::python
