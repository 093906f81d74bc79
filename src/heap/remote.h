// Remote frees: blocks that a thread gives back to a heap that it does not hold.
//
//   free     announce it: add 1 to the slab's count; who raises it from 0 publishes the slab, that is, pushes
//   it
//            onto the owner's queue. Then set the block's bit in the remote bitmap.
//   drain    the holder takes the whole queue. Of each slab it takes the count first, then the bits, which it
//            moves to the free bitmap; a bit that was announced and is not there yet keeps the slab in the
//            queue. Mid and large blocks are freed as if by the holder.
//   adopt    a heap whose thread has ended keeps its queue, and whoever becomes its holder drains it.
//
// Setting the bit is the last that a freeing thread does to a superslab: until the holder has found it, the
// block counts as used and the superslab stays. Nothing is written into the block, and a second remote free
// finds the bit set.
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
