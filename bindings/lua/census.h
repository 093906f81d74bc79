// What lives in a heap, by the size class of its blocks and their kind.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <algorithm>
#include <iterator>

#include "ace/ace.h"
#include "base/size_class.h"

namespace ace::lua {

struct CensusRow {
  size_t size;  // up to; 0: whole pages
  ace_kind kind;
  uint64_t blocks, bytes, pages;
  uintptr_t last_page;
};

// In the order in which they were met; nothing may be allocated meanwhile.
class Census {
 public:
  static int visit(void *block, size_t usable, ace_kind kind, void *context) {
    static_cast<Census *>(context)->add(reinterpret_cast<uintptr_t>(block), usable, kind);
    return 0;
  }
  const CensusRow *begin() const { return rows_; }
  const CensusRow *end() const { return rows_ + count_; }

 private:
  void add(uintptr_t at, size_t usable, ace_kind kind) {
    // By classes, since a hardened heap tells what was asked for, of which there may be thousands.
    CensusRow *row = row_of(usable <= kTinyMax ? kClassSize[class_of(std::max(usable, size_t{1}))] : 0, kind);
    if (row == nullptr) return;
    const uintptr_t first = at / kPage, last = (at + usable - 1) / kPage;
    ++row->blocks;
    row->bytes += usable;
    // Blocks that share a page follow one another; else addresses may rise or fall.
    row->pages += last + 1 - first - (first == row->last_page);
    row->last_page = last;
  }

  CensusRow *row_of(size_t size, ace_kind kind) {
    if (count_ != 0 && recent_->size == size && recent_->kind == kind) return recent_;
    recent_ = std::find_if(rows_, rows_ + count_,
                           [&](const CensusRow &row) { return row.size == size && row.kind == kind; });
    if (recent_ != rows_ + count_) return recent_;
    if (count_ == std::size(rows_)) {
      recent_ = rows_;
      return nullptr;
    }
    *recent_ = {size, kind, 0, 0, 0, 0};
    ++count_;
    return recent_;
  }

  CensusRow rows_[(kClasses + 1) * ACE_KIND_GROUPS_MAX];
  CensusRow *recent_ = rows_;
  size_t count_ = 0;
};

}  // namespace ace::lua
