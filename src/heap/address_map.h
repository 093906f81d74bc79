// Which addresses are ours: a bit for each 2 MiB of the address space, so that any pointer can be judged
// without reading memory that is not ours. The untouched part of the maps costs address space only.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/bits.h"
#include "base/config.h"

namespace ace {

struct Heap;
struct Superslab;

inline constexpr size_t kAddressMapWords = (size_t{1} << kAddressBits) / kSuperslabSize / 64;
using AddressMap = std::atomic<uint64_t>[kAddressMapWords];

// Written when a mapping is made or ended; read by any thread. A thread that was handed a block has also been
// handed the sight of its bit, hence relaxed reads.
extern AddressMap g_address_map;
// Those 2 MiB of which we have the beginning alone, a large block's mapping. Others may have what lies behind,
// and ask about it while the mapping ends: nothing there is read but under a lock, which is_in_short_mapping
// takes.
extern AddressMap g_short_mappings;

inline bool has_bit(const AddressMap &map, const void *p) {
  uintptr_t unit = address_of(p) / kSuperslabSize;
  uintptr_t word = unit / 64;
  if (word >= kAddressMapWords) [[unlikely]]
    return false;
  return map[word].load(std::memory_order_relaxed) >> (unit % 64) & 1;
}

// In 2 MiB that are ours from end to end, so that their head may be read. Of a large block is_foreign knows.
inline bool is_ours(const void *p) { return has_bit(g_address_map, p); }
bool is_in_short_mapping(const void *p);

// Is `p`, which is not null, from elsewhere?
inline bool is_foreign(const void *p) {
  return !is_ours(p) && !(has_bit(g_short_mappings, p) && is_in_short_mapping(p));
}

// Whose heap's memory `p` points into, live block or not; nullptr where it is nobody's. Also where that ends in
// this moment: what `p` points to need not be there any more.
Heap *owner_at(const void *p);

// The superslab of the large block that `p`, which is_foreign, points into, behind the 2 MiB that the map tells
// of; nullptr where there is none, or it begins more than 8 GiB before. It may end in this moment. For misuse
// alone.
Superslab *large_around(const void *p);

// A mapping that begins with a superslab's head, of so many bytes. False where the address is beyond the map.
bool enter_address(const void *start, size_t mapped = kSuperslabSize);
// Before it ends.
void leave_address(const void *start);
// A large block's mapping has another end (SuperslabHead::mapped): before it is cut, after it has grown.
void move_end(Superslab *superslab, size_t mapped);

// Around fork.
void lock_address_map();
void unlock_address_map();

}  // namespace ace
