// The hot path: all that a typical allocation and free execute. No registry, lock, clock or statistics here;
// every rare case is one branch to a named function of warm.cpp or cold.cpp.
#pragma once
#include "base/size_class.h"
#include "front/gate.h"
#include "heap/heap.h"

namespace ace {

// warm.cpp
// `size` is what the allocation asks for, where it lies already: before the bin, to spare the hot path a move.
[[gnu::noinline]] void *allocate_after_refill(Heap &heap, size_t size, Bin &bin);
[[gnu::noinline]] void free_outside_window(Heap *heap, void *p);
[[gnu::noinline]] void free_sized_outside_window(Heap *heap, void *p, size_t size);
// What a sweep does all the time. `p` is a block of this heap.
void free_swept(Heap &heap, void *p, size_t size);
// Where p is foreign it is counted, and left alone: 0; or given to free_foreign.
[[gnu::noinline]] int try_free_outside_window(Heap &heap, void *p);
[[gnu::noinline]] void free_outside_window_or(Heap &heap, void *p, void (*free_foreign)(void *));
// Frees a block of a slab of another heap than the caller's (nullptr: it has none). False, with nothing done,
// where it is not surely a live one. `p` is ours.
bool free_into_others_slab(Heap *heap, void *p);
// Frees or reports whatever may come, null pointers and callers without a heap (nullptr) among it. `size`: what
// the caller says, or kUntold.
[[gnu::noinline]] void free_judged(Heap *heap, void *p, size_t size, const char *function);
[[gnu::noinline]] void free_suspect(Bin &bin, void *p);
// From a heap that is not a plain one: hardened, or ended.
[[gnu::noinline]] void *allocate_other(Heap &heap, size_t size, unsigned group);
// cold.cpp
[[gnu::noinline, gnu::cold]] void *allocate_rare(Heap &heap, size_t size, unsigned group);

// Can the bin's first listed block be issued? A block without the tag has been issued since, or written to, or
// who wrote to the one before has led the list there. With a front cache alone, whose lists lead anywhere.
inline bool is_sound(const Bin &bin) { return kFrontCache == 0 || bin.list->tag == &bin; }

// The bin's first listed block for its user; the list is not empty.
inline void *issue_from_list(Heap &heap, Bin &bin) {
  Block *block = bin.list;
  bin.list = block->next;
  block->tag = nullptr;
  if constexpr (kHeader != 0) {
    const auto offset = reinterpret_cast<std::byte *>(&bin) - reinterpret_cast<std::byte *>(heap.bins);
    block->next = reinterpret_cast<Block *>(offset);
  }
  return user_part(block);
}

// 14 instructions (x86-64, gcc 12), 3 loads, 2 stores, 2 branches; 6 more to choose the group of a kind.
inline void *allocate(Heap &heap, size_t size, unsigned group) {
  if constexpr (kRoutes == Routes::pool_only) return allocate_rare(heap, size, group);
  const size_t index = size - 1;  // a size of 0 becomes the largest number, and rare
  if (index >= kTinyMax - kHeader) [[unlikely]]
    return allocate_rare(heap, size, group);
  Bin &bin = bin_at(heap, kBinOffsetOf[(index + kHeader) / kGranule] + size_t{group * (kClasses * kBinSize)});
  if (bin.list == nullptr || !is_sound(bin)) [[unlikely]]
    return allocate_after_refill(heap, size, bin);
  return issue_from_list(heap, bin);
}

// As allocate where nothing stands in the way: nullptr, with nothing done, where it does. For callers who call
// no function but one in its stead, and so need no stack.
inline void *allocate_at_once(Heap &heap, size_t size) {
  const size_t index = size - 1;
  if (index >= kTinyMax - kHeader) [[unlikely]]
    return nullptr;
  Bin &bin = bin_at(heap, kBinOffsetOf[(index + kHeader) / kGranule]);
  if (bin.list == nullptr || !is_sound(bin)) [[unlikely]]
    return nullptr;
  return issue_from_list(heap, bin);
}

// Puts `p` back on the bin's list if it starts a block of the bin's window and is not on the list already.
// Nothing is read or written through `p` before its address has been proven.
inline bool push(Bin &bin, void *p) {
  if (!bin.has(p)) [[unlikely]]
    return false;
  auto *block = static_cast<Block *>(p);
  if (block->tag == &bin) [[unlikely]] {
    free_suspect(bin, p);
    return true;
  }
  block->tag = &bin;
  block->next = bin.list;
  bin.list = block;
  return true;
}

// 19 instructions for a block of a current slab: the class comes from the size, the window proves the rest. A
// block of another kind group, or one that was shrunk in place, lies in the window of another bin.
inline void free_sized(Heap &heap, void *p, size_t size) {
  const size_t index = size - 1;
  if (index < kTinyMax - kHeader) [[likely]] {
    if (push(bin_at(heap, kBinOffsetOf[(index + kHeader) / kGranule]), block_of(p))) [[likely]]
      return;
  }
  free_sized_outside_window(&heap, p, size);
}

// The same without a size: the bin comes from the address, and its window proves both.
inline bool push_by_address(Heap &heap, void *p) {
  if constexpr (kHeader != 0) {
    if (p == nullptr) return false;
    const auto offset = address_of(static_cast<Block *>(block_of(p))->next) % (kBins * kBinSize);
    return push(bin_at(heap, offset & ~uintptr_t{kBinSize - 1}), block_of(p));
  }
  return push(bin_at(heap, bin_of_slab(heap, address_of(p))), p);
}

// 17 instructions for a block of a current slab.
inline void free_block(Heap &heap, void *p) {
  if (push_by_address(heap, p)) [[likely]]
    return;
  free_outside_window(&heap, p);
}

}  // namespace ace
