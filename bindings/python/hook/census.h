// What the interpreter's memory consists of: a walk over the live blocks, each of which is an object of a known
// type or none. In steps, so that the program is not stopped for longer than it allows.
//
// Whether a block is an object is judged by its words: CPython puts the object's header after that of the
// collector, if its type has one, and after the pointers to its dictionary and weak references, if it has
// those, and the second word of the header is the type. A block in whose place stand a known type and a
// plausible count of references is taken for an object of that type.
#pragma once
#include "ace/ace.h"

namespace ace::python {

struct CensusRow {
  const void *type;  // of the blocks; nullptr: they are no objects
  size_t header;     // so many bytes lie before the object in its block
  uint64_t count, bytes;
  uint64_t pages;  // that hold some of them
  // Of these the pages of which three quarters are free, and of their free bytes the part that falls to these
  // blocks: memory that cannot go back because they live.
  uint64_t sparse_pages, held_bytes;

  uintptr_t last_page, last_sparse_page;
};

class Census {
 public:
  // With a row for each of so many types, whose type and header the caller then sets. `prefix`: what debug
  // hooks put before each block. nullptr where there is no memory. Nothing here comes from the heaps that are
  // looked at.
  static Census *create(size_t types, size_t prefix);
  static void destroy(Census *census);  // nullptr is ignored

  size_t count() const { return count_; }
  CensusRow &row(size_t index) { return rows_[index]; }
  // Finds the rows by their types.
  void index_types();

  // Looks at some of `heap`, and returns true where there is more. The calling thread holds the heap.
  bool step(ace_heap *heap);

  // What follows is another heap, where nothing is an object.
  void begin_raw();
  bool is_raw() const { return is_raw_; }

  // Blocks of the first heap that are no objects, and those of the other.
  const CensusRow &others() const { return others_; }
  const CensusRow &raw() const { return raw_; }

  // Counts a block. Blocks of one heap come in the order of their addresses.
  void add(const void *block, size_t usable);

 private:
  static constexpr uintptr_t kPageSize = 4096;
  static constexpr size_t kBlockMin = 16;

  CensusRow &row_of(const void *block, size_t usable);
  void enter_page(uintptr_t page);
  void leave_page();

  CensusRow *rows_ = nullptr;
  size_t count_ = 0;
  uint32_t *slots_ = nullptr;  // a hash table: 1 + the row of a type, 0 for none
  size_t slot_count_ = 0;      // a power of two
  size_t prefix_ = 0;
  CensusRow others_{}, raw_{};
  bool is_raw_ = false;
  uintptr_t position_ = 0;  // ace_heap_walk_next

  // The page that blocks are being counted in, and the row of each of them.
  uintptr_t page_ = 0;
  size_t page_live_ = 0, page_blocks_ = 0;
  CensusRow *page_rows_[kPageSize / kBlockMin + 1];
};

}  // namespace ace::python
