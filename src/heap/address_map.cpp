#include "heap/address_map.h"

#include "heap/superslab.h"
#include "os/lock.h"

namespace ace {

AddressMap g_address_map, g_short_mappings;

namespace {

Lock g_short_lock;  // held where a bit of g_short_mappings is changed, or relied on

void set(AddressMap &map, uintptr_t unit) {
  map[unit / 64].fetch_or(uint64_t{1} << unit % 64, std::memory_order_release);
}
void clear(AddressMap &map, uintptr_t unit) {
  map[unit / 64].fetch_and(~(uint64_t{1} << unit % 64), std::memory_order_release);
}

}  // namespace

bool is_in_short_mapping(const void *p) {
  Locked locked(g_short_lock);
  return has_bit(g_short_mappings, p) && address_of(p) % kSuperslabSize < superslab_of(p)->head.mapped;
}

bool enter_address(const void *start, size_t mapped) {
  const uintptr_t unit = address_of(start) / kSuperslabSize;
  if (unit / 64 >= kAddressMapWords) return false;
  if (mapped >= kSuperslabSize) {
    set(g_address_map, unit);
  } else {
    Locked locked(g_short_lock);
    set(g_short_mappings, unit);
  }
  return true;
}

void leave_address(const void *start) {
  const uintptr_t unit = address_of(start) / kSuperslabSize;
  if (is_ours(start)) return clear(g_address_map, unit);
  Locked locked(g_short_lock);
  clear(g_short_mappings, unit);
}

void move_end(Superslab *superslab, size_t mapped) {
  const uintptr_t unit = address_of(superslab) / kSuperslabSize;
  const bool was_short = superslab->head.mapped < kSuperslabSize, is_short = mapped < kSuperslabSize;
  Locked locked(g_short_lock);
  superslab->head.mapped = mapped;
  if (was_short == is_short) return;
  // Another thread that holds the block finds it in one of them at any time.
  set(is_short ? g_short_mappings : g_address_map, unit);
  clear(is_short ? g_address_map : g_short_mappings, unit);
}

void lock_address_map() { g_short_lock.lock(); }
void unlock_address_map() { g_short_lock.unlock(); }

}  // namespace ace
