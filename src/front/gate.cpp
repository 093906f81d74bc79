#include "front/gate.h"

#include "heap/scatter.h"

namespace ace {
namespace {

Route tiny_route(Superslab *superslab, const void *p) {
  Route route{0, Pool::kTiny, superslab, nullptr, 0, 0, nullptr, nullptr};
  unsigned index = slab_index_of(p);
  uint32_t offset = offset_in_slab(p) - kHeader;
  route.fault = ACE_ERROR_NOT_ALLOCATED;
  if (index == 0) return route;
  route.row = &superslab->row(index);
  const SlabPrefix &prefix = route.row->prefix;
  if (prefix.pool != Pool::kTiny || offset >= blocks_end(prefix)) return route;
  route.owner = prefix.owner;
  route.size = block_size_of(prefix) - kHeader;
  const uint32_t start = offset - offset % block_size_of(prefix);
  route.index = granule_of(start);
  route.block = user_part(superslab->slab(index) + start);
  route.fault = offset == start ? 0 : ACE_ERROR_INTERIOR;
  return route;
}

// The page that the run starts at which `page` lies in; 0 where it lies in none.
unsigned run_around(const MidBody &body, unsigned page) {
  for (unsigned start = page; start >= kMidFirstPage; --start) {
    if (body.run_pages[start] != 0) return start + body.run_pages[start] > page ? start : 0;
  }
  return 0;
}

Route mid_route(Superslab *superslab, const void *p) {
  const unsigned page = page_index_of(p);
  MidBody &body = superslab->mid();
  Heap *owner = superslab->head.prefix.owner;
  const unsigned start = run_around(body, page);
  if (start != 0) {
    const bool is_start = start == page && address_of(p) % kPage == 0;
    return {is_start ? 0 : ACE_ERROR_INTERIOR,
            Pool::kMid,
            superslab,
            nullptr,
            start,
            body.run_pages[start] * kPage,
            owner,
            superslab->page(start)};
  }
  // Of a run that ended here nothing is left but its free pages: most likely a second free.
  const bool free = body.free[page / 64].load(std::memory_order_relaxed) >> page % 64 & 1;
  const int fault = page < kMidFirstPage                 ? ACE_ERROR_NOT_ALLOCATED
                    : free && address_of(p) % kPage == 0 ? ACE_ERROR_DOUBLE_FREE
                                                         : ACE_ERROR_INTERIOR;
  return {fault, Pool::kMid, superslab, nullptr, page, 0, owner, nullptr};
}

Route large_route(Superslab *superslab, const void *p) {
  Route route{0,
              Pool::kLarge,
              superslab,
              nullptr,
              0,
              large_block_size(superslab),
              superslab->head.prefix.owner,
              large_block(superslab)};
  if (p != route.block) route.fault = ACE_ERROR_INTERIOR;
  if (address_of(p) < address_of(route.block)) route.block = nullptr;  // its head
  return route;
}

}  // namespace

Route route(const void *p) {
  constexpr Route kForeign{ACE_ERROR_FOREIGN, Pool::kNone, nullptr, nullptr, 0, 0, nullptr, nullptr};
  if (p == nullptr) return kForeign;
  if (is_foreign(p)) {
    Superslab *around = large_around(p);
    return around == nullptr ? kForeign : large_route(around, p);
  }
  Superslab *superslab = superslab_of(p);
  switch (superslab->head.prefix.pool) {
    case Pool::kTiny:
      return tiny_route(superslab, p);
    case Pool::kMid:
      return mid_route(superslab, p);
    case Pool::kLarge:
      return large_route(superslab, p);
    case Pool::kNone:
      break;
  }
  return kForeign;
}

bool has_free_bit(const Route &route) {
  auto bit = [](const BitmapWord &word, unsigned n) {
    return (word.load(std::memory_order_relaxed) >> n % 64 & 1) != 0;
  };
  switch (route.pool) {
    case Pool::kTiny: {
      const unsigned slab = route.row->prefix.index, word = route.index / 64;
      return bit(route.superslab->free_bits[slab][word], route.index) ||
             bit(route.superslab->remote_bits[slab][word], route.index);
    }
    case Pool::kMid:
      return bit(route.superslab->mid().remote[route.index / 64], route.index);
    case Pool::kLarge:
      return route.superslab->head.remote.words.load(std::memory_order_relaxed) != 0;
    case Pool::kNone:
      break;
  }
  return false;
}

bool is_free(const Route &route, const void *p) {
  if (has_free_bit(route)) return true;
  if (route.pool != Pool::kTiny) return false;
  // About to be issued. In a hardened heap it is zero, and a live block has its seal; else it is on an
  // allocation list: the tag is there as long as the block is, and no longer.
  if (route.owner->nature == Nature::kHardened) return is_wiped(*route.owner, p, route.size);
  return shared_tag(block_of(p)) == &route.owner->bins[route.row->prefix.bin];
}

bool is_free_here(const Heap *caller, const Route &route, const void *p) {
  if (route.owner != caller || route.pool != Pool::kTiny) return is_free(route, p);
  const Bin &bin = caller->bins[route.row->prefix.bin];
  if (caller->nature == Nature::kHardened) {
    const bool is_current = route.row->prefix.state == SlabState::kCurrent;
    return has_free_bit(route) || (is_current && is_scattered(bin, p));
  }
  return is_free(route, p);
}

}  // namespace ace
