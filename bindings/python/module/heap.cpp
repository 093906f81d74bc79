#include "heap.h"

#include <pybind11/stl.h>
#include <pythread.h>

#include <cstring>
#include <utility>
#include <vector>

#include "misuse.h"
#include "tables.h"

namespace py = pybind11;

namespace acepy {
namespace {

void *pointer(uintptr_t address) { return reinterpret_cast<void *>(address); }
uintptr_t address_of(const void *block) { return reinterpret_cast<uintptr_t>(block); }

}  // namespace

Heap::Heap(const std::string &name, size_t limit, unsigned kind_groups, py::object on_limit, bool worker)
    : name_(name), on_limit_(std::move(on_limit)) {
  if (kind_groups < 1 || kind_groups > ACE_KIND_GROUPS_MAX)
    throw py::value_error("kind_groups must be 1 to " + std::to_string(ACE_KIND_GROUPS_MAX));
  if (!on_limit_.is_none() && !PyCallable_Check(on_limit_.ptr()))
    throw py::type_error("on_limit must be a function that takes the missing bytes, or None");
  ace_heap_config config{};
  config.struct_size = sizeof config;
  config.name = name_.c_str();
  config.flags = worker ? 0u : static_cast<uint32_t>(ACE_HEAP_NO_WORKER);
  config.kind_groups = kind_groups;
  config.limit = limit;
  config.on_limit = on_limit_.is_none() ? nullptr : asked_at_limit;
  config.on_limit_context = this;
  heap_ = ace_heap_create(&config);
  if (heap_ == nullptr) throw std::bad_alloc();
}

Heap::~Heap() { ace_heap_destroy(heap_); }

// The heap, where the caller may use it now.
ace_heap *Heap::use(During during) {
  if (heap_ == nullptr) throw std::runtime_error("heap '" + name_ + "' is closed");
  if (limit_thread_ != 0) {
    if (limit_thread_ != PyThread_get_thread_ident())
      throw std::runtime_error("heap '" + name_ + "' is in use: on_limit runs in another thread");
    if (during == During::kNotInOnLimit)
      throw std::runtime_error("on_limit may free and trim, but neither allocate from its heap nor close it");
  }
  return heap_;
}

// The block at `address`, which must be a live one of this very heap.
void *Heap::own_block(uintptr_t address) {
  ace_heap *heap = use(During::kOnLimitToo);
  if (address == 0) misuse::raise(address, "foreign", "0 is no block");
  (void)ace_usable_size(pointer(address));
  misuse::raise_if_any();
  if (ace_owner_of(pointer(address)) != heap)
    misuse::raise(address, "other_heap", ("the block is not of heap '" + name_ + "'").c_str());
  return pointer(address);
}

int Heap::asked_at_limit(ace_heap *, size_t missing, void *context) {
  auto *self = static_cast<Heap *>(context);
  self->limit_thread_ = PyThread_get_thread_ident();
  int again = 0;
  try {
    again = PyObject_IsTrue(self->on_limit_(missing).ptr());
    if (again < 0) throw py::error_already_set();
  } catch (...) {  // nothing may be thrown through the core: it waits until the allocation has returned
    self->raised_ = std::current_exception();
    again = 0;
  }
  self->limit_thread_ = 0;
  return again;
}

// After an allocation. What on_limit raised comes through where it failed. Where it went well nevertheless, the
// caller must learn of the block: then that is only told.
uintptr_t Heap::allocated(void *block, size_t size) {
  const std::exception_ptr raised = std::exchange(raised_, nullptr);
  const bool failed = block == nullptr && !misuse::is_any();
  if (failed && !raised) no_memory(size);
  if (raised) {
    try {
      std::rethrow_exception(raised);
    } catch (py::error_already_set &error) {
      // The program is interrupted, or to end: then the block is no matter any more.
      if (failed || !error.matches(PyExc_Exception)) throw;
      error.discard_as_unraisable("on_limit of a heap");
    }
  }
  misuse::raise_if_any();
  return address_of(block);
}

void Heap::no_memory(size_t size) {
  std::string message = "heap '" + name_ + "' has no memory for " + std::to_string(size) + " bytes";
  if (size_t most = limit()) message += "; its limit is " + std::to_string(most) + " bytes";
  PyErr_SetString(PyExc_MemoryError, message.c_str());
  throw py::error_already_set();
}

uintptr_t Heap::alloc(size_t size, ace_kind kind, bool zero, size_t alignment) {
  ace_heap *heap = use(During::kNotInOnLimit);
  if (kind >= ACE_KIND_MAX) throw py::value_error("kind must be below " + std::to_string(ACE_KIND_MAX));
  if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > ACE_ALIGNMENT_MAX)
    throw py::value_error("alignment must be a power of two up to " + std::to_string(ACE_ALIGNMENT_MAX));
  void *block;
  if (alignment > 16) {
    block = ace_heap_aligned_alloc(heap, alignment, size, kind);
    if (block != nullptr && zero) std::memset(block, 0, size);
  } else {
    block = zero ? ace_heap_calloc(heap, 1, size, kind) : ace_heap_alloc_kind(heap, size, kind);
  }
  if (misuse::is_any()) {  // something was written to it while it was free: found only now
    ace_heap_free(heap, block);
    block = nullptr;
  }
  return allocated(block, size);
}

uintptr_t Heap::realloc(uintptr_t address, size_t size, ace_kind kind) {
  ace_heap *heap = use(During::kNotInOnLimit);
  if (kind >= ACE_KIND_MAX) throw py::value_error("kind must be below " + std::to_string(ACE_KIND_MAX));
  return allocated(ace_heap_realloc(heap, own_block(address), size, kind), size);
}

void Heap::free(uintptr_t address, std::optional<size_t> size) {
  ace_heap *heap = use(During::kOnLimitToo);
  if (address == 0) misuse::raise(address, "foreign", "0 is no block");
  if (size)
    ace_heap_free_sized(heap, pointer(address), *size);
  else
    ace_heap_free(heap, pointer(address));
  misuse::raise_if_any();
}

size_t Heap::usable_size(uintptr_t address) { return ace_usable_size(own_block(address)); }

py::bytes Heap::read(uintptr_t address, std::optional<size_t> size) {
  const size_t usable = usable_size(address);
  if (size.value_or(0) > usable) throw py::value_error("the block has " + std::to_string(usable) + " bytes");
  // What pybind11 raises where there is no memory is no MemoryError.
  PyObject *copy = PyBytes_FromStringAndSize(static_cast<const char *>(pointer(address)),
                                             static_cast<Py_ssize_t>(size.value_or(usable)));
  if (copy == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::bytes>(copy);
}

void Heap::write(uintptr_t address, const py::bytes &data) {
  const size_t usable = usable_size(address);
  char *source;
  Py_ssize_t length;
  if (PyBytes_AsStringAndSize(data.ptr(), &source, &length) != 0) throw py::error_already_set();
  if (static_cast<size_t>(length) > usable)
    throw py::value_error("the block has " + std::to_string(usable) + " bytes");
  std::memcpy(pointer(address), source, static_cast<size_t>(length));
}

void Heap::hint(ace_hint_code hint, uint64_t value) {
  if (ace_hint(use(During::kOnLimitToo), hint, value) != 0) throw py::value_error("unknown hint");
  misuse::raise_if_any();
}

size_t Heap::trim(std::optional<size_t> budget) {
  const size_t given = ace_trim(use(During::kOnLimitToo), budget.value_or(SIZE_MAX));
  misuse::raise_if_any();
  return given;
}

size_t Heap::limit() {
  ace_stats stats{};
  ace_heap_stats(use(During::kOnLimitToo), &stats, sizeof stats);
  return stats.limit_bytes;
}

void Heap::set_limit(size_t limit) { ace_heap_set_limit(use(During::kOnLimitToo), limit); }

py::dict Heap::stats() {
  ace_stats stats{};
  ace_heap_stats(use(During::kOnLimitToo), &stats, sizeof stats);
  return stats_as_dict(stats);
}

py::list Heap::walk() {
  // Python's objects come afterwards: to make one may run its collector, and with it a finalizer that uses the
  // heap.
  struct Block {
    uintptr_t address;
    size_t usable;
    ace_kind group;
  };
  std::vector<Block> found;
  const auto visit = [](void *block, size_t usable, ace_kind group, void *context) -> int {
    try {
      static_cast<std::vector<Block> *>(context)->push_back({address_of(block), usable, group});
      return 0;
    } catch (...) {  // nothing may be thrown through the core
      return 1;
    }
  };
  if (ace_heap_walk(use(During::kNotInOnLimit), visit, &found) != 0) throw std::bad_alloc();
  py::list blocks;
  for (const Block &one : found) blocks.append(py::make_tuple(one.address, one.usable, one.group));
  return blocks;
}

void Heap::audit() {
  char message[256];
  if (ace_heap_audit(use(During::kNotInOnLimit), message, sizeof message) != 0) throw AuditError(message);
}

void Heap::close() {
  if (heap_ == nullptr) return;
  ace_heap_destroy(use(During::kNotInOnLimit));
  heap_ = nullptr;
  on_limit_ = py::none();
}

}  // namespace acepy
