// What is done with a list of slabs: SlabList in heap.h, linked through SlabRow. The holder's.
#pragma once
#include "heap/heap.h"

namespace ace {

// How many slabs are looked at when purgers hold the first ones.
inline constexpr unsigned kClaimTries = 8;

inline void prepend(SlabList &list, SlabRow &row) {
  row.previous = nullptr;
  row.next = list.first;
  (row.next != nullptr ? row.next->previous : list.last) = &row;
  list.first = &row;
}

inline void append(SlabList &list, SlabRow &row) {
  row.next = nullptr;
  row.previous = list.last;
  (row.previous != nullptr ? row.previous->next : list.first) = &row;
  list.last = &row;
}

inline void remove(SlabList &list, SlabRow &row) {
  (row.previous != nullptr ? row.previous->next : list.first) = row.next;
  (row.next != nullptr ? row.next->previous : list.last) = row.previous;
}

// The first whose claim can be taken; it leaves the list. nullptr: none of the first few.
inline SlabRow *claim_listed(SlabList &list) {
  unsigned tries = kClaimTries;
  for (SlabRow *row = list.first; row != nullptr && tries != 0; row = row->next, --tries) {
    if (!row->claim.try_take()) continue;
    remove(list, *row);
    return row;
  }
  return nullptr;
}

}  // namespace ace
