// Carving: free blocks of the current slab become its bin's allocation list, in address order; in a hardened
// heap: a word of them is scattered (heap/scatter.h).
#pragma once
#include "heap/limit.h"

namespace ace {

enum class Carved {
  kBlocks,  // the list holds some
  kNone,    // no free block ahead, or none worth taking now
  kRefused  // the limit was in the way, or the host was asked about it (LimitTalk)
};

// Fills the bin's empty list from its current slab, behind what was carved before. `prefer_partial`: do not
// take an absent page while another slab has holes in resident ones.
Carved carve(Heap &heap, unsigned bin, bool prefer_partial, LimitTalk &talk);

// The bin's window is empty and begins with the current slab's first block at `offset` or behind it. The list
// is empty.
void begin_window(Heap &heap, unsigned bin, uint32_t offset);

// Starts over at the current slab's first page, absent ones included. The list is empty.
void carve_absent_pages_too(Heap &heap, unsigned bin);

}  // namespace ace
