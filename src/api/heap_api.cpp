// Explicit heaps, in C.
#include "ace/ace.h"
#include "api/fork.h"
#include "api/stats_page.h"
#include "control/controller.h"
#include "control/hints.h"
#include "control/worker.h"
#include "front/cold.h"
#include "front/gate.h"
#include "front/hot.h"
#include "front/misuse.h"
#include "heap/address_map.h"
#include "heap/audit.h"
#include "heap/purge.h"
#include "heap/walk.h"
#include "trace/recorder.h"
#include "wire/options.h"

#include <string.h>

using namespace ace;

namespace {

// Where a heap was that has ended others' blocks may lie, or nothing.
bool is_there(ace_heap *heap) {
  if (!is_ours(heap)) return false;
  const Superslab *home = superslab_of(heap);
  return home->head.prefix.pool == Pool::kTiny && address_of(heap) == address_of(home->heap_area) &&
         heap->nature != Nature::kEnded;
}

}  // namespace

extern "C" {

ace_heap *ace_heap_create(const ace_heap_config *config) noexcept {
  ace_heap_config full{};
  if (config != nullptr) {
    // A caller built against an older header gives a shorter struct.
    if (config->struct_size < sizeof(size_t) || config->struct_size > sizeof full) return nullptr;
    memcpy(&full, config, config->struct_size);
  }
  if (full.kind_groups > kKindGroups || (full.flags & ~uint32_t{ACE_HEAP_NO_WORKER | ACE_HEAP_HARDENED}) != 0)
    return nullptr;
  watch_forks();
  Heap *heap = create_heap(full, false);
  serve_page();
  return static_cast<ace_heap *>(heap);
}

void ace_heap_destroy(ace_heap *heap) noexcept {
  if (heap == nullptr) return;
  if (!is_there(heap)) return report_misuse(ACE_ERROR_ENDED_HEAP, "destroy", heap, route(nullptr));
  cancel_trim(*heap);
  end_loop(*heap);
  // A small one is not worth a thread.
  constexpr uint64_t kWorthIt = uint64_t{1} << 20;
  const bool later =
      options().mode != Mode::kOff && may_defer(*heap) && heap->counters.resident_bytes() >= kWorthIt;
  destroy_heap(*heap, later);
  if (later) schedule_released();
}

void *ace_heap_alloc(ace_heap *heap, size_t size) noexcept { return allocate(*heap, size, 0); }

void *ace_heap_alloc_kind(ace_heap *heap, size_t size, ace_kind kind) noexcept {
  return allocate(*heap, size, kind_group(*heap, kind));
}

void *ace_heap_calloc(ace_heap *heap, size_t count, size_t size, ace_kind kind) noexcept {
  return allocate_zeroed(*heap, count, size, kind_group(*heap, kind));
}

void *ace_heap_aligned_alloc(ace_heap *heap, size_t alignment, size_t size, ace_kind kind) noexcept {
  return allocate_aligned(*heap, alignment, size, kind_group(*heap, kind));
}

void *ace_heap_realloc(ace_heap *heap, void *p, size_t size, ace_kind kind) noexcept {
  return reallocate(*heap, p, size, kind_group(*heap, kind));
}

void ace_heap_free(ace_heap *heap, void *p) noexcept { free_block(*heap, p); }

void ace_heap_free_sized(ace_heap *heap, void *p, size_t size) noexcept { free_sized(*heap, p, size); }

void ace_heap_free_swept(ace_heap *heap, void *p, size_t size) noexcept { free_swept(*heap, p, size); }

int ace_heap_try_free(ace_heap *heap, void *p) noexcept {
  if (push_by_address(*heap, p)) [[likely]]
    return 1;
  return try_free_outside_window(*heap, p);
}

int ace_heap_try_realloc(ace_heap *heap, void *p, size_t size, ace_kind kind, void **result) noexcept {
  if (p == nullptr || !is_foreign(p)) {
    *result = reallocate(*heap, p, size, kind_group(*heap, kind));
    return 1;
  }
  heap->counters.foreign_pointers.add_shared(1);
  return 0;
}

ace_heap *ace_owner_of(const void *p) noexcept { return static_cast<ace_heap *>(owner_at(p)); }

int ace_heap_owns(const ace_heap *heap, const void *p) noexcept {
  return p != nullptr && !is_foreign(p) && superslab_of(p)->head.prefix.owner == heap;
}

size_t ace_heap_set_limit(ace_heap *heap, size_t limit) noexcept {
  return heap->limit.exchange(limit, std::memory_order_relaxed);
}

int ace_heap_walk(ace_heap *heap, ace_visit_fn visit, void *context) noexcept {
  return walk_heap(*heap, visit, context);
}

int ace_heap_walk_next(ace_heap *heap, uintptr_t *position, ace_visit_fn visit, void *context) noexcept {
  return walk_next(*heap, position, visit, context) ? 1 : 0;
}

int ace_heap_audit(ace_heap *heap, char *message, size_t length) noexcept {
  return audit_heap(*heap, message, length) ? 0 : 1;
}

int ace_hint(ace_heap *heap, ace_hint_code hint, uint64_t value) noexcept {
  if (!take_hint(*heap, hint, value)) return -1;
  if (trace::is_recording()) [[unlikely]]
    trace::pass_hint_on(heap, hint, value);
  if (is_page_due(hint)) [[unlikely]]
    serve_page();
  return 0;
}

size_t ace_trim(ace_heap *heap, size_t budget) noexcept { return trim_heap(*heap, budget); }

size_t ace_trim_shared(ace_heap *heap, size_t budget) noexcept { return purge_pages(*heap, budget); }

uint64_t ace_tick(uint64_t budget) noexcept { return run_due_trims(budget); }

}  // extern "C"
