// The process's memory as the replay sees it, without taking any of the allocator that is measured: what the
// replay needs itself lies in shared mappings, which the system counts apart.
#pragma once
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <new>

namespace ace::replay {

// An array of zeroed values, resident from the beginning.
template <class Value>
class Room {
 public:
  explicit Room(size_t count) : count_(count) {
    if (count == 0) return;
    void *memory = mmap(nullptr, count * sizeof(Value), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    values_ = static_cast<Value *>(memory);
  }
  ~Room() {
    if (values_ != nullptr) munmap(values_, count_ * sizeof(Value));
  }
  Room(Room &&other) noexcept : values_(other.values_), count_(other.count_) { other.values_ = nullptr; }
  Room(const Room &) = delete;
  Room &operator=(Room &&) = delete;
  Value &operator[](size_t i) { return values_[i]; }
  const Value &operator[](size_t i) const { return values_[i]; }
  size_t size() const { return count_; }
  size_t bytes() const { return count_ * sizeof(Value); }

 private:
  Value *values_ = nullptr;
  size_t count_;
};

// What is resident, and how much of it is private: what allocators hold.
struct Resident {
  uint64_t all, anonymous;
};
Resident resident_bytes();

// The resident pages that were there before anything was replayed.
struct PagesOfBefore {
  static constexpr size_t kMost = size_t{1} << 14;
  Room<uintptr_t> pages{kMost};
  size_t count = 0;
  bool has(uintptr_t page) const;
};
void note_resident_pages_of_before(PagesOfBefore &before);

// How full each resident page is with live blocks, in the order of addresses.
class PageMap {
 public:
  explicit PageMap(bool wanted) : areas_(wanted ? kAreas : 0), fill_(wanted ? kPages : 0) {}
  void begin();  // finds where the process has memory
  void add(const std::byte *block, size_t size);
  void end(const PagesOfBefore &before);
  // Two hexadecimal digits a page: 00 empty to ff full.
  void write(FILE *file) const;

 private:
  struct Area {
    uintptr_t from, to;
    size_t first;  // of its pages, in live_
  };
  static constexpr size_t kAreas = size_t{1} << 14, kPages = size_t{1} << 20;

  const Area *area_of(uintptr_t address) const;

  Room<Area> areas_;
  size_t area_count_ = 0, page_count_ = 0;
  uint32_t *live_ = nullptr;  // bytes of each page of the areas
  Room<uint8_t> fill_;        // the outcome
  size_t fill_count_ = 0;
};

}  // namespace ace::replay
