#include "heap/superslab_pool.h"

#include <algorithm>

#include "heap/address_map.h"
#include "heap/annotate.h"
#include "os/lock.h"
#include "os/os.h"

namespace ace {
namespace {

// Superslabs are mapped a few at a time, more as the process grows, so that small processes stay small and
// large ones make few mappings.
constexpr size_t kSmallestChunk = 4, kLargestChunk = 32;
constexpr size_t kKept = 64;
constexpr size_t kWaitingMax = size_t{256} << 20;

Lock g_pool_lock;
std::byte *g_chunk;         // the rest of the last mapping
size_t g_chunk_superslabs;  // how many it holds
size_t g_handed_out;
// Released, purged, still mapped.
struct Kept {
  Superslab *superslabs[kKept];
  size_t count;
};
Kept g_kept, g_kept_guarded;
Superslab *g_waiting;  // released, with their pages; linked by their heads
size_t g_waiting_bytes;

// At the start of a mapping that the system did not take back. `behind` must go first: another piece, which may
// be a guard, that nothing can be written to.
struct Refused {
  Refused *next;
  size_t size;
  void *behind;
  size_t behind_size;
};
Refused *g_refused;

// The lock is held. Falls back to smaller chunks where address space is limited.
bool map_chunk() {
  size_t want = std::clamp(g_handed_out / 4, kSmallestChunk, kLargestChunk);
  for (size_t count = want; count >= 1; count /= 2) {
    void *start = os().map(count * kSuperslabSize, kSuperslabSize);
    if (start == nullptr) continue;
    g_chunk = static_cast<std::byte *>(start);
    g_chunk_superslabs = count;
    return true;
  }
  return false;
}

// Its pages go back. False where they do not.
bool purge_all(Superslab *superslab) {
  const bool was_huge = superslab->head.is_huge.load(std::memory_order_relaxed);
  const bool zeroed = os().purge(superslab, kSuperslabSize);
  if (was_huge) os().end_huge(superslab, kSuperslabSize);
  return zeroed;
}

bool is_of_pool(const Superslab *superslab) { return superslab->head.prefix.pool != Pool::kLarge; }
size_t mapped_size(const Superslab *superslab) {
  return (is_of_pool(superslab) ? kSuperslabSize : superslab->head.mapped) + guard_of(superslab);
}

bool unmap_or_purge(void *start, size_t size) {
  forget_memory(start, size);
  if (os().unmap(start, size)) return true;
  os().purge(start, size);
  return false;
}

// False where the system refuses: it is remembered then, with a page at most.
bool try_unmap(void *start, size_t size, void *behind, size_t behind_size) {
  if (behind_size != 0 && unmap_or_purge(behind, behind_size)) behind_size = 0;
  if (behind_size == 0 && unmap_or_purge(start, size)) return true;
  auto *refused = static_cast<Refused *>(start);
  Locked locked(g_pool_lock);
  *refused = {g_refused, size, behind, behind_size};
  g_refused = refused;
  return false;
}

// nullptr where the system refused none.
Refused *take_refused() {
  Locked locked(g_pool_lock);
  Refused *refused = g_refused;
  if (refused != nullptr) g_refused = refused->next;
  return refused;
}

// Keeps one that nobody uses any more, with no page of it, or unmaps it.
void keep(Superslab *superslab) {
  const size_t mapped = mapped_size(superslab);
  if (!is_of_pool(superslab)) return end_mapping(superslab, mapped);
  if (superslab->head.guarded) open_memory(superslab, kSuperslabSize);  // of a hardened heap, perhaps watched
  Kept &kept = superslab->head.guarded ? g_kept_guarded : g_kept;
  const bool zeroed = purge_all(superslab);
  // But for its head: who allocates from an ended heap finds by that that it is one.
  if (&kept == &g_kept_guarded) close_memory(superslab->slab(1), kSuperslabSize - kSlabSize);
  {
    Locked locked(g_pool_lock);
    if (zeroed && kept.count < kKept) {
      kept.superslabs[kept.count++] = superslab;
      return;
    }
  }
  end_mapping(superslab, mapped);
}

// Of a large mapping that waits, the last 2 MiB or what there is of them: a step, as each superslab is. False
// where it is short, or the system refuses.
bool cut_end(Superslab *superslab) {
  if (is_of_pool(superslab) || superslab->head.mapped <= kSuperslabSize) return false;
  const size_t left = round_down(superslab->head.mapped - 1, kSuperslabSize);
  std::byte *end = reinterpret_cast<std::byte *>(superslab) + left;
  const size_t size = mapped_size(superslab) - left;
  forget_memory(end, size);
  if (!os().unmap(end, size)) return false;
  superslab->head.mapped = left;
  superslab->head.guarded = false;
  return true;
}

// nullptr where none is kept. It has been purged: its head does not say any more whether it is guarded.
Superslab *take_pooled(Kept &kept) {
  Locked locked(g_pool_lock);
  return kept.count != 0 ? kept.superslabs[--kept.count] : nullptr;
}

void put_waiting(Superslab *superslab) {
  superslab->head.next = g_waiting;
  g_waiting = superslab;
  g_waiting_bytes += mapped_size(superslab);
}

// nullptr where none waits.
Superslab *take_waiting() {
  Locked locked(g_pool_lock);
  Superslab *superslab = g_waiting;
  if (superslab == nullptr) return nullptr;
  g_waiting = superslab->head.next;
  g_waiting_bytes -= mapped_size(superslab);
  return superslab;
}

Superslab *take() {
  Locked locked(g_pool_lock);
  Superslab *superslab;
  if (g_kept.count != 0) {
    superslab = g_kept.superslabs[--g_kept.count];
  } else {
    if (g_chunk_superslabs == 0 && !map_chunk()) return nullptr;
    // From the top: the kernel maps downwards, so that chunks are used in the order of their addresses.
    superslab = reinterpret_cast<Superslab *>(g_chunk + --g_chunk_superslabs * kSuperslabSize);
  }
  ++g_handed_out;
  return superslab;
}

// Each in a mapping of its own.
Superslab *take_guarded() {
  Superslab *superslab = nullptr;
  {
    Locked locked(g_pool_lock);
    if (g_kept_guarded.count != 0) superslab = g_kept_guarded.superslabs[--g_kept_guarded.count];
    ++g_handed_out;
  }
  if (superslab != nullptr) open_memory(superslab->slab(1), kSuperslabSize - kSlabSize);
  if (superslab == nullptr) {
    superslab = static_cast<Superslab *>(os().map(kSuperslabSize + os().page_size, kSuperslabSize));
    if (superslab != nullptr) put_guard(superslab, kSuperslabSize);
  }
  if (superslab != nullptr) {
    superslab->head.guarded = true;
    return superslab;
  }
  Locked locked(g_pool_lock);
  --g_handed_out;
  return nullptr;
}

}  // namespace

size_t guard_of(const Superslab *superslab) { return superslab->head.guarded ? os().page_size : 0; }

void put_guard(Superslab *superslab, size_t mapped) {
  os().guard(reinterpret_cast<std::byte *>(superslab) + mapped, os().page_size);
  superslab->head.guarded = true;
}

Superslab *acquire_superslab(bool guarded) {
  purge_released();  // rather than that more is mapped
  Superslab *superslab = guarded ? take_guarded() : take();
  if (superslab == nullptr) return nullptr;
  if (enter_address(superslab)) return superslab;
  end_mapping(superslab, kSuperslabSize + guard_of(superslab));
  return nullptr;
}

void end_mapping(void *start, size_t size, void *behind, size_t behind_size) {
  while (try_unmap(start, size, behind, behind_size)) {
    Refused *refused = take_refused();
    if (refused == nullptr) return;
    start = refused;
    size = refused->size;
    behind = refused->behind;
    behind_size = refused->behind_size;
  }
}

void release_superslab(Superslab *superslab) {
  leave_address(superslab);
  {
    Locked locked(g_pool_lock);
    --g_handed_out;
  }
  keep(superslab);
}

void release_superslab_later(Superslab *superslab) {
  leave_address(superslab);
  {
    Locked locked(g_pool_lock);
    if (is_of_pool(superslab)) --g_handed_out;
    if (g_waiting_bytes + mapped_size(superslab) <= kWaitingMax) return put_waiting(superslab);
  }
  keep(superslab);
}

bool purge_released() {
  Superslab *superslab = take_waiting();
  if (superslab == nullptr) return false;
  if (cut_end(superslab)) {
    Locked locked(g_pool_lock);
    put_waiting(superslab);
  } else {
    keep(superslab);
  }
  return true;
}

bool has_released() {
  Locked locked(g_pool_lock);
  return g_waiting != nullptr;
}

void unmap_kept_superslabs() {
  while (Superslab *superslab = take_pooled(g_kept)) end_mapping(superslab, kSuperslabSize);
  while (Superslab *superslab = take_pooled(g_kept_guarded))
    end_mapping(superslab, kSuperslabSize + os().page_size);
}

void lock_superslab_pool() { g_pool_lock.lock(); }
void unlock_superslab_pool() { g_pool_lock.unlock(); }

}  // namespace ace
