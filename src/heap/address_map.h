// Which superslabs are ours: a bit for each 2 MiB of the address space, so that any pointer can be judged
// without reading memory that is not ours. The untouched part of the map costs address space only.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/bits.h"
#include "base/config.h"

namespace ace {

inline constexpr size_t kAddressMapWords = (size_t{1} << kAddressBits) / kSuperslabSize / 64;

// Written when a superslab is made or ended; read by any thread. A thread that was handed a block has also
// been handed the sight of its bit, hence relaxed reads.
extern std::atomic<uint64_t> g_address_map[kAddressMapWords];

// In 2 MiB of ours; for what may be of others beside a large block there, see is_foreign (front/gate.h).
inline bool is_ours(const void *p) {
  uintptr_t unit = address_of(p) / kSuperslabSize;
  uintptr_t word = unit / 64;
  if (word >= kAddressMapWords) [[unlikely]]
    return false;
  return g_address_map[word].load(std::memory_order_relaxed) >> (unit % 64) & 1;
}

// False where the address is beyond the map.
bool enter_address(const void *superslab);
void leave_address(const void *superslab);

}  // namespace ace
