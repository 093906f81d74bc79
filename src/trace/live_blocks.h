// The blocks that live, by their addresses. For tools that read a trace; not a part of the core.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ace::trace {

// Open addressing with linear probing, at most half full.
template <typename Value>
class LiveBlocks {
 public:
  LiveBlocks() : places_(size_t{1} << kFirstBits), shift_(64 - kFirstBits) {}

  size_t size() const { return size_; }

  // Where it is there already, the former value is lost.
  void put(uint64_t address, Value value) {
    if (2 * size_ >= places_.size()) grow();
    Place &place = places_[find(address)];
    size_ += place.address == 0;
    place = {address, value};
  }

  // nullptr where it is not there. Valid until the next change.
  Value *get(uint64_t address) {
    Place &place = places_[find(address)];
    return place.address == 0 ? nullptr : &place.value;
  }

  // Removes what get has found.
  void remove(uint64_t address) {
    size_t hole = find(address);
    if (places_[hole].address == 0) return;
    // What follows and would not be found any more moves up.
    for (size_t next = after(hole); places_[next].address != 0; next = after(next)) {
      const size_t mask = places_.size() - 1, home = home_of(places_[next].address);
      if (((next - home) & mask) < ((next - hole) & mask)) continue;
      places_[hole] = places_[next];
      hole = next;
    }
    places_[hole].address = 0;
    --size_;
  }

 private:
  struct Place {
    uint64_t address = 0;  // 0: none
    Value value{};
  };
  static constexpr unsigned kFirstBits = 12;

  size_t home_of(uint64_t address) const {
    return static_cast<size_t>((address >> 3) * 0x9e3779b97f4a7c15u >> shift_);
  }
  size_t after(size_t place) const { return (place + 1) & (places_.size() - 1); }
  size_t find(uint64_t address) const {
    size_t i = home_of(address);
    while (places_[i].address != 0 && places_[i].address != address) i = after(i);
    return i;
  }
  void grow() {
    std::vector<Place> old(places_.size() * 2);
    old.swap(places_);
    --shift_;
    size_ = 0;
    for (const Place &place : old) {
      if (place.address != 0) put(place.address, place.value);
    }
  }

  std::vector<Place> places_;
  unsigned shift_;
  size_t size_ = 0;
};

}  // namespace ace::trace
