#include "python/hook/census.h"

#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <new>
#include <utility>

namespace ace::python {
namespace {

// What may lie before an object: nothing, the collector's header, and the pointers before that.
constexpr size_t kHeaders[] = {0, 16, 32};
constexpr size_t kObjectMin = 16;  // its header
// More references than that are a pointer. Immortal objects (3.12 and later) have about as many. From 3.14 on
// the word's highest 16 bits, which no pointer has, are flags.
constexpr uint64_t kReferencesMax = uint64_t{1} << 32, kReferences = ~uint64_t{0} >> 16;

size_t hash_of(const void *type) {
  return (reinterpret_cast<uintptr_t>(type) >> 4) * 0x9e3779b97f4a7c15u >> 32;
}

}  // namespace

Census *Census::create(size_t types, size_t prefix) {
  size_t slots = 64;
  while (slots < 2 * types) slots *= 2;
  auto *rows = static_cast<CensusRow *>(calloc(types + 1, sizeof(CensusRow)));
  auto *table = static_cast<uint32_t *>(calloc(slots, sizeof(uint32_t)));
  void *memory = malloc(sizeof(Census));
  if (rows == nullptr || table == nullptr || memory == nullptr) {
    free(rows);
    free(table);
    free(memory);
    return nullptr;
  }
  auto *census = new (memory) Census{};
  census->rows_ = rows;
  census->count_ = types;
  census->slots_ = table;
  census->slot_count_ = slots;
  census->prefix_ = prefix;
  return census;
}

void Census::destroy(Census *census) {
  if (census == nullptr) return;
  free(census->rows_);
  free(census->slots_);
  free(census);
}

void Census::index_types() {
  for (uint32_t i = 0; i < count_; ++i) {
    size_t slot = hash_of(rows_[i].type) & (slot_count_ - 1);
    while (slots_[slot] != 0) slot = (slot + 1) & (slot_count_ - 1);
    slots_[slot] = i + 1;
  }
}

CensusRow &Census::row_of(const void *block, size_t usable) {
  if (is_raw_) return raw_;
  const auto *bytes = static_cast<const std::byte *>(block) + prefix_;
  for (size_t header : kHeaders) {
    if (usable < prefix_ + header + kObjectMin) break;
    uint64_t references;
    const void *type;
    memcpy(&references, bytes + header, sizeof references);
    references &= kReferences;
    memcpy(&type, bytes + header + sizeof references, sizeof type);
    if (references == 0 || references > kReferencesMax) continue;
    size_t slot = hash_of(type) & (slot_count_ - 1);
    for (; slots_[slot] != 0; slot = (slot + 1) & (slot_count_ - 1)) {
      CensusRow &row = rows_[slots_[slot] - 1];
      if (row.type == type && row.header == header) return row;
    }
  }
  return others_;
}

void Census::enter_page(uintptr_t page) {
  if (page == page_) return;
  leave_page();
  page_ = page;
}

void Census::leave_page() {
  if (page_blocks_ != 0 && page_live_ <= kPageSize / 4) {
    for (size_t i = 0; i < page_blocks_; ++i) {
      CensusRow &row = *page_rows_[i];
      row.held_bytes += (kPageSize - page_live_) / page_blocks_;
      row.sparse_pages += std::exchange(row.last_sparse_page, page_) != page_;
    }
  }
  page_live_ = page_blocks_ = 0;
}

void Census::add(const void *block, size_t usable) {
  CensusRow &row = row_of(block, usable);
  const auto begin = reinterpret_cast<uintptr_t>(block), end = begin + usable;
  const uintptr_t first = begin / kPageSize, last = (end - 1) / kPageSize;
  row.count += 1;
  row.bytes += usable;
  if (last > row.last_page) {
    row.pages += last + 1 - std::max(first, row.last_page + 1);
    row.last_page = last;
  }

  enter_page(first);
  page_live_ += std::min(end, (first + 1) * kPageSize) - begin;
  page_rows_[page_blocks_++] = &row;
  if (last == first) return;
  enter_page(last);
  page_live_ = end - last * kPageSize;
  page_rows_[page_blocks_++] = &row;
}

bool Census::step(ace_heap *heap) {
  auto visit = [](void *block, size_t usable, ace_kind, void *context) {
    static_cast<Census *>(context)->add(block, usable);
    return 0;
  };
  if (ace_heap_walk_next(heap, &position_, visit, this) != 0) return true;
  leave_page();
  return false;
}

void Census::begin_raw() {
  leave_page();
  is_raw_ = true;
  position_ = page_ = 0;
}

}  // namespace ace::python
