// The gate: where a pointer from outside is judged and routed. It trusts the address map and the slab's prefix
// only, and says what a pointer is without reading through it.
#pragma once
#include "ace/ace.h"
#include "heap/address_map.h"
#include "heap/large.h"
#include "heap/mid.h"
#include "heap/superslab.h"

namespace ace {

// Of a pointer that is_ours: the prefix of its slab, or of its superslab's head.
inline SlabPrefix &prefix_of(const void *p) {
  if constexpr (kTailPrefix) {
    Superslab *superslab = superslab_of(p);
    const unsigned index = slab_index_of(p);
    const bool has_row = index != 0 && superslab->head.prefix.pool == Pool::kTiny;
    return has_row ? superslab->row(index).prefix : superslab->head.prefix;
  }
  auto *head = reinterpret_cast<std::byte *>(superslab_of(p));
  return *reinterpret_cast<SlabPrefix *>(head + slab_index_of(p) * sizeof(SlabRow));
}

// What a pointer is. `fault` is 0 where it starts a block that was handed out once; whether that block is
// still live the bitmaps know (heap/slab.h, heap/remote.h).
struct Route {
  int fault;  // an ace_error_code
  Pool pool;
  Superslab *superslab;
  SlabRow *row;    // tiny pool
  unsigned index;  // granule in the slab (tiny), page in the superslab (mid), of the block's start
  size_t size;     // usable bytes; of a hardened heap: with its seal (heap/red_zone.h)
  Heap *owner;
  const void *block;  // that the pointer lies in, or lay in; nullptr where that is unknown
};

Route route(const void *p);

// Is the block at `p`, to which the route leads, free already, as far as a bit tells?
bool has_free_bit(const Route &route);
// ... or its tag, or in a hardened heap that it was wiped?
bool is_free(const Route &route, const void *p);
// The same where the caller may be the holder, who knows of a hardened heap's blocks exactly.
bool is_free_here(const Heap *caller, const Route &route, const void *p);

}  // namespace ace
