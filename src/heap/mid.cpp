#include "heap/mid.h"

#include "heap/limit.h"
#include "heap/page_set.h"
#include "heap/red_zone.h"
#include "heap/remote.h"
#include "heap/superslab_pool.h"
#include "os/os.h"

namespace ace {
namespace {

void set_bits(BitmapWord *words, unsigned from, unsigned to) {
  PageSet::each_word(from, to, [&](unsigned w, uint64_t bits) {
    words[w].store(words[w].load(std::memory_order_relaxed) | bits, std::memory_order_relaxed);
  });
}

void clear_bits(BitmapWord *words, unsigned from, unsigned to) {
  PageSet::each_word(from, to, [&](unsigned w, uint64_t bits) {
    words[w].store(words[w].load(std::memory_order_relaxed) & ~bits, std::memory_order_relaxed);
  });
}

bool are_set(const BitmapWord *words, unsigned from, unsigned to) {
  uint64_t missing = 0;
  PageSet::each_word(from, to, [&](unsigned w, uint64_t bits) {
    missing |= bits & ~words[w].load(std::memory_order_relaxed);
  });
  return missing == 0;
}

// The pages [from, to) become free: with their neighbours they may be a longer run than any there was.
void add_free(Superslab *superslab, unsigned from, unsigned to) {
  MidBody &body = superslab->mid();
  set_bits(body.free, from, to);
  auto raise = [&](uint16_t &longest, auto is_other) {
    const unsigned run = find_page(to, is_other) - find_page_before(from, is_other);
    if (run > longest) longest = static_cast<uint16_t>(run);
  };
  auto taken = [&](unsigned w) { return ~body.free[w].load(std::memory_order_relaxed); };
  raise(superslab->head.longest_run, taken);
  raise(superslab->head.longest_resident,
        [&](unsigned w) { return taken(w) | ~body.present[w].load(std::memory_order_relaxed); });
}

bool is_empty(Superslab *superslab) {
  return PageSet::load(superslab->mid().free).count(0, kPagesPerSuperslab) ==
         kPagesPerSuperslab - kMidFirstPage;
}

// The lowest run of `pages` pages of the set at the alignment; 0 where there is none.
unsigned find_run(const PageSet &set, unsigned pages, size_t alignment) {
  const auto step = static_cast<unsigned>(alignment / kPage);
  for (unsigned page = set.find(kMidFirstPage); page < kPagesPerSuperslab;) {
    unsigned end = set.find_absent(page);
    unsigned start = (page + step - 1) / step * step;  // a superslab is aligned to more than any run
    if (start + pages <= end) return start;
    page = set.find(end);
  }
  return 0;
}

size_t resident_bytes(Superslab *superslab) {
  return PageSet::load(superslab->mid().present).count(0, kPagesPerSuperslab) * kPage;
}

// A hardened heap's free pages are zero; absent ones need not be looked at. The superslab's claim is held.
void look_for_writes(Heap &heap, Superslab *superslab, unsigned from, unsigned to) {
  if (heap.nature != Nature::kHardened) return;
  const PageSet present = PageSet::load(superslab->mid().present);
  for (unsigned page = from; page < to; ++page) {
    if (present.has(page) && !is_still_zero(heap, superslab->page(page), kPage))
      heap.spoiled = superslab->page(page);
  }
}

// Takes [from, to), which is free, into use; the superslab's claim is held. False at the limit.
bool take_pages(Heap &heap, Superslab *superslab, unsigned from, unsigned to, LimitTalk &talk) {
  MidBody &body = superslab->mid();
  size_t fresh = 0;
  if (!are_set(body.present, from, to)) {
    fresh = (to - from - PageSet::load(body.present).count(from, to)) * kPage;
    if (!may_grow(heap, fresh, talk)) return false;
  }
  look_for_writes(heap, superslab, from, to);
  if (fresh != 0) {
    set_bits(body.present, from, to);
    count_faulted(heap, fresh);
  }
  clear_bits(body.free, from, to);
  return true;
}

// With its claim taken, since purgers may look at it as soon as it is listed.
Superslab *add_mid_superslab(Heap &heap) {
  Superslab *superslab = acquire_superslab(heap.nature == Nature::kHardened);
  if (superslab == nullptr) {
    heap.counters.system_failures.add(1);
    return nullptr;
  }
  superslab->head.prefix.pool = Pool::kMid;
  superslab->head.prefix.owner = &heap;
  superslab->head.claim.try_take();
  if (is_watched(heap)) close_memory(superslab->page(kMidFirstPage), kSuperslabSize - kMidFirstPage * kPage);
  add_free(superslab, kMidFirstPage, kPagesPerSuperslab);
  link_superslab(heap, heap.mid, superslab);
  heap.counters.mapped_bytes.add(kSuperslabSize);
  heap.counters.metadata_bytes.add(kMidFirstPage * kPage);
  return superslab;
}

// The run's pages were taken.
void *begin_run(Heap &heap, Superslab *superslab, unsigned start, unsigned pages) {
  superslab->mid().run_pages[start] = static_cast<uint16_t>(pages);
  heap.counters.mid_live_blocks.add(1);
  heap.counters.mid_live_bytes.add(pages * kPage);
  count_taken(heap, pages * kPage);
  return superslab->page(start);
}

// A run of that length that was freed lately, is still free and resident; nullptr where there is none.
void *take_recent(Heap &heap, unsigned pages) {
  while (std::byte *run = heap.recent_runs.pop(pages)) {
    Superslab *superslab = superslab_of(run);
    MidBody &body = superslab->mid();
    const unsigned start = page_index_of(run), end = start + pages;
    if (!superslab->head.claim.try_take()) continue;
    const bool usable = are_set(body.free, start, end) && are_set(body.present, start, end);
    if (usable) {
      look_for_writes(heap, superslab, start, end);
      clear_bits(body.free, start, end);
    }
    superslab->head.claim.release();
    if (usable) return begin_run(heap, superslab, start, pages);
  }
  return nullptr;
}

// Pages with their alignment, and behind how many free ones.
struct Wanted {
  unsigned pages;
  size_t alignment;
  unsigned room;
};

enum class Taken { kYes, kNoRun, kRefused };

// Takes a run from a superslab whose claim is held, and releases the claim. `resident_only`: a run whose pages
// are all present.
Taken take_from_claimed(Heap &heap, Superslab *superslab, const Wanted &wanted, bool resident_only,
                        LimitTalk &talk, void **block) {
  SuperslabHead &head = superslab->head;
  MidBody &body = superslab->mid();
  PageSet free = PageSet::load(body.free);
  const unsigned whole = wanted.room + wanted.pages;
  unsigned start = find_run(resident_only ? free & PageSet::load(body.present) : free, whole, wanted.alignment);
  Taken taken = Taken::kNoRun;
  if (start != 0) {
    taken = Taken::kRefused;
    start += wanted.room;
    if (take_pages(heap, superslab, start, start + wanted.pages, talk)) {
      *block = begin_run(heap, superslab, start, wanted.pages);
      taken = Taken::kYes;
    }
  } else if (wanted.alignment == kPage) {
    (resident_only ? head.longest_resident : head.longest_run) = static_cast<uint16_t>(whole - 1);
  }
  head.claim.release();
  return taken;
}

Taken take_from(Heap &heap, Superslab *superslab, const Wanted &wanted, bool resident_only, LimitTalk &talk,
                void **block) {
  SuperslabHead &head = superslab->head;
  if (wanted.room + wanted.pages > (resident_only ? head.longest_resident : head.longest_run) ||
      !head.claim.try_take())
    return Taken::kNoRun;
  return take_from_claimed(heap, superslab, wanted, resident_only, talk, block);
}

// In the first superslab that has such a run, by preference one with the room.
Taken take_listed(Heap &heap, const Wanted &wanted, bool resident_only, LimitTalk &talk, void **block) {
  for (Superslab *s = heap.mid.first; s != nullptr; s = s->head.next) {
    Taken taken = take_from(heap, s, wanted, resident_only, talk, block);
    if (taken != Taken::kNoRun) return taken;
  }
  if (wanted.room == 0) return Taken::kNoRun;
  return take_listed(heap, {wanted.pages, wanted.alignment, 0}, resident_only, talk, block);
}

// By preference in pages that are resident, those that other threads have freed among them; else in absent
// ones, or in a new superslab.
Taken take_anywhere(Heap &heap, const Wanted &wanted, LimitTalk &talk, void **block) {
  Taken taken = take_listed(heap, wanted, true, talk, block);
  if (taken == Taken::kNoRun && has_remote_frees(heap)) {
    drain_remote_frees(heap);
    taken = take_listed(heap, wanted, true, talk, block);
  }
  if (taken == Taken::kNoRun) taken = take_listed(heap, wanted, false, talk, block);
  if (taken != Taken::kNoRun) return taken;
  Superslab *fresh = add_mid_superslab(heap);
  return fresh == nullptr ? Taken::kNoRun : take_from_claimed(heap, fresh, wanted, false, talk, block);
}

// Takes the pages [from, to) behind a run; at the limit what is free goes back first. The host is not asked:
// who cannot grow here moves, and asks for that.
bool take_behind(Heap &heap, Superslab *superslab, unsigned from, unsigned to) {
  LimitTalk talk(LimitTalk::With::kNobody);
  do {
    if (!superslab->head.claim.try_take()) return false;
    const bool taken = are_set(superslab->mid().free, from, to) && take_pages(heap, superslab, from, to, talk);
    superslab->head.claim.release();
    if (taken) return true;
  } while (talk.changed());
  return false;
}

}  // namespace

void *allocate_mid(Heap &heap, unsigned pages, size_t alignment, unsigned room) {
  if (alignment == kPage && room == 0) {
    if (void *recent = take_recent(heap, pages)) return recent;
  }
  LimitTalk talk;
  void *block = nullptr;
  const Wanted wanted{pages, alignment, room};
  while (take_anywhere(heap, wanted, talk, &block) == Taken::kRefused) {
    if (talk.changed()) continue;
    heap.counters.limit_failures.add(1);
    return nullptr;
  }
  return block;
}

void free_mid(Heap &heap, Superslab *superslab, unsigned page) {
  MidBody &body = superslab->mid();
  unsigned pages = body.run_pages[page];
  body.run_pages[page] = 0;
  add_free(superslab, page, page + pages);
  heap.recent_runs.push(superslab->page(page), pages);
  heap.counters.mid_live_blocks.subtract(1);
  heap.counters.mid_live_bytes.subtract(pages * kPage);
}

bool resize_mid(Heap &heap, Superslab *superslab, unsigned page, unsigned pages) {
  MidBody &body = superslab->mid();
  unsigned old_pages = body.run_pages[page];
  if (pages > old_pages) {
    unsigned from = page + old_pages, to = page + pages;
    if (to > kPagesPerSuperslab || !take_behind(heap, superslab, from, to)) return false;
    heap.counters.mid_live_bytes.add((pages - old_pages) * kPage);
    count_taken(heap, (pages - old_pages) * kPage);
  } else if (pages < old_pages) {
    add_free(superslab, page + pages, page + old_pages);
    heap.counters.mid_live_bytes.subtract((old_pages - pages) * kPage);
  }
  body.run_pages[page] = static_cast<uint16_t>(pages);
  return true;
}

void wipe_run(void *start, size_t size) {
  constexpr size_t kByPurge = size_t{64} << 10;
  if (size < kByPurge || os().page_size != kPage || !os().purge(start, size)) wipe(start, size);
}

size_t release_empty_mid(Heap &heap, size_t budget) {
  size_t given = 0;
  heap.recent_runs.clear();
  for (Superslab *s = heap.mid.first, *next; s != nullptr; s = next) {
    next = s->head.next;
    // Unclaimed: an allocation that asks the host about its limit may be in the middle of this superslab.
    if (s->head.claim.held() || s->head.remote.words.load(std::memory_order_relaxed) != 0) continue;
    if (!is_empty(s) || resident_bytes(s) > budget - given || !unlink_superslab(heap, heap.mid, s)) continue;
    // Counted now that no purger can be at it: what one has just given back is no longer ours to give.
    const size_t bytes = resident_bytes(s);
    heap.counters.released_bytes.add(bytes);
    heap.counters.mapped_bytes.subtract(kSuperslabSize);
    heap.counters.metadata_bytes.subtract(kMidFirstPage * kPage);
    release_superslab(s);
    given += bytes;
  }
  return given;
}

}  // namespace ace
