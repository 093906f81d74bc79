#include "front/gate.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "heap/heap.h"
#include "wire/options.h"

namespace ace {
namespace {

// The context is written before its handler, and read after it.
std::atomic<ace_error_fn> g_handler;
std::atomic<void *> g_handler_context;

Route tiny_route(Superslab *superslab, const void *p) {
  Route route{0, Pool::kTiny, superslab, nullptr, 0, 0, nullptr};
  unsigned index = slab_index_of(p);
  uint32_t offset = offset_in_slab(p) - kHeader;
  route.fault = ACE_ERROR_NOT_ALLOCATED;
  if (index == 0) return route;
  route.row = &superslab->row(index);
  const SlabPrefix &prefix = route.row->prefix;
  if (prefix.pool != Pool::kTiny || offset >= blocks_end(prefix)) return route;
  route.owner = prefix.owner;
  route.size = prefix.block_size - kHeader;
  route.index = granule_of(offset);
  route.fault = starts_block(prefix, offset) ? 0 : ACE_ERROR_INTERIOR;
  return route;
}

Route mid_route(Superslab *superslab, const void *p) {
  unsigned page = page_index_of(p);
  MidBody &body = superslab->mid();
  Route route{
      0, Pool::kMid, superslab, nullptr, page, body.run_pages[page] * kPage, superslab->head.prefix.owner};
  if (route.size == 0 || address_of(p) % kPage != 0) {
    // Of a run that ended here nothing is left but its free pages: most likely a second free.
    bool free = body.free[page / 64].load(std::memory_order_relaxed) >> page % 64 & 1;
    bool aligned = address_of(p) % kPage == 0;
    route.fault = page < kMidFirstPage ? ACE_ERROR_NOT_ALLOCATED
                  : free && aligned    ? ACE_ERROR_DOUBLE_FREE
                                       : ACE_ERROR_INTERIOR;
  }
  return route;
}

Route large_route(Superslab *superslab, const void *p) {
  Route route{
      0, Pool::kLarge, superslab, nullptr, 0, large_block_size(superslab), superslab->head.prefix.owner};
  if (p != large_block(superslab)) route.fault = ACE_ERROR_INTERIOR;
  return route;
}

const char *message_of(int code) {
  switch (code) {
    case ACE_ERROR_DOUBLE_FREE:
      return "the block is free already";
    case ACE_ERROR_INTERIOR:
      return "the pointer does not point to the start of a block";
    case ACE_ERROR_FOREIGN:
      return "the pointer is not from this allocator, or its heap was destroyed";
    case ACE_ERROR_SIZE_MISMATCH:
      return "the size given cannot belong to the block";
    default:
      return "no block was ever handed out at this address";
  }
}

}  // namespace

Route route(const void *p) {
  if (p == nullptr || is_foreign(p))
    return Route{ACE_ERROR_FOREIGN, Pool::kNone, nullptr, nullptr, 0, 0, nullptr};
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
  return Route{ACE_ERROR_FOREIGN, Pool::kNone, nullptr, nullptr, 0, 0, nullptr};
}

bool is_free(const Route &route, const void *p) {
  auto bit = [](const BitmapWord &word, unsigned n) {
    return word.load(std::memory_order_relaxed) >> n % 64 & 1;
  };
  switch (route.pool) {
    case Pool::kTiny: {
      unsigned slab = route.row->prefix.index, word = route.index / 64;
      if (bit(route.superslab->free_bits[slab][word], route.index)) return true;
      if (bit(route.superslab->remote_bits[slab][word], route.index)) return true;
      // On an allocation list: the tag is there as long as the block is, and no longer.
      return static_cast<const Block *>(block_of(p))->tag == &route.owner->bins[route.row->prefix.bin];
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

void set_misuse_handler(ace_error_fn handler, void *context) {
  g_handler_context.store(context, std::memory_order_relaxed);
  g_handler.store(handler, std::memory_order_release);
}

void report_misuse(int code, const char *function, const void *p, const Route &route) {
  if (ace_error_fn handler = g_handler.load(std::memory_order_acquire); handler != nullptr) {
    ace_error error{static_cast<ace_error_code>(code),         message_of(code), function, p, route.size,
                    static_cast<const ace_heap *>(route.owner)};
    handler(&error, g_handler_context.load(std::memory_order_relaxed));
    return;
  }
  char line[256];
  int n = snprintf(line, sizeof line, "ace: %s(%p): %s", function, p, message_of(code));
  if (route.size != 0 && n < 200) n += snprintf(line + n, sizeof line - n, "; block size %zu", route.size);
  if (route.owner != nullptr && n < 200)
    n += snprintf(line + n, sizeof line - n, ", heap \"%s\"", route.owner->name);
  n += snprintf(line + n, sizeof line - n, "\n");
  (void)!write(STDERR_FILENO, line, n);
  if (options().abort_on_bad_pointer) abort();
}

}  // namespace ace
