#include "heap/large.h"

#include <string.h>

#include <algorithm>

#include "heap/address_map.h"
#include "heap/annotate.h"
#include "heap/limit.h"
#include "heap/remote.h"
#include "heap/superslab_pool.h"
#include "os/os.h"

namespace ace {
namespace {

// What may be kept: this much, or that share of the most that was resident; and what was missed since the last
// trim. A program that frees a lot once keeps little of it; one that needs it again and again pays for its page
// faults twice and then no more.
constexpr size_t kKeptMin = size_t{4} << 20;
constexpr size_t kKeptShare = 4;
// How many kept blocks are looked at for one that fits. It may be twice as large: buffers that grow are most of
// what is asked for here, and will soon need the rest. Of a larger one the rest goes back: otherwise a buffer
// that starts small would lie beside those that it has grown to before.
constexpr unsigned kKeptTries = 8;

uint32_t pages_of(size_t size) { return static_cast<uint32_t>(std::min(size / kPage, size_t{UINT32_MAX})); }
size_t mapping_size(size_t offset, size_t size) { return round_up(offset + size, os().page_size); }

// A mapping for a block of `size` bytes at `offset`, with its head filled in; nullptr where there is none.
Superslab *map_large(Heap &heap, size_t size, size_t offset) {
  size_t mapped = mapping_size(offset, size);
  const size_t guard = heap.nature == Nature::kHardened ? os().page_size : 0;
  auto *superslab = static_cast<Superslab *>(os().map(mapped + guard, kSuperslabSize));
  if (superslab == nullptr) {
    heap.counters.system_failures.add(1);
    return nullptr;
  }
  SuperslabHead &head = superslab->head;
  head.prefix.pool = Pool::kLarge;
  head.prefix.owner = &heap;
  head.block_offset = static_cast<uint32_t>(offset);
  head.mapped = mapped;
  head.asked_pages = pages_of(mapped - offset);
  head.holds_zeroes = true;
  if (guard != 0) put_guard(superslab, mapped);
  if (!enter_address(superslab, mapped)) {
    end_mapping(superslab, mapped + guard);
    return nullptr;
  }
  return superslab;
}

void count_mapping(Heap &heap, Superslab *superslab) {
  heap.counters.mapped_bytes.add(superslab->head.mapped);
  heap.counters.metadata_bytes.add(kPage);
}

void uncount_mapping(Heap &heap, Superslab *superslab) {
  heap.counters.mapped_bytes.subtract(superslab->head.mapped);
  heap.counters.metadata_bytes.subtract(kPage);
}

void link_large(Heap &heap, Superslab *superslab) {
  link_superslab(heap, heap.large, superslab);
  heap.counters.large_live_blocks.add(1);
  heap.counters.large_live_bytes.add(large_block_size(superslab));
}

void unlink_large(Heap &heap, Superslab *superslab) {
  unlink_superslab(heap, heap.large, superslab);  // live ones are never pinned: purgers pass them over
  heap.counters.large_live_blocks.subtract(1);
  heap.counters.large_live_bytes.subtract(large_block_size(superslab));
}

void unmap_large(Heap &heap, Superslab *superslab) {
  uncount_mapping(heap, superslab);
  leave_address(superslab);
  end_mapping(superslab, superslab->head.mapped + guard_of(superslab));
}

// Of a hardened heap nothing is kept: who uses a block after its end gets a signal. What a trim finds freed by
// others waits for what it gives back within its budget.
bool may_keep(const Heap &heap, size_t block_size) {
  if (heap.nature == Nature::kHardened) return false;
  if (heap.trimming) return true;
  const size_t peak = heap.counters.peak_resident_bytes.get();
  const size_t most = std::max(kKeptMin, peak / kKeptShare) + heap.missed_bytes;
  return heap.kept_block_bytes + block_size <= std::min(most, std::max(kKeptMin, peak));
}

// Counts fresh pages of large blocks.
void count_fresh(Heap &heap, size_t bytes) {
  const size_t missed = std::min(bytes, heap.dropped_bytes);
  heap.dropped_bytes -= missed;
  heap.missed_bytes += missed;
  count_faulted(heap, bytes);
}

// Off the list of kept blocks, with its claim taken: nobody else is at it, or comes to it any more.
bool claim_kept(Heap &heap, Superslab *superslab) {
  if (!superslab->head.claim.try_take()) return false;
  if (!unlink_superslab(heap, heap.kept, superslab)) {
    superslab->head.claim.release();
    return false;
  }
  heap.kept_block_bytes -= large_block_size(superslab);
  return true;
}

// A kept block whose mapping fits `needed` bytes, claimed; else the first larger one. nullptr where none is
// large enough.
Superslab *find_kept(Heap &heap, size_t needed, size_t offset) {
  Superslab *larger = nullptr;
  unsigned tries = kKeptTries;
  for (Superslab *s = heap.kept.first; s != nullptr && tries != 0; s = s->head.next, --tries) {
    const SuperslabHead &head = s->head;
    if (head.block_offset != offset || head.mapped < needed) continue;
    if (head.mapped - needed > needed) {
      if (larger == nullptr) larger = s;
    } else if (claim_kept(heap, s)) {
      return s;
    }
  }
  return larger != nullptr && claim_kept(heap, larger) ? larger : nullptr;
}

// Moves the mapping's end, where the system lets us; its head says so at each moment at which others may have
// what lies behind.
bool resize_mapping(Superslab *superslab, size_t mapped) {
  const size_t before = superslab->head.mapped, offset = superslab->head.block_offset;
  if (mapped < before) move_end(superslab, mapped);
  // Of a block that has moved the head is another mapping.
  const bool done = os().resize(large_block(superslab), before - offset, mapped - offset);
  if (done ? mapped > before : mapped < before) move_end(superslab, done ? mapped : before);
  return done;
}

// Gives back what lies beyond the first `mapped` bytes of a claimed block's mapping. Returns how much of the
// block is resident then; `resident` was, from its beginning on.
size_t cut_kept(Heap &heap, Superslab *superslab, size_t mapped, size_t resident) {
  const size_t whole = superslab->head.mapped;
  if (!resize_mapping(superslab, mapped)) return resident;
  heap.counters.mapped_bytes.subtract(whole - mapped);
  const size_t left = std::min(resident, large_block_size(superslab));
  heap.counters.released_bytes.add(resident - left);
  return left;
}

// A kept block for `size` bytes at `offset`, live again and counted; nullptr where none fits, or the limit is
// in the way of what is not resident of it.
Superslab *take_kept(Heap &heap, size_t size, size_t offset) {
  const size_t needed = mapping_size(offset, size);
  Superslab *s = find_kept(heap, needed, offset);
  if (s == nullptr) return nullptr;
  size_t resident = s->head.kept_bytes.exchange(0, std::memory_order_relaxed);
  if (s->head.mapped - needed > needed) resident = cut_kept(heap, s, needed, resident);
  LimitTalk talk;
  const size_t absent = large_block_size(s) - resident;
  if (absent != 0 && !may_grow(heap, absent, talk)) {
    heap.counters.released_bytes.add(resident);
    unmap_large(heap, s);
    return nullptr;
  }
  s->head.holds_zeroes = resident == 0;
  s->head.asked_pages = pages_of(needed - offset);
  s->head.remote.words.store(0, std::memory_order_relaxed);
  s->head.claim.release();
  link_large(heap, s);
  count_faulted(heap, absent);
  return s;
}

// Kept blocks of which none fits make room for fresh memory, byte for byte: they shall spare page faults, not
// add to the peak of a buffer that outgrows them.
void displace_kept(Heap &heap, size_t bytes) {
  for (Superslab *s = heap.kept.first, *next; s != nullptr && bytes != 0; s = next) {
    next = s->head.next;
    if (!claim_kept(heap, s)) continue;
    const size_t resident = s->head.kept_bytes.load(std::memory_order_relaxed);
    heap.dropped_bytes += resident;
    heap.counters.released_bytes.add(resident);
    bytes -= std::min(bytes, resident);
    unmap_large(heap, s);
  }
}

// Asks for `bytes` more; true also after the host was asked and made room.
bool granted(Heap &heap, size_t bytes) {
  LimitTalk talk;
  while (!may_grow(heap, bytes, talk)) {
    if (talk.changed()) continue;
    heap.counters.limit_failures.add(1);
    return false;
  }
  return true;
}

}  // namespace

size_t large_block_size_for(size_t size) { return mapping_size(os().page_size, size) - os().page_size; }

void *allocate_large(Heap &heap, size_t size, size_t alignment) {
  size_t offset = std::max(os().page_size, alignment);  // what is resized begins on a page of the system's
  size_t block_size = mapping_size(offset, size) - offset;
  Superslab *kept = take_kept(heap, size, offset);
  if (kept == nullptr && has_remote_frees(heap)) {
    drain_remote_frees(heap);
    kept = take_kept(heap, size, offset);
  }
  if (kept != nullptr) {
    count_taken(heap, large_block_size(kept));
    return large_block(kept);
  }
  displace_kept(heap, block_size);
  if (!granted(heap, block_size)) return nullptr;
  Superslab *superslab = map_large(heap, size, offset);
  if (superslab == nullptr) return nullptr;
  link_large(heap, superslab);
  count_mapping(heap, superslab);
  count_fresh(heap, block_size);
  count_taken(heap, block_size);
  return large_block(superslab);
}

void free_large(Heap &heap, Superslab *superslab) {
  const size_t block_size = large_block_size(superslab);
  unlink_large(heap, superslab);
  if (!may_keep(heap, block_size)) {
    heap.dropped_bytes += block_size;
    heap.counters.released_bytes.add(block_size);
    return unmap_large(heap, superslab);
  }
  SuperslabHead &head = superslab->head;
  head.remote.words.store(1, std::memory_order_relaxed);  // free already, to whoever frees it once more
  head.kept_bytes.store(block_size, std::memory_order_relaxed);
  heap.kept_block_bytes += block_size;
  link_superslab(heap, heap.kept, superslab);
}

size_t release_kept(Heap &heap, size_t budget) {
  heap.dropped_bytes = heap.missed_bytes = 0;
  size_t given = 0;
  for (Superslab *s = heap.kept.first, *next; s != nullptr; s = next) {
    next = s->head.next;
    if (s->head.kept_bytes.load(std::memory_order_relaxed) > budget - given || !claim_kept(heap, s)) continue;
    // Again, since only now no purger can be at it.
    const size_t resident = s->head.kept_bytes.load(std::memory_order_relaxed);
    heap.counters.released_bytes.add(resident);
    given += resident;
    unmap_large(heap, s);
  }
  return given;
}

void *resize_large(Heap &heap, Superslab *superslab, size_t size) {
  const size_t offset = superslab->head.block_offset;
  const size_t old_size = large_block_size(superslab), old_mapped = superslab->head.mapped;
  const size_t new_mapped = mapping_size(offset, size), new_size = new_mapped - offset;
  if (new_size <= old_size && pages_of(new_size) >= superslab->head.asked_pages) {
    superslab->head.asked_pages = pages_of(new_size);
    return large_block(superslab);
  }
  if (new_size > old_size) {
    displace_kept(heap, new_size - old_size);
    if (!granted(heap, new_size - old_size)) return nullptr;
  }

  const bool guarded = superslab->head.guarded;  // then neither end of the mapping can be moved
  if (!guarded && resize_mapping(superslab, new_mapped)) {
    heap.counters.large_live_bytes.add(new_size - old_size);
    heap.counters.mapped_bytes.add(new_mapped - old_mapped);
    superslab->head.asked_pages = pages_of(new_size);
  } else {
    // What the system will not take back stays.
    if (new_size < old_size && !guarded) return large_block(superslab);
    Superslab *target = map_large(heap, size, offset);
    if (target == nullptr) return nullptr;
    const size_t moved = std::min(old_size, new_size);
    if (is_watched(heap)) forget_memory(large_block(superslab), old_size);
    leave_address(superslab);  // what is moved away others may have at once
    const bool is_copied = !os().move(large_block(superslab), moved, large_block(target), new_size);
    if (is_copied) {
      leave_address(target);
      end_mapping(target, new_mapped + guard_of(target));
      target = map_large(heap, size, offset);
      if (target == nullptr) {
        enter_address(superslab, old_mapped);
        return nullptr;
      }
      memcpy(large_block(target), large_block(superslab), moved);
    }
    unlink_large(heap, superslab);
    uncount_mapping(heap, superslab);
    if (is_copied) {
      end_mapping(superslab, old_mapped + guard_of(superslab));
    } else {
      end_mapping(superslab, offset, large_block(superslab) + moved, old_size - moved + guard_of(superslab));
    }
    link_large(heap, target);
    count_mapping(heap, target);
    superslab = target;
  }
  if (new_size > old_size) {
    count_fresh(heap, new_size - old_size);
    count_taken(heap, new_size - old_size);
  } else {
    heap.counters.released_bytes.add(old_size - new_size);
  }
  return large_block(superslab);
}

}  // namespace ace
