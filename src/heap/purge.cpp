#include "heap/purge.h"

#include "heap/class_pattern.h"
#include "heap/large.h"
#include "heap/mid.h"
#include "heap/page_set.h"
#include "heap/remote.h"
#include "heap/slab.h"
#include "heap/tiers.h"
#include "os/os.h"

#include <algorithm>

namespace ace {
namespace {

// Purgers read-lock it, so that they never wait for one another; only a fork and an audit take it whole.
pthread_rwlock_t g_purge_gate = PTHREAD_RWLOCK_INITIALIZER;

// The pages of a slab in which no block lives. The claim is held.
uint16_t dead_pages(Superslab *superslab, unsigned index) {
  const SlabRow &row = superslab->row(index);
  if (row.prefix.pool == Pool::kNone) return 0xffff;  // never assigned, but part of a huge page
  const ClassPattern &pattern = kClassPattern[row.prefix.size_class];
  const BitmapWord *bits = superslab->free_bits[index];
  uint16_t dead = 0;
  for (unsigned page = 0; page < kPagesPerSlab; ++page) {
    uint64_t live = 0;
    for (unsigned w = page * kWordsPerPage; w < (page + 1) * kWordsPerPage; ++w) {
      live |= bits[w].load(std::memory_order_relaxed) ^ pattern.words[w];
    }
    unsigned before = pattern.reaches_into[page];
    if (before != kNoBlock && !(bits[before / 64].load(std::memory_order_relaxed) >> before % 64 & 1)) continue;
    if (live == 0) dead = static_cast<uint16_t>(dead | 1u << page);
  }
  return dead & static_cast<uint16_t>(~kTailPage);
}

// The system gives back whole pages of its own, which may be larger than ours: `unit` of ours. So a run's ends
// move to their edges: outwards where the dead pages [start, end) reach so far, else inwards.
void fit_system_pages(unsigned start, unsigned end, unsigned unit, unsigned &from, unsigned &to) {
  const unsigned wider_from = from / unit * unit, wider_to = (to + unit - 1) / unit * unit;
  from = wider_from >= start ? wider_from : wider_from + unit;
  to = wider_to <= end ? wider_to : wider_to - unit;
}

// Counts the time of a stretch of calls that give memory back. A stretch, not a call: reading the clock of a
// thread is a system call as well.
class CallTime {
 public:
  explicit CallTime(Heap &heap) : heap_(heap), begin_(os().thread_time()) {}
  ~CallTime() { heap_.counters.purge_call_ns.add_shared(os().thread_time() - begin_); }
  CallTime(const CallTime &) = delete;
  CallTime &operator=(const CallTime &) = delete;

 private:
  Heap &heap_;
  const uint64_t begin_;
};

// Gives pages back and counts that. False where the system refuses.
bool give_back(Heap &heap, void *start, size_t size) {
  if (!os().purge(start, size)) return false;
  heap.counters.purge_calls.add_shared(1);
  return true;
}

// Cuts the end of the run so that at most `pages` present pages are in it.
void cut_to_budget(const PageSet &present, unsigned from, unsigned &to, size_t pages) {
  for (size_t in_run = present.count(from, to); in_run > pages; --to) in_run -= present.has(to - 1);
}

// Purges the runs of `dead` pages that are present, and takes them out of `present`. Runs go on over dead
// pages that are absent already: one call costs less than two. Returns the bytes that were present.
size_t purge_runs(Heap &heap, Superslab *superslab, const PageSet &dead, PageSet &present, size_t budget) {
  const auto unit = static_cast<unsigned>(std::max(os().page_size / kPage, size_t{1}));
  const CallTime time(heap);
  size_t given = 0;
  for (unsigned start = dead.find(0); start < kPagesPerSuperslab && given < budget;) {
    unsigned end = dead.find_absent(start);
    unsigned from = present.find(start), to = end;
    while (to > from && !present.has(to - 1)) --to;
    fit_system_pages(start, end, unit, from, to);
    if (from < to) {
      cut_to_budget(present, from, to, (budget - given) / kPage);
      to = to / unit * unit;
    }
    if (from < to) {
      size_t bytes = present.count(from, to) * kPage;
      if (bytes != 0 && give_back(heap, superslab->page(from), (to - from) * kPage)) {
        present.remove(from, to);
        given += bytes;
      }
    }
    start = dead.find(end);
  }
  return given;
}

size_t purge_tiny(Heap &heap, Superslab *superslab, size_t budget) {
  PageSet dead, present;
  uint32_t claimed = 0;
  for (unsigned i = 1; i < kSlabsPerSuperslab; ++i) {
    SlabRow &row = superslab->row(i);
    if (kTailPrefix && row.present.load(std::memory_order_relaxed) == 0) continue;  // nor touched so far
    if (!row.claim.try_take()) continue;
    claimed |= uint32_t{1} << i;
    uint16_t pages = row.present.load(std::memory_order_relaxed);
    present.add_slab(i, pages);
    // An absent page is as good as a dead one inside a run.
    dead.add_slab(i, static_cast<uint16_t>(pages == 0 ? 0xffff : dead_pages(superslab, i) | ~pages));
  }
  size_t given = 0;
  if (superslab->head.is_huge.load(std::memory_order_relaxed) && dead.meets(present)) {
    constexpr size_t kSpare = kSparePages * kPage;
    const CallTime time(heap);
    os().end_huge(superslab, kSuperslabSize);
    // Another purger may be at other slabs of it: one alone gives the spare pages back.
    if (budget >= kSpare && superslab->head.is_huge.exchange(false, std::memory_order_relaxed)) {
      if (give_back(heap, superslab->heap_area, kSpare)) {
        given = kSpare;
      } else {
        superslab->head.is_huge.store(true, std::memory_order_relaxed);
      }
    }
  }
  given += purge_runs(heap, superslab, dead, present, budget - given);
  for (; claimed != 0; claimed &= claimed - 1) {
    auto i = static_cast<unsigned>(std::countr_zero(claimed));
    superslab->row(i).present.store(present.slab(i), std::memory_order_relaxed);
    superslab->row(i).claim.release();
  }
  return given;
}

// From the end of the block on, so that what is resident stays in one piece.
size_t purge_kept(Heap &heap, Superslab *superslab, size_t budget) {
  SuperslabHead &head = superslab->head;
  if (!head.claim.try_take()) return 0;
  const CallTime time(heap);
  size_t resident = head.kept_bytes.load(std::memory_order_relaxed), given = 0;
  while (given < budget && resident != 0) {
    const size_t bytes = round_down(std::min({resident, budget - given, kSuperslabSize}), os().page_size);
    if (bytes == 0 || !give_back(heap, large_block(superslab) + resident - bytes, bytes)) break;
    resident -= bytes;
    given += bytes;
  }
  head.kept_bytes.store(resident, std::memory_order_relaxed);
  head.claim.release();
  return given;
}

size_t purge_mid(Heap &heap, Superslab *superslab, size_t budget) {
  if (!superslab->head.claim.try_take()) return 0;
  MidBody &body = superslab->mid();
  const PageSet free = PageSet::load(body.free);
  PageSet present = PageSet::load(body.present);
  size_t given = purge_runs(heap, superslab, free, present, budget);
  for (unsigned w = 0; w < kPagesPerSuperslab / 64; ++w) {
    body.present[w].store(present.word(w), std::memory_order_relaxed);
  }
  superslab->head.claim.release();
  return given;
}

// Visits each superslab of the list, pinned so that the holder does not release it meanwhile, and without a
// lock so that the holder is never kept waiting. With a budget it begins where the last purge was ended by
// one: whoever gives memory back in small parts does not look through all that is done for each.
template <typename Purge>
size_t purge_list(Heap &heap, SuperslabList &list, size_t budget, Purge purge) {
  size_t given = 0;
  heap.roster_lock.lock();
  Superslab *superslab = list.purge_next != nullptr && budget != SIZE_MAX ? list.purge_next : list.first;
  bool from_first = superslab == list.first;
  while (given < budget) {
    if (superslab == nullptr) {
      if (from_first) break;
      from_first = true;
      superslab = list.first;
      continue;
    }
    superslab->head.pins.fetch_add(1, std::memory_order_relaxed);
    heap.roster_lock.unlock();
    size_t bytes = purge(heap, superslab, budget - given);
    heap.counters.returned_bytes.add_shared(bytes);
    given += bytes;
    heap.roster_lock.lock();
    superslab->head.pins.fetch_sub(1, std::memory_order_relaxed);
    if (given < budget) superslab = superslab->head.next;  // else it may have more
  }
  list.purge_next = superslab;
  heap.roster_lock.unlock();
  return given;
}

size_t look_for_pages(Heap &heap, size_t budget) {
  pthread_rwlock_rdlock(&g_purge_gate);
  const uint64_t begin = os().thread_time();
  size_t given = purge_list(heap, heap.tiny, budget, purge_tiny);
  if (given < budget) given += purge_list(heap, heap.mid, budget - given, purge_mid);
  if (given < budget) given += purge_list(heap, heap.kept, budget - given, purge_kept);
  heap.counters.purges.add_shared(1);
  heap.counters.purge_ns.add_shared(os().thread_time() - begin);
  heap.counters.trimmed_bytes.add_shared(given);
  pthread_rwlock_unlock(&g_purge_gate);
  return given;
}

void note_stuck(Heap &heap) {
  const uint64_t resident = heap.counters.resident_bytes(), live = live_bytes_bound(heap);
  heap.stuck_bytes.store(resident > live ? resident - live : 0, std::memory_order_relaxed);
  heap.stuck_live.store(live, std::memory_order_relaxed);
}

}  // namespace

size_t purge_pages(Heap &heap, size_t budget) {
  heap.counters.walked_bytes.add_shared(heap.counters.resident_bytes());
  const size_t given = look_for_pages(heap, budget);
  if (given < budget) note_stuck(heap);
  return given;
}

size_t trim_heap(Heap &heap, size_t budget) {
  heap.counters.walked_bytes.add_shared(heap.counters.resident_bytes());
  const uint64_t begin = os().thread_time();
  heap.trimming = true;
  send_remote_frees(heap);
  drain_remote_frees(heap);
  retire_all(heap);
  heap.trimming = false;
  const uint64_t release = os().thread_time();
  size_t given = release_empty_superslabs(heap, budget);
  given += release_empty_mid(heap, budget - given);
  given += release_kept(heap, budget - given);
  const uint64_t end = os().thread_time();
  heap.counters.purge_ns.add_shared(end - begin);
  // Whole superslabs: there is next to nothing to look at.
  heap.counters.purge_call_ns.add_shared(end - release);
  heap.counters.trimmed_bytes.add_shared(given);
  if (given < budget) given += look_for_pages(heap, budget - given);
  if (given < budget) note_stuck(heap);
  mark_draining(heap);
  return given;
}

void lock_purging() { pthread_rwlock_wrlock(&g_purge_gate); }
void unlock_purging() { pthread_rwlock_unlock(&g_purge_gate); }
void reset_purging() { g_purge_gate = PTHREAD_RWLOCK_INITIALIZER; }

}  // namespace ace
