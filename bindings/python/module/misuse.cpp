#include "misuse.h"

#include <cstdio>

#include "ace/ace.h"

namespace py = pybind11;

namespace acepy::misuse {
namespace {

// The GIL is held through every call into the core, so one record serves all threads.
struct Record {
  bool present;
  uintptr_t address;
  const char *reason;
  char message[256];
};
Record record{};
PyObject *bad_address = nullptr;

const char *reason_of(ace_error_code code) {
  switch (code) {
    case ACE_ERROR_DOUBLE_FREE:
      return "double_free";
    case ACE_ERROR_INTERIOR:
      return "interior";
    case ACE_ERROR_FOREIGN:
      return "foreign";
    case ACE_ERROR_SIZE_MISMATCH:
      return "size_mismatch";
    case ACE_ERROR_ENDED_HEAP:
      return "ended_heap";
    case ACE_ERROR_OVERFLOW:
      return "overflow";
    case ACE_ERROR_WRITE_AFTER_FREE:
      return "write_after_free";
    case ACE_ERROR_NOT_ALLOCATED:
      return "not_allocated";
  }
  return "unknown";
}

void remember(const ace_error *error, void *) {
  if (record.present) return;  // the first one is the cause
  record.present = true;
  record.address = reinterpret_cast<uintptr_t>(error->pointer);
  record.reason = reason_of(error->code);
  std::snprintf(record.message, sizeof record.message, "%s of %p: %s", error->function, error->pointer,
                error->message);
}

}  // namespace

void bind(py::module_ &module) {
  bad_address = PyErr_NewExceptionWithDoc(
      "acealloc.BadAddress",
      "An address was used that is no live block of the heap; the call had no effect. Or something was written "
      "where\n"
      "nothing may be: \"overflow\" is found by a free, whose block then stays; \"write_after_free\" by an "
      "alloc, which\n"
      "then gives no block, or by a trim or hint, which have been done.\n\n"
      "address: the address; reason: \"double_free\", \"interior\", \"foreign\", \"size_mismatch\",\n"
      "\"not_allocated\", \"other_heap\", \"overflow\" or \"write_after_free\".",
      PyExc_ValueError, nullptr);
  if (bad_address == nullptr) throw py::error_already_set();
  module.add_object("BadAddress", bad_address);
  ace_set_error_handler(remember, nullptr);
}

void raise(uintptr_t address, const char *reason, const char *message) {
  py::object error = py::reinterpret_borrow<py::object>(bad_address)(message);
  error.attr("address") = address;
  error.attr("reason") = reason;
  PyErr_SetObject(bad_address, error.ptr());
  throw py::error_already_set();
}

bool is_any() { return record.present; }

void raise_if_any() {
  if (!record.present) return;
  record.present = false;
  raise(record.address, record.reason, record.message);
}

}  // namespace acepy::misuse
