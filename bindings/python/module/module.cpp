// acealloc._core: the C interface of include/ace/ace.h for Python.
#include <pybind11/native_enum.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "heap.h"
#include "loop.h"
#include "misuse.h"
#include "tables.h"
#include "trace.h"
#include "watch.h"

namespace py = pybind11;
using acepy::Heap;

namespace {

// `on_limit` is usually a closure over its heap: the cycle must be visible to Python's collector.
int traverse(PyObject *self, visitproc visit, void *arg) {
#if PY_VERSION_HEX >= 0x03090000
  Py_VISIT(Py_TYPE(self));
#endif
  if (py::detail::is_holder_constructed(self)) Py_VISIT(py::cast<Heap &>(py::handle(self)).on_limit().ptr());
  return 0;
}

int clear(PyObject *self) {
  if (py::detail::is_holder_constructed(self)) py::cast<Heap &>(py::handle(self)).on_limit() = py::none();
  return 0;
}

void collectable(PyHeapTypeObject *type) {
  type->ht_type.tp_flags |= Py_TPFLAGS_HAVE_GC;
  type->ht_type.tp_traverse = traverse;
  type->ht_type.tp_clear = clear;
}

void bind_heap(py::module_ &module) {
  py::class_<Heap>(module, "Heap", py::custom_type_setup(collectable),
                   "A heap of its own, with blocks named by their addresses (int).\n\n"
                   "The GIL is its lock: any thread may use it. A wrong address raises BadAddress, a closed\n"
                   "heap RuntimeError. Closing it, or losing the last reference, ends all its blocks.")
      .def(py::init<const std::string &, size_t, unsigned, py::object, bool>(), py::arg("name") = "heap",
           py::kw_only(), py::arg("limit") = 0, py::arg("kind_groups") = 1, py::arg("on_limit") = py::none(),
           py::arg("worker") = false,
           "name: for reports. limit: most resident bytes, 0 for none. kind_groups: how many groups of kinds\n"
           "get slabs of their own. on_limit(missing): called when an allocation would exceed the limit; it "
           "may\n"
           "free blocks; true to try once more. worker: let a background thread give memory back later.")
      .def("alloc", &Heap::alloc, py::arg("size"), py::arg("kind") = 0, py::kw_only(), py::arg("zero") = false,
           py::arg("alignment") = 16,
           "The address of a new block of at least `size` bytes. MemoryError where the limit or the system\n"
           "does not allow it; what on_limit raises comes through.")
      .def("realloc", &Heap::realloc, py::arg("address"), py::arg("size"), py::arg("kind") = 0,
           "Resizes a block, and gives its new address. On MemoryError the old block stays valid.")
      .def("free", &Heap::free, py::arg("address"), py::arg("size") = py::none(),
           "Gives a block back. `size`, where given, is checked against the block.")
      .def("usable_size", &Heap::usable_size, py::arg("address"), "How many bytes of the block may be used.")
      .def("read", &Heap::read, py::arg("address"), py::arg("size") = py::none(),
           "A copy of the block's first `size` bytes, by default of all usable ones.")
      .def("write", &Heap::write, py::arg("address"), py::arg("data"), "Copies `data` to the block's start.")
      .def("hint", &Heap::hint, py::arg("hint"), py::arg("value") = 0,
           "Tells the heap what the runtime does; see Hint for the values.")
      .def("trim", &Heap::trim, py::arg("budget") = py::none(),
           "Gives free memory back to the system now, up to `budget` bytes; returns the bytes given back.")
      .def_property("limit", &Heap::limit, &Heap::set_limit, "Most resident bytes; 0: none.")
      .def("stats", &Heap::stats,
           "The statistics: each field by its name (stats_fields() describes them), `phases` and `kinds`.")
      .def("walk", &Heap::walk, "A list of (address, usable size, kind group) of all live blocks.")
      .def("audit", &Heap::audit, "Checks every invariant of the heap; AuditError names the first broken one.")
      .def_property_readonly("name", &Heap::name)
      .def_property_readonly("closed", &Heap::closed)
      .def("close", &Heap::close, "Ends the heap with all its blocks. Closing it again does nothing.")
      .def("__enter__", [](py::object self) { return self; })
      .def("__exit__", [](Heap &self, const py::args &) { self.close(); })
      .def("__repr__", [](const Heap &self) {
        return "<Heap '" + self.name() + "'" + (self.closed() ? ", closed>" : ">");
      });
}

void bind_hints(py::module_ &module) {
  py::native_enum<ace_hint_code>(module, "Hint", "enum.IntEnum", "What the runtime tells a heap.")
      .value("COLLECT_BEGIN", ACE_HINT_COLLECT_BEGIN, "value: 0 full or unknown, else 1 + generation")
      .value("MARK", ACE_HINT_MARK)
      .value("SWEEP", ACE_HINT_SWEEP)
      .value("COLLECT_END", ACE_HINT_COLLECT_END, "value: live bytes, 0 where unknown")
      .value("COLLECTED", ACE_HINT_COLLECTED, "value: objects freed by the collection that ends")
      .value("IDLE_BEGIN", ACE_HINT_IDLE_BEGIN)
      .value("IDLE_END", ACE_HINT_IDLE_END)
      .value("BURST_BEGIN", ACE_HINT_BURST_BEGIN)
      .value("BURST_END", ACE_HINT_BURST_END)
      .value("FORK_BEFORE", ACE_HINT_FORK_BEFORE)
      .value("FORK_CHILD", ACE_HINT_FORK_CHILD)
      .value("PRESSURE", ACE_HINT_PRESSURE)
      .finalize();
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  module.doc() = "ACE-Alloc's C interface for Python. Use it through the package acealloc.";
  if (ace_abi_version() != ACE_ABI_VERSION) throw py::import_error("the core has another ABI version");
  acepy::misuse::bind(module);
  py::register_exception<acepy::AuditError>(module, "AuditError", PyExc_RuntimeError).doc() =
      "An invariant of a heap is broken; the message says which.";
  acepy::bind_tables(module);
  bind_hints(module);
  bind_heap(module);
  acepy::bind_loop(module);
  acepy::bind_trace(module);
  acepy::bind_watch(module);
  module.def("version", ace_version, "The core's release.");
  module.def("abi_version", ace_abi_version, "The core's ABI version.");
  module.def(
      "tick", ace_tick, py::arg("budget") = UINT64_MAX,
      "For option worker=tick: does what is due now, for about `budget` nanoseconds at most, and gives the\n"
      "nanoseconds until the next thing is due (0: there was not the time for all; 2**64 - 1: nothing is).");
  module.attr("KIND_MAX") = ACE_KIND_MAX;
  module.attr("KIND_GROUPS_MAX") = ACE_KIND_GROUPS_MAX;
  module.attr("ALIGNMENT_MAX") = ACE_ALIGNMENT_MAX;
}
