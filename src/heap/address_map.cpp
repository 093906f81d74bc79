#include "heap/address_map.h"

namespace ace {

std::atomic<uint64_t> g_address_map[kAddressMapWords];

bool enter_address(const void *superslab) {
  uintptr_t unit = address_of(superslab) / kSuperslabSize;
  if (unit / 64 >= kAddressMapWords) return false;
  g_address_map[unit / 64].fetch_or(uint64_t{1} << unit % 64, std::memory_order_release);
  return true;
}

void leave_address(const void *superslab) {
  uintptr_t unit = address_of(superslab) / kSuperslabSize;
  g_address_map[unit / 64].fetch_and(~(uint64_t{1} << unit % 64), std::memory_order_release);
}

}  // namespace ace
