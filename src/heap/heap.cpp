#include "heap/heap.h"

#include <string.h>

#include <algorithm>

#include "heap/address_map.h"
#include "heap/all_heaps.h"
#include "heap/annotate.h"
#include "heap/large.h"
#include "heap/red_zone.h"
#include "heap/superslab_pool.h"
#include "heap/tiers.h"
#include "os/os.h"
#include "wire/options.h"

namespace ace {
namespace {

void release_list(const SuperslabList &list, const Superslab *home, void (*release)(Superslab *)) {
  for (Superslab *s = list.first, *next; s != nullptr; s = next) {
    next = s->head.next;
    if (s != home) release(s);
  }
}

// The superslab with the heap itself is the last.
void unmap_all(Heap &heap, bool later) {
  const auto release = later ? release_superslab_later : release_superslab;
  Superslab *home = heap.home;
  if (later) {
    release_list(heap.large, home, release);
    release_list(heap.kept, home, release);
  } else {
    while (heap.large.first != nullptr) free_large(heap, heap.large.first);
    release_kept(heap, SIZE_MAX);
  }
  release_list(heap.tiny, home, release);
  release_list(heap.mid, home, release);
  release(home);
}

// One secret for the process, so that heaps know one another's blocks; the order of re-issue is each heap's
// own.
uint64_t secret_of_process() {
  static std::atomic<uint64_t> secret{0};
  uint64_t present = secret.load(std::memory_order_relaxed), fresh;
  if (present != 0) return present;
  // Before the system has gathered any chance the clock and where the process was loaded must do.
  if (!os().random(&fresh, sizeof fresh)) fresh = os().now() * 0x9e3779b97f4a7c15u ^ address_of(&secret);
  return secret.compare_exchange_strong(present, fresh | 1, std::memory_order_relaxed) ? fresh | 1 : present;
}

void begin_secret(Heap &heap) {
  heap.secret = secret_of_process();
  heap.random = key_of(heap.secret, &heap) ^ os().now();
}

// What fits, without the beginning of a UTF-8 character that does not.
template <size_t kSize>
void copy_name(const char *name, char (&copy)[kSize]) {
  size_t length = strnlen(name, kSize);
  if (length == kSize) {
    --length;
    while (length != 0 && (static_cast<unsigned char>(name[length]) & 0xc0) == 0x80) --length;
  }
  memcpy(copy, name, length);
}

}  // namespace

Heap *create_heap(const ace_heap_config &config, bool is_thread_heap) {
  const bool hardened =
      kCanHarden && (options().hardened || (config.flags & ACE_HEAP_HARDENED) != 0 || runs_in_memcheck());
  Superslab *home = acquire_superslab(hardened);
  if (home == nullptr) return nullptr;
  // All of a new heap is zero, as its memory is: to write it once more would make pages resident for kinds that
  // few heaps have.
  Heap *heap = reinterpret_cast<ace_heap *>(home->heap_area);
  heap->home = home;
  heap->last_group = kFrontCache != 0 ? 0 : std::max(config.kind_groups, 1u) - 1;
  heap->flags = config.flags;
  heap->limit.store(config.limit, std::memory_order_relaxed);
  heap->on_limit = config.on_limit;
  heap->on_limit_context = config.on_limit_context;
  heap->is_thread_heap = is_thread_heap;
  heap->nature = hardened ? Nature::kHardened : Nature::kPlain;
  if (hardened) begin_secret(*heap);
  heap->is_watched = hardened && has_watcher();
  if (is_watched(*heap)) tell_heap_begins(*heap, kSeal);
  copy_name(config.name != nullptr ? config.name : "heap", heap->name);
  heap->phases.since.set(os().now());
  heap->reuse.look_at = UINT64_MAX;
  heap->phases.entries[0].set(1);
  home->head.prefix.pool = Pool::kTiny;
  home->head.prefix.owner = heap;
  adopt_superslab(*heap, home, false);
  heap->counters.metadata_bytes.add(round_up(sizeof(Heap), kPage));
  enter_heap(*heap);
  return heap;
}

void destroy_heap(Heap &heap, bool later) {
  leave_heap(heap);
  // Its memory may stay for a while: whoever uses the heap still shall find no list in it, and be told.
  memset(heap.bins, 0, sizeof heap.bins);
  heap.nature = Nature::kEnded;
  if (is_watched(heap)) tell_heap_ends(heap);
  unmap_all(heap, later);
}

uint64_t live_bytes_bound(const Heap &heap) {
  uint64_t bytes = heap.counters.mid_live_bytes.get() + heap.counters.large_live_bytes.get();
  for (unsigned bin = 0; bin < groups_of(heap) * kClasses; ++bin) {
    bytes += heap.slabs[bin].used_blocks.get() * kClassSize[class_of_bin(bin)];
  }
  return bytes;
}

void link_superslab(Heap &heap, SuperslabList &list, Superslab *superslab) {
  Locked locked(heap.roster_lock);
  SuperslabHead &head = superslab->head;
  head.previous = nullptr;
  head.next = list.first;
  if (list.first != nullptr) list.first->head.previous = superslab;
  list.first = superslab;
}

bool unlink_superslab(Heap &heap, SuperslabList &list, Superslab *superslab) {
  Locked locked(heap.roster_lock);
  SuperslabHead &head = superslab->head;
  if (head.pins.load(std::memory_order_relaxed) != 0) return false;
  (head.previous != nullptr ? head.previous->head.next : list.first) = head.next;
  if (head.next != nullptr) head.next->head.previous = head.previous;
  if (list.purge_next == superslab) list.purge_next = head.next;
  return true;
}

}  // namespace ace
