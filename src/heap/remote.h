// Remote frees: blocks that a thread gives back to a heap that it does not hold.
//
//   free     set the block's bit in the remote bitmap. Whoever sets the first bit of a word also announces
//            the word, in the slab's link; whoever announces the first word also publishes the link, that is,
//            pushes it onto the owner's queue.
//   drain    the holder takes the whole queue. Of each slab it takes the announced words first, then their
//            bits, which it moves to the free bitmap. Mid and large blocks are freed as if by the holder.
//   adopt    a heap whose thread has ended keeps its queue, and whoever becomes its holder drains it.
//
// Bits of a word that is not announced are left alone, and their blocks count as used. So the superslab stays
// until the last that a freeing thread does to it is done: to set a further bit, to announce a further word, or
// to publish. A second remote free finds the bit set, and one by the holder the tag that a listed block has,
// which is all that is written into the block (into none of a hardened heap's: those are wiped); a free into
// the bitmap is seen at the drain. Two threads that free a block in the very same moment are not seen.
//
//   send     in libace-malloc.so a thread gathers the bits of a word and sets them by one instruction, once it
//            frees a block of another word, or needs memory itself. Until then the block has its tag and counts
//            as used; whoever finds the tag asks is_being_sent.
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

// As free_remote_tiny, for a block of another thread's heap that carries no tag: told with others. The holder's
// of `heap`.
bool gather_remote_free(Heap &heap, SlabRow &row, void *block);
void send_remote_frees(Heap &heap);
// Has the holder of `heap` freed the block, and not told yet?
bool has_gathered(const Heap &heap, const void *block);
// Has any thread freed the block and not told yet, or told a moment ago? It may have been issued since. Any
// thread.
bool is_being_sent(const void *block);

// Takes over all that is in the queue. The holder's.
void drain_remote_frees(Heap &heap);

}  // namespace ace
