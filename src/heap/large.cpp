#include "heap/large.h"

#include <algorithm>

#include "heap/address_map.h"
#include "os/os.h"

namespace ace {
namespace {

size_t mapping_size(size_t offset, size_t size) { return round_up(offset + size, os().page_size); }

// A mapping for a block of `size` bytes at `offset`, with its head filled in; nullptr where there is none.
Superslab *map_large(Heap &heap, size_t size, size_t offset) {
  size_t mapped = mapping_size(offset, size);
  auto *superslab = static_cast<Superslab *>(os().map(mapped, kSuperslabSize));
  if (superslab == nullptr) {
    heap.counters.system_failures.add(1);
    return nullptr;
  }
  SuperslabHead &head = superslab->head;
  head.prefix.pool = Pool::kLarge;
  head.prefix.owner = &heap;
  head.block_offset = static_cast<uint32_t>(offset);
  head.mapped = mapped;
  if (!enter_address(superslab)) {
    os().unmap(superslab, mapped);
    return nullptr;
  }
  return superslab;
}

void link_large(Heap &heap, Superslab *superslab) {
  link_superslab(heap, heap.large, superslab);
  heap.counters.large_live_blocks.add(1);
  heap.counters.large_live_bytes.add(large_block_size(superslab));
  heap.counters.mapped_bytes.add(superslab->head.mapped);
  heap.counters.metadata_bytes.add(kPage);
}

void unlink_large(Heap &heap, Superslab *superslab) {
  unlink_superslab(heap, heap.large, superslab);  // large superslabs are never pinned: purgers pass them over
  heap.counters.large_live_blocks.subtract(1);
  heap.counters.large_live_bytes.subtract(large_block_size(superslab));
  heap.counters.mapped_bytes.subtract(superslab->head.mapped);
  heap.counters.metadata_bytes.subtract(kPage);
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

void *allocate_large(Heap &heap, size_t size, size_t alignment) {
  size_t offset = std::max(kPage, alignment);
  size_t block_size = mapping_size(offset, size) - offset;
  if (!granted(heap, block_size)) return nullptr;
  Superslab *superslab = map_large(heap, size, offset);
  if (superslab == nullptr) return nullptr;
  link_large(heap, superslab);
  count_faulted(heap, block_size);
  return large_block(superslab);
}

void free_large(Heap &heap, Superslab *superslab) {
  size_t mapped = superslab->head.mapped, block_size = large_block_size(superslab);
  unlink_large(heap, superslab);
  heap.counters.released_bytes.add(block_size);
  leave_address(superslab);
  os().unmap(superslab, mapped);
}

void *resize_large(Heap &heap, Superslab *superslab, size_t size) {
  const size_t offset = superslab->head.block_offset;
  const size_t old_size = large_block_size(superslab), old_mapped = superslab->head.mapped;
  const size_t new_mapped = mapping_size(offset, size), new_size = new_mapped - offset;
  if (new_size == old_size) return large_block(superslab);
  if (new_size > old_size && !granted(heap, new_size - old_size)) return nullptr;

  if (os().resize(superslab, old_mapped, new_mapped)) {
    unlink_large(heap, superslab);
    superslab->head.mapped = new_mapped;
    link_large(heap, superslab);
  } else {
    if (new_size < old_size) return large_block(superslab);  // what the system will not take back stays
    Superslab *target = map_large(heap, size, offset);
    if (target == nullptr) return nullptr;
    if (!os().move(large_block(superslab), old_size, large_block(target))) {
      leave_address(target);
      os().unmap(target, new_mapped);
      return nullptr;
    }
    unlink_large(heap, superslab);
    leave_address(superslab);
    os().unmap(superslab, offset);
    link_large(heap, target);
    superslab = target;
  }
  if (new_size > old_size) {
    count_faulted(heap, new_size - old_size);
  } else {
    heap.counters.released_bytes.add(old_size - new_size);
  }
  return large_block(superslab);
}

}  // namespace ace
