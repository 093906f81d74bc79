#include "heap/mid.h"

#include "heap/page_set.h"
#include "heap/superslab_pool.h"

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

// Runs may be longer than was found.
void forget_longest(Superslab *superslab) {
  superslab->head.longest_run = superslab->head.longest_resident = kPagesPerSuperslab;
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

// Takes [from, to), which is free, into use; the superslab's claim is held. False at the limit.
bool take_pages(Heap &heap, Superslab *superslab, unsigned from, unsigned to, LimitTalk &talk) {
  MidBody &body = superslab->mid();
  size_t fresh = (to - from - PageSet::load(body.present).count(from, to)) * kPage;
  if (fresh != 0 && !may_grow(heap, fresh, talk)) return false;
  clear_bits(body.free, from, to);
  set_bits(body.present, from, to);
  count_faulted(heap, fresh);
  return true;
}

// With its claim taken, since purgers may look at it as soon as it is listed.
Superslab *add_mid_superslab(Heap &heap) {
  Superslab *superslab = acquire_superslab();
  if (superslab == nullptr) {
    heap.counters.system_failures.add(1);
    return nullptr;
  }
  superslab->head.prefix.pool = Pool::kMid;
  superslab->head.prefix.owner = &heap;
  forget_longest(superslab);
  superslab->head.claim.try_take();
  set_bits(superslab->mid().free, kMidFirstPage, kPagesPerSuperslab);
  link_superslab(heap, heap.mid, superslab);
  heap.counters.mapped_bytes.add(kSuperslabSize);
  heap.counters.metadata_bytes.add(kMidFirstPage * kPage);
  return superslab;
}

enum class Taken { kYes, kNoRun, kRefused };

// Takes a run from a superslab whose claim is held, and releases the claim. `resident_only`: a run whose pages
// are all present.
Taken take_from_claimed(Heap &heap, Superslab *superslab, unsigned pages, size_t alignment, bool resident_only,
                        LimitTalk &talk, void **block) {
  SuperslabHead &head = superslab->head;
  MidBody &body = superslab->mid();
  PageSet free = PageSet::load(body.free);
  unsigned start = find_run(resident_only ? free & PageSet::load(body.present) : free, pages, alignment);
  Taken taken = Taken::kNoRun;
  if (start != 0) {
    taken = Taken::kRefused;
    if (take_pages(heap, superslab, start, start + pages, talk)) {
      body.run_pages[start] = static_cast<uint16_t>(pages);
      heap.counters.mid_live_blocks.add(1);
      heap.counters.mid_live_bytes.add(pages * kPage);
      *block = superslab->page(start);
      taken = Taken::kYes;
    }
  } else if (alignment == kPage) {
    (resident_only ? head.longest_resident : head.longest_run) = static_cast<uint16_t>(pages - 1);
  }
  head.claim.release();
  return taken;
}

Taken take_from(Heap &heap, Superslab *superslab, unsigned pages, size_t alignment, bool resident_only,
                LimitTalk &talk, void **block) {
  SuperslabHead &head = superslab->head;
  if (pages > (resident_only ? head.longest_resident : head.longest_run) || !head.claim.try_take())
    return Taken::kNoRun;
  return take_from_claimed(heap, superslab, pages, alignment, resident_only, talk, block);
}

// By preference in pages that are resident, then in the first superslab with room, else in a new one.
Taken take_anywhere(Heap &heap, unsigned pages, size_t alignment, LimitTalk &talk, void **block) {
  for (bool resident_only : {true, false}) {
    for (Superslab *s = heap.mid.first; s != nullptr; s = s->head.next) {
      Taken taken = take_from(heap, s, pages, alignment, resident_only, talk, block);
      if (taken != Taken::kNoRun) return taken;
    }
  }
  Superslab *fresh = add_mid_superslab(heap);
  return fresh == nullptr ? Taken::kNoRun
                          : take_from_claimed(heap, fresh, pages, alignment, false, talk, block);
}

}  // namespace

void *allocate_mid(Heap &heap, unsigned pages, size_t alignment) {
  LimitTalk talk;
  void *block = nullptr;
  while (take_anywhere(heap, pages, alignment, talk, &block) == Taken::kRefused) {
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
  set_bits(body.free, page, page + pages);
  forget_longest(superslab);
  heap.counters.mid_live_blocks.subtract(1);
  heap.counters.mid_live_bytes.subtract(pages * kPage);
}

bool resize_mid(Heap &heap, Superslab *superslab, unsigned page, unsigned pages) {
  MidBody &body = superslab->mid();
  unsigned old_pages = body.run_pages[page];
  if (pages > old_pages) {
    unsigned from = page + old_pages, to = page + pages;
    if (to > kPagesPerSuperslab || !superslab->head.claim.try_take()) return false;
    LimitTalk talk;
    bool free = PageSet::load(body.free).count(from, to) == to - from;
    bool taken = free && take_pages(heap, superslab, from, to, talk);
    superslab->head.claim.release();
    if (!taken) return false;
    heap.counters.mid_live_bytes.add((pages - old_pages) * kPage);
  } else if (pages < old_pages) {
    set_bits(body.free, page + pages, page + old_pages);
    forget_longest(superslab);
    heap.counters.mid_live_bytes.subtract((old_pages - pages) * kPage);
  }
  body.run_pages[page] = static_cast<uint16_t>(pages);
  return true;
}

size_t release_empty_mid(Heap &heap, size_t budget) {
  size_t given = 0;
  for (Superslab *s = heap.mid.first, *next; s != nullptr; s = next) {
    next = s->head.next;
    // Unclaimed: an allocation that asks the host about its limit may be in the middle of this superslab.
    if (s->head.claim.held() || s->head.remote.count.load(std::memory_order_relaxed) != 0) continue;
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
