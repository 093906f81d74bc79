#include "heap/address_map.h"

#include "heap/superslab.h"
#include "os/lock.h"

namespace ace {

AddressMap g_address_map, g_short_mappings;

namespace {

// Held where a bit of g_short_mappings is changed, and where any bit is taken back: under it, what a bit tells
// of is there.
Lock g_map_lock;

void set(AddressMap &map, uintptr_t unit) {
  map[unit / 64].fetch_or(uint64_t{1} << unit % 64, std::memory_order_release);
}
void clear(AddressMap &map, uintptr_t unit) {
  map[unit / 64].fetch_and(~(uint64_t{1} << unit % 64), std::memory_order_release);
}

// The lock is held.
bool lies_in_short_mapping(const void *p) {
  return has_bit(g_short_mappings, p) && address_of(p) % kSuperslabSize < superslab_of(p)->head.mapped;
}

}  // namespace

bool is_in_short_mapping(const void *p) {
  Locked locked(g_map_lock);
  return lies_in_short_mapping(p);
}

Heap *owner_at(const void *p) {
  if (!is_ours(p) && !has_bit(g_short_mappings, p)) return nullptr;
  Locked locked(g_map_lock);
  return is_ours(p) || lies_in_short_mapping(p) ? superslab_of(p)->head.prefix.owner : nullptr;
}

Superslab *large_around(const void *p) {
  constexpr unsigned kWords = 64;
  const uintptr_t unit = address_of(p) / kSuperslabSize;
  uintptr_t word = unit / 64;
  if (word >= kAddressMapWords) return nullptr;
  Locked locked(g_map_lock);
  uint64_t bits = g_address_map[word].load(std::memory_order_acquire) & low_bits(unit % 64);
  for (unsigned looked = 1; bits == 0; ++looked) {
    if (looked == kWords || word == 0) return nullptr;
    bits = g_address_map[--word].load(std::memory_order_acquire);
  }
  const uintptr_t start = (word * 64 + std::bit_width(bits) - 1) * kSuperslabSize;
  auto *superslab = reinterpret_cast<Superslab *>(start);
  const bool is_in =
      superslab->head.prefix.pool == Pool::kLarge && address_of(p) - start < superslab->head.mapped;
  return is_in ? superslab : nullptr;
}

bool enter_address(const void *start, size_t mapped) {
  const uintptr_t unit = address_of(start) / kSuperslabSize;
  if (unit / 64 >= kAddressMapWords) return false;
  if (mapped >= kSuperslabSize) {
    set(g_address_map, unit);
  } else {
    Locked locked(g_map_lock);
    set(g_short_mappings, unit);
  }
  return true;
}

void leave_address(const void *start) {
  const uintptr_t unit = address_of(start) / kSuperslabSize;
  Locked locked(g_map_lock);
  clear(is_ours(start) ? g_address_map : g_short_mappings, unit);
}

void move_end(Superslab *superslab, size_t mapped) {
  const uintptr_t unit = address_of(superslab) / kSuperslabSize;
  const bool was_short = superslab->head.mapped < kSuperslabSize, is_short = mapped < kSuperslabSize;
  Locked locked(g_map_lock);
  superslab->head.mapped = mapped;
  if (was_short == is_short) return;
  // Another thread that holds the block finds it in one of them at any time.
  set(is_short ? g_short_mappings : g_address_map, unit);
  clear(is_short ? g_address_map : g_short_mappings, unit);
}

void lock_address_map() { g_map_lock.lock(); }
void unlock_address_map() { g_map_lock.unlock(); }

}  // namespace ace
