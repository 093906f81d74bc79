// Warm: what the hot path calls when a list runs dry, and frees that do not go onto a list.
#include "front/hot.h"
#include "heap/remote.h"
#include "heap/slab.h"

namespace ace {
namespace {

// A block of another heap, or of a heap whose holder the caller is not.
void free_remote(Heap *caller, void *p, const Route &route) {
  bool marked = false;
  if (!is_free(route, p)) {
    switch (route.pool) {
      case Pool::kTiny:
        marked = free_remote_tiny(*route.row, route.index);
        break;
      case Pool::kMid:
        marked = free_remote_mid(route.superslab, route.index);
        break;
      case Pool::kLarge:
        marked = free_remote_large(route.superslab);
        break;
      case Pool::kNone:
        break;
    }
  }
  if (!marked) return report_misuse(ACE_ERROR_DOUBLE_FREE, "free", p, route);
  if (caller != nullptr && !caller->is_thread_heap) caller->counters.misrouted_pointers.add_shared(1);
}

void free_local(Heap &heap, void *p, const Route &route) {
  switch (route.pool) {
    case Pool::kTiny:
      if (push(heap, heap.bins[route.row->prefix.bin], p)) return;
      if (!free_to_bitmap(heap, route.superslab, *route.row, route.index)) {
        report_misuse(ACE_ERROR_DOUBLE_FREE, "free", p, route);
      }
      return;
    case Pool::kMid:
    case Pool::kLarge:
      // Another thread may have freed it, and the holder not yet taken it over.
      if (is_free(route, p)) return report_misuse(ACE_ERROR_DOUBLE_FREE, "free", p, route);
      if (route.pool == Pool::kMid) return free_mid(heap, route.superslab, route.index);
      return free_large(heap, route.superslab);
    case Pool::kNone:
      return;
  }
}

}  // namespace

void *allocate_after_refill(Heap &heap, Bin &bin) {
  if (!refill_bin(heap, bin_index(heap, bin))) return nullptr;
  Block *block = bin.list;
  bin.list = block->next;
  block->tag = 0;
  return block;
}

// `heap` is the caller's, nullptr where it has none. Null pointers come here as well.
void free_outside_window(Heap *heap, void *p) {
  // First what a sweep does all the time: a block of this heap, in a slab that is not current.
  if (is_ours(p)) [[likely]] {
    SlabPrefix &prefix = prefix_of(p);
    uint32_t offset = offset_in_slab(p);
    // A prefix without a reciprocal (a head, a slab never assigned) starts no block.
    if (prefix.owner == heap && starts_block(offset, prefix.reciprocal)) [[likely]] {
      auto &row = reinterpret_cast<SlabRow &>(prefix);
      Bin &bin = heap->bins[prefix.bin];
      if (address_of(p) - bin.base >= bin.window && offset < blocks_end(prefix)) [[likely]] {
        if (free_to_bitmap(*heap, superslab_of(p), row, granule_of(offset))) [[likely]]
          return;
      }
    }
  }
  if (p == nullptr) return;
  Route way = route(p);
  if (way.fault != 0) return report_misuse(way.fault, "free", p, way);
  if (way.owner == heap) return free_local(*heap, p, way);
  free_remote(heap, p, way);
}

// The block carries the tag of a free one: on the list it is freed twice; otherwise its owner wrote the tag.
void free_suspect(Bin &bin, void *p) {
  if (is_on_list(bin, p)) return report_misuse(ACE_ERROR_DOUBLE_FREE, "free", p, route(p));
  auto *block = static_cast<Block *>(p);
  block->next = bin.list;
  bin.list = block;
}

}  // namespace ace
