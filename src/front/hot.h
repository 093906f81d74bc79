// The hot path: all that a typical allocation and free execute. No registry, lock, clock or statistics here;
// every rare case is one branch to a named function of warm.cpp or cold.cpp.
#pragma once
#include "base/size_class.h"
#include "front/gate.h"
#include "heap/heap.h"

namespace ace {

// warm.cpp
[[gnu::noinline]] void *allocate_after_refill(Heap &heap, Bin &bin);
[[gnu::noinline]] void free_outside_window(Heap *heap, void *p);
[[gnu::noinline]] void free_suspect(Bin &bin, void *p);
// cold.cpp
[[gnu::noinline, gnu::cold]] void *allocate_rare(Heap &heap, size_t size, unsigned group);
[[gnu::noinline]] void free_sized_outside_window(Heap *heap, void *p, size_t size);

// 15 instructions (x86-64, gcc 12), 3 loads, 2 stores, 2 branches.
inline void *allocate(Heap &heap, size_t size, unsigned group) {
  const size_t index = size - 1;  // a size of 0 becomes the largest number, and rare
  if (index >= kTinyMax) [[unlikely]]
    return allocate_rare(heap, size, group);
  Bin &bin = heap.bins[group * kClasses + kClassOf[index / kGranule]];
  Block *block = bin.list;
  if (block == nullptr) [[unlikely]]
    return allocate_after_refill(heap, bin);
  bin.list = block->next;
  block->tag = 0;
  return block;
}

// Puts `p` back on its bin's list if it starts a block in the bin's window and is not on the list already.
// Nothing is read or written through `p` before its address has been proven.
inline bool push(Heap &heap, Bin &bin, void *p) {
  if (address_of(p) - bin.base >= bin.window) [[unlikely]]
    return false;
  if (!starts_block(offset_in_slab(p), bin.reciprocal)) [[unlikely]]
    return false;
  auto *block = static_cast<Block *>(p);
  if (block->tag == heap.cookie) [[unlikely]] {
    free_suspect(bin, p);
    return true;
  }
  block->tag = heap.cookie;
  block->next = bin.list;
  bin.list = block;
  return true;
}

// 27 instructions for a block of a current slab: the class comes from the size, the window proves the rest. A
// block of another kind group, or one that was shrunk in place, lies in the window of another bin.
inline void free_sized(Heap &heap, void *p, size_t size) {
  const size_t index = size - 1;
  if (index < kTinyMax) [[likely]] {
    if (push(heap, heap.bins[kClassOf[index / kGranule]], p)) [[likely]]
      return;
  }
  free_sized_outside_window(&heap, p, size);
}

// As free_sized, with the class from the slab's prefix, once the address map says that there is one: 38
// instructions.
inline void free_block(Heap &heap, void *p) {
  if (is_ours(p)) [[likely]] {
    if (push(heap, heap.bins[prefix_of(p).bin], p)) [[likely]]
      return;
  }
  free_outside_window(&heap, p);
}

}  // namespace ace
