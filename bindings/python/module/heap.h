// A heap as Python sees it: an owned ace_heap whose misuse raises instead of aborting.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>

#include "ace/ace.h"

namespace acepy {

// An invariant of a heap is broken.
struct AuditError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The heap's holder is whoever holds the GIL: no call here releases it. The one exception is `on_limit`, a
// Python function that runs in the middle of an allocation, where another thread may get the GIL: while it
// runs, other threads are refused, and so are calls that would allocate from or end the heap.
class Heap {
 public:
  Heap(const std::string &name, size_t limit, unsigned kind_groups, pybind11::object on_limit, bool worker);
  ~Heap();
  Heap(const Heap &) = delete;
  Heap &operator=(const Heap &) = delete;

  uintptr_t alloc(size_t size, ace_kind kind, bool zero, size_t alignment);
  uintptr_t realloc(uintptr_t address, size_t size, ace_kind kind);
  void free(uintptr_t address, std::optional<size_t> size);
  size_t usable_size(uintptr_t address);
  pybind11::bytes read(uintptr_t address, std::optional<size_t> size);
  void write(uintptr_t address, const pybind11::bytes &data);

  void hint(ace_hint_code hint, uint64_t value);
  size_t trim(std::optional<size_t> budget);
  size_t limit();
  void set_limit(size_t limit);

  pybind11::dict stats();
  pybind11::list walk();
  void audit();

  std::string name() const { return name_; }
  bool closed() const { return heap_ == nullptr; }
  void close();
  pybind11::object &on_limit() { return on_limit_; }

 private:
  enum class During { kOnLimitToo, kNotInOnLimit };
  ace_heap *use(During during);
  void *own_block(uintptr_t address);
  static int asked_at_limit(ace_heap *heap, size_t missing, void *self);
  uintptr_t allocated(void *block, size_t size);
  [[noreturn]] void no_memory(size_t size);

  std::string name_;
  pybind11::object on_limit_;
  ace_heap *heap_ = nullptr;
  unsigned long limit_thread_ = 0;  // the thread that runs on_limit; 0: none does
  std::exception_ptr raised_;       // what on_limit raised, until the allocation has returned
};

}  // namespace acepy
