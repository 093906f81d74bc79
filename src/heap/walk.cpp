#include "heap/walk.h"

#include <bit>

#include "heap/class_pattern.h"
#include "heap/front_cache.h"
#include "heap/large.h"
#include "heap/mid.h"
#include "heap/red_zone.h"
#include "heap/scatter.h"
#include "heap/slab.h"

namespace ace {
namespace {

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
      const bool has_list = has_cache(heap) || (is_current && !is_hardened);
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

}  // namespace

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
