// Tiers: which superslabs of the tiny pool have free slabs, and which a refill takes them from. The seed
// paper's HOT, DRAINING and FREE, with its release guard.
#pragma once
#include "heap/heap.h"

namespace ace {

// Superslabs that have free slabs: those of tiers HOT and FREE in one list, DRAINING ones in another.
inline Superslab *&open_list(Heap &heap, Tier tier) { return heap.open[tier == Tier::kDraining ? 1 : 0]; }

// Takes a zeroed superslab into the heap, all its slabs free. `is_huge`: it is resident as one huge page.
void adopt_superslab(Heap &heap, Superslab *superslab, bool is_huge);

// One more from the shared pool. Returns a free slab of it with its claim taken, since purgers may look at a
// superslab as soon as it is listed; nullptr where the system has none.
SlabRow *add_superslab(Heap &heap);

// Where the heap may grow by a huge page, and has a superslab without blocks or resident pages, which can
// become none: gives that back and takes a new one. As add_superslab; nullptr where there is no such.
SlabRow *swap_for_huge(Heap &heap);

// Of what is resident and free, how much would come back as huge pages: empty superslabs, beyond the first 16
// MiB. The holder's.
uint64_t bytes_that_return_huge(const Heap &heap);

// A free slab of the superslab goes into use.
void take_slab(Heap &heap, SlabRow &row);

// A slab without live blocks becomes free; a superslab without slabs in use becomes FREE, and when more of them
// are spare than the release guard keeps, one goes back to the shared pool, unless somebody comes for it later
// (Heap::on_spare): `row` may be gone afterwards.
void give_slab(Heap &heap, SlabRow &row);

// Gives superslabs of tier FREE back to the shared pool, up to `budget` resident bytes, but for those that a
// visitor or a remote free is at. Returns the bytes.
size_t release_empty_superslabs(Heap &heap, size_t budget);

// Takes superslabs that are at most a quarter used out of the refill order, so that they empty.
void mark_draining(Heap &heap);

}  // namespace ace
