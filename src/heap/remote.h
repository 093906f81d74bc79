// Remote frees: blocks that a thread gives back to a heap that it does not hold.
//
//   free:    set the block's bit in the remote bitmap; if its slab is not published, publish it:
//            push the slab onto the owner's queue
//   drain:   the holder takes the whole queue, un-publishes each slab and moves its remote bits to its
//            free bitmap; mid and large blocks are freed as if by the holder
//   adopt:   a heap whose thread has ended keeps its queue, and whoever becomes its holder drains it
//
// Nothing is written into the block, and a second remote free finds the bit set.
#pragma once
#include "heap/heap.h"

namespace ace {

inline bool has_remote_frees(const Heap &heap) {
  return heap.remote.first.load(std::memory_order_relaxed) != nullptr;
}

// Each marks a block, whose start has been proven, as freed; false where it was marked already. Any thread.
bool free_remote_tiny(SlabRow &row, unsigned granule);
bool free_remote_mid(Superslab *superslab, unsigned page);
bool free_remote_large(Superslab *superslab);

// Takes over all that is in the queue. The holder's.
void drain_remote_frees(Heap &heap);

}  // namespace ace
