#include "heap/heap.h"

#include <string.h>

#include <algorithm>

#include "heap/address_map.h"
#include "heap/all_heaps.h"
#include "heap/annotate.h"
#include "heap/class_pattern.h"
#include "heap/large.h"
#include "heap/mid.h"
#include "heap/purge.h"
#include "heap/red_zone.h"
#include "heap/remote.h"
#include "heap/scatter.h"
#include "heap/slab.h"
#include "heap/superslab_pool.h"
#include "heap/tiers.h"
#include "os/os.h"
#include "wire/options.h"

namespace ace {
namespace {

// A heap that grows is looked at for dead pages each time that it has grown by so much, by that share, and by
// so many times what the last look gave back: a program that needs those pages again must not pay for them
// again and again.
constexpr uint64_t kLookStep = uint64_t{256} << 10;
constexpr uint64_t kLookShare = 16;
constexpr uint64_t kLookPatience = 4;

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

int walk_slab(Heap &heap, Superslab *superslab, unsigned index, ace_visit_fn visit, void *context) {
  SlabRow &row = superslab->row(index);
  if (row.prefix.pool != Pool::kTiny || row.prefix.state == SlabState::kFree) return 0;
  const Bin &bin = heap.bins[row.prefix.bin];
  const ClassPattern &pattern = kClassPattern[row.prefix.size_class];
  const bool is_current = row.prefix.state == SlabState::kCurrent;
  const bool is_hardened = heap.nature == Nature::kHardened;
  for (unsigned w = 0; w < kWordsPerSlab; ++w) {
    uint64_t live = pattern.words[w] & ~superslab->free_bits[index][w].load(std::memory_order_relaxed) &
                    ~superslab->remote_bits[index][w].load(std::memory_order_relaxed);
    for (; live != 0; live &= live - 1) {
      void *block =
          superslab->slab(index) + (w * 64 + static_cast<unsigned>(std::countr_zero(live))) * kGranule;
      if (is_current && is_hardened && is_scattered(bin, block)) continue;
      const bool has_list = kFrontCache != 0 || (is_current && !is_hardened);
      const bool may_be_listed = has_list && static_cast<Block *>(block)->tag == &bin;
      if (may_be_listed && is_on_list(bin, block)) continue;
      const size_t size = size_for_user(heap, block, block_size_of(row.prefix)) - kHeader;
      if (int answer = visit(user_part(block), size, row.prefix.kind_group, context)) return answer;
    }
  }
  return 0;
}

int walk_mid(Heap &heap, Superslab *superslab, ace_visit_fn visit, void *context) {
  MidBody &body = superslab->mid();
  for (unsigned page = kMidFirstPage; page < kPagesPerSuperslab; ++page) {
    if (body.run_pages[page] == 0) continue;
    if (body.remote[page / 64].load(std::memory_order_relaxed) >> page % 64 & 1) continue;
    const size_t size = size_for_user(heap, superslab->page(page), body.run_pages[page] * kPage);
    if (int answer = visit(superslab->page(page), size, 0, context)) return answer;
  }
  return 0;
}

int walk_superslab(Heap &heap, Superslab *superslab, ace_visit_fn visit, void *context) {
  switch (superslab->head.prefix.pool) {
    case Pool::kTiny:
      for (unsigned i = 1; i < kSlabsPerSuperslab; ++i) {
        if (int answer = walk_slab(heap, superslab, i, visit, context)) return answer;
      }
      return 0;
    case Pool::kMid:
      return walk_mid(heap, superslab, visit, context);
    default:
      if (superslab->head.remote.words.load(std::memory_order_relaxed) != 0) return 0;
      return visit(large_block(superslab),
                   size_for_user(heap, large_block(superslab), large_block_size(superslab)), 0, context);
  }
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

// Before a heap becomes larger than it ever was, the pages that it holds for nothing go back: those that one
// size has done with make room for another's.
void look_before_growth(Heap &heap, uint64_t resident) {
  if (heap.on_growth != nullptr) heap.on_growth();
  const uint64_t given = options().mode == Mode::kOff ? 0 : purge_pages(heap, SIZE_MAX);
  heap.next_look = resident + std::max({kLookStep, resident / kLookShare, given * kLookPatience});
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
  heap->last_group = std::max(config.kind_groups, 1u) - 1;
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

bool may_grow(Heap &heap, size_t bytes, LimitTalk &talk) {
  const size_t limit = heap.limit.load(std::memory_order_relaxed);
  const uint64_t resident = heap.counters.resident_bytes();
  if (resident + bytes > heap.next_look) [[unlikely]]
    look_before_growth(heap, resident);
  if (limit == 0 || (bytes <= limit && resident <= limit - bytes)) return true;
  if (heap.in_limit_callback) return false;
  const size_t missing = resident + bytes - limit, missing_pages = round_up(missing, kPage);
  switch (talk.next_) {
    case LimitTalk::Next::kTrim:
      talk.next_ = talk.asks_ ? LimitTalk::Next::kAsk : LimitTalk::Next::kNothing;
      talk.changed_ = true;
      // Some more than is missing, so that a heap at its limit does not look for every page anew.
      trim_heap(heap, std::max(missing_pages, limit / 16));
      return false;
    case LimitTalk::Next::kAsk:
      talk.next_ = LimitTalk::Next::kNothing;
      if (heap.on_limit == nullptr) return false;
      talk.changed_ = true;
      heap.counters.limit_callbacks.add(1);
      heap.in_limit_callback = true;
      if (heap.on_limit(static_cast<ace_heap *>(&heap), missing, heap.on_limit_context) != 0) {
        // The host has made room, perhaps of free pages only: they may be given back once more.
        talk.next_ = LimitTalk::Next::kTrimAgain;
      }
      heap.in_limit_callback = false;
      return false;
    case LimitTalk::Next::kTrimAgain:
      talk.next_ = LimitTalk::Next::kNothing;
      talk.changed_ = true;
      trim_heap(heap, std::max(missing_pages, limit / 16));
      return false;
    case LimitTalk::Next::kNothing:
      break;
  }
  return false;
}

uint64_t live_bytes_bound(const Heap &heap) {
  uint64_t bytes = heap.counters.mid_live_bytes.get() + heap.counters.large_live_bytes.get();
  for (unsigned bin = 0; bin < groups_of(heap) * kClasses; ++bin) {
    bytes += heap.slabs[bin].used_blocks.get() * kClassSize[class_of_bin(bin)];
  }
  return bytes;
}

void watch_reuse(Heap &heap, uint64_t now, uint64_t bytes) {
  // A program that frees as much as it takes is not added up for every page.
  constexpr uint64_t kStepMin = uint64_t{256} << 10;
  ReuseWatch &reuse = heap.reuse;
  reuse.step = std::max(bytes / 8, kStepMin);
  reuse.look_at = heap.counters.taken_bytes.get() + std::min(reuse.step, bytes);
  reuse.live = live_bytes_bound(heap) + bytes;
  reuse.at = reuse.quiet_at = reuse.quiet = 0;
  reuse.last.store(now, std::memory_order_relaxed);
}

void end_watch(Heap &heap) { heap.reuse.look_at = UINT64_MAX; }

void look_for_reuse(Heap &heap) {
  ReuseWatch &reuse = heap.reuse;
  const uint64_t now = os().now(), last = reuse.last.load(std::memory_order_relaxed);
  if (now - last > reuse.quiet) {
    reuse.quiet_at = last;
    reuse.quiet = now - last;
  }
  reuse.last.store(now, std::memory_order_relaxed);
  const uint64_t live = live_bytes_bound(heap);
  if (live >= reuse.live) {
    reuse.at = now;
    reuse.look_at = UINT64_MAX;
  } else {
    reuse.look_at = heap.counters.taken_bytes.get() + std::min(reuse.step, reuse.live - live);
  }
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
  return true;
}

int walk_heap(Heap &heap, ace_visit_fn visit, void *context) {
  for (const SuperslabList *list : {&heap.tiny, &heap.mid, &heap.large}) {
    for (Superslab *s = list->first; s != nullptr; s = s->head.next) {
      if (int answer = walk_superslab(heap, s, visit, context)) return answer;
    }
  }
  return 0;
}

bool walk_next(Heap &heap, uintptr_t *position, ace_visit_fn visit, void *context) {
  Superslab *next = nullptr;
  for (const SuperslabList *list : {&heap.tiny, &heap.mid, &heap.large}) {
    for (Superslab *s = list->first; s != nullptr; s = s->head.next) {
      if (address_of(s) > *position && (next == nullptr || s < next)) next = s;
    }
  }
  if (next == nullptr) return false;
  *position = address_of(next);
  walk_superslab(heap, next, visit, context);
  return true;
}

}  // namespace ace
