// The built-in module _ace, by which a program speaks to the heap that its interpreter lives on. It is there in
// every CPython that was entered, with no package installed; the package acealloc makes of it what people use
// (acealloc/vm.py). Interpreters with a GIL of their own cannot import it: what it keeps is one for the
// process.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <initializer_list>

#include "python/hook/census.h"
#include "python/hook/cpython.h"
#include "python/hook/hook.h"

namespace ace::python {
namespace {

// Flags of types: the collector's header precedes an object; before that lie pointers to its dictionary (from
// 3.11 on) or to its weak references (from 3.12 on).
constexpr unsigned long kIsCollected = 1ul << 14, kHasDictionaryPointer = 1ul << 4, kHasWeakPointer = 1ul << 3;
constexpr size_t kCollectorHeader = 16, kPointersHeader = 16;
constexpr size_t kDebugPrefix = 16;  // what CPython's debug hooks put before each block

Census *g_census;      // under way
uintptr_t g_censuses;  // begun so far: the number of that one
pthread_t g_counts;    // who takes it
PyObject *g_listener;  // to be called when the limit comes near; owned

PyObject *none() { return Py_BuildValue(""); }

PyObject *fail(PyObject *kind, const char *message) {
  PyErr_SetString(kind, message);
  return nullptr;
}

uint64_t now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

// ---- phases, trims, limits

// What a program may say. Collections and forks are heard without it.
constexpr struct {
  const char *name;
  ace_hint_code code;
  bool frees_raw;  // the raw domain gives back too
} kHints[] = {{"idle_begin", ACE_HINT_IDLE_BEGIN, true},
              {"idle_end", ACE_HINT_IDLE_END, true},
              {"burst_begin", ACE_HINT_BURST_BEGIN, false},
              {"burst_end", ACE_HINT_BURST_END, false},
              {"pressure", ACE_HINT_PRESSURE, true}};

PyObject *py_hint(PyObject *, PyObject *arguments) {
  const char *name;
  if (PyArg_ParseTuple(arguments, "s:hint", &name) == 0) return nullptr;
  for (const auto &known : kHints) {
    if (strcmp(name, known.name) != 0) continue;
    hint(known.code, 0, known.frees_raw);
    return none();
  }
  return fail(PyExc_ValueError, "a hint is idle_begin, idle_end, burst_begin, burst_end or pressure");
}

// From 3.12 on each further interpreter has a heap of its own, which nothing here speaks of.
PyObject *py_active(PyObject *, PyObject *) {
  return Py_BuildValue("i", int{standing().used && (found().minor < 12 || runs_main_interpreter())});
}

PyObject *py_trim(PyObject *, PyObject *) {
  return Py_BuildValue("K", static_cast<unsigned long long>(trim()));
}

// enter_limit(bytes) -> what keeps it in force: not longer than that lives, whatever becomes of the program's
// way out.
constexpr char kLimitInForce[] = "_ace.limit_in_force";

EnteredLimit *limit_in(PyObject *capsule) {
  return static_cast<EnteredLimit *>(PyCapsule_GetPointer(capsule, kLimitInForce));
}

void end_limit(EnteredLimit *entered) {
  leave_limit(*entered);
  free(entered);
}

PyObject *py_enter_limit(PyObject *, PyObject *arguments) {
  unsigned long long limit;
  if (PyArg_ParseTuple(arguments, "K:enter_limit", &limit) == 0) return nullptr;
  EnteredLimit *entered = enter_limit(static_cast<size_t>(limit));
  if (entered == nullptr) return fail(PyExc_MemoryError, "no memory for a limit");
  PyObject *capsule =
      PyCapsule_New(entered, kLimitInForce, [](PyObject *ended) { end_limit(limit_in(ended)); });
  if (capsule == nullptr) end_limit(entered);
  return capsule;
}

// leave_limit(what keeps it in force). Allocates nothing: it is called where nothing may be left.
PyObject *py_leave_limit(PyObject *, PyObject *capsule) {
  EnteredLimit *entered = limit_in(capsule);
  if (entered == nullptr) return nullptr;
  leave_limit(*entered);
  return none();
}

int call_listener(void *) {
  PyObject *listener = g_listener;
  if (listener == nullptr) return 0;
  Py_IncRef(listener);  // it may set another one
  PyObject *answer = PyObject_CallObject(listener, nullptr);
  int result = 0;
  if (answer != nullptr) {
    Py_DecRef(answer);
    arm_limit_after_telling();
  } else if (PyErr_ExceptionMatches(PyExc_Exception) == 0) {
    result = -1;  // the main thread is interrupted, or to end
  } else {
    PyErr_WriteUnraisable(listener);  // nobody waits for its errors
  }
  Py_DecRef(listener);
  return result;
}

// In the middle of an allocation, where nothing of Python may run: the main thread calls the listener between
// two bytecodes. False where too many others wait for it.
bool tell_listener() { return Py_AddPendingCall(call_listener, nullptr) == 0; }

PyObject *py_set_listener(PyObject *, PyObject *arguments) {
  PyObject *listener = PyTuple_GetItem(arguments, 0);
  if (listener == nullptr) return nullptr;
  PyObject *nothing = none();
  const bool removes = listener == nothing;
  Py_DecRef(nothing);
  if (!removes && PyCallable_Check(listener) == 0)
    return fail(PyExc_TypeError, "the listener must be callable");
  if (!removes) Py_IncRef(listener);
  PyObject *old = g_listener;
  g_listener = removes ? nullptr : listener;
  tell_near_limit(removes ? nullptr : tell_listener);
  if (old != nullptr) Py_DecRef(old);
  return none();
}

// ---- statistics

PyObject *fields_of(const ace_stats &stats) {
  PyObject *fields = PyDict_New();
  ace_field_info field;
  for (unsigned i = 0; fields != nullptr && ace_stats_field(i, &field) == 0; ++i) {
    PyObject *number = Py_BuildValue("K", static_cast<unsigned long long>(ace_stats_value(&stats, &field)));
    if (number == nullptr || PyDict_SetItemString(fields, field.name, number) != 0) {
      Py_DecRef(fields);
      fields = nullptr;
    }
    if (number != nullptr) Py_DecRef(number);
  }
  return fields;
}

PyObject *py_stats(PyObject *, PyObject *) {
  PyObject *heaps = PyDict_New();
  for (Domain domain : {kObj, kRaw}) {
    ace_stats stats{};
    const char *name = heaps == nullptr ? nullptr : read_stats(domain, stats);
    if (name == nullptr) continue;
    PyObject *fields = fields_of(stats);
    if (fields == nullptr || PyDict_SetItemString(heaps, name, fields) != 0) {
      Py_DecRef(heaps);
      heaps = nullptr;
    }
    if (fields != nullptr) Py_DecRef(fields);
  }
  return heaps;
}

// ---- census

void end_census() {
  Census::destroy(g_census);
  g_census = nullptr;
}

size_t header_of(PyObject *type) {
  const unsigned long flags = PyType_GetFlags(type);
  const unsigned long pointers = found().minor >= 12   ? kHasDictionaryPointer | kHasWeakPointer
                                 : found().minor == 11 ? kHasDictionaryPointer
                                                       : 0;
  return (flags & kIsCollected ? kCollectorHeader : 0) + (flags & pointers ? kPointersHeader : 0);
}

// census_begin(types) -> what keeps it: it is over at the latest when that ends. The types must live as long.
constexpr char kCensusUnderWay[] = "_ace.census_under_way";

void leave_census(PyObject *capsule) {
  const void *number = PyCapsule_GetPointer(capsule, kCensusUnderWay);
  if (number == reinterpret_cast<void *>(g_censuses)) end_census();
}

PyObject *py_census_begin(PyObject *, PyObject *arguments) {
  PyObject *types = PyTuple_GetItem(arguments, 0);
  const ace_py_ssize_t count = types == nullptr ? -1 : PyList_Size(types);
  if (count < 0) return nullptr;
  if (g_census != nullptr)
    return fail(PyExc_RuntimeError, "a census is under way: of this thread, or of another interpreter");
  g_census = Census::create(static_cast<size_t>(count), found().debug_hooks ? kDebugPrefix : 0);
  if (g_census == nullptr) return fail(PyExc_MemoryError, "no memory for a census");
  for (ace_py_ssize_t i = 0; i < count; ++i) {
    PyObject *type = PyList_GetItem(types, i);
    if (PyObject_IsInstance(type, &PyType_Type) != 1) {
      end_census();
      return fail(PyExc_TypeError, "a census is of types");
    }
    CensusRow &row = g_census->row(static_cast<size_t>(i));
    row.type = type;
    row.header = header_of(type);
  }
  g_census->index_types();
  ++g_censuses;
  g_counts = pthread_self();
  PyObject *capsule = PyCapsule_New(reinterpret_cast<void *>(g_censuses), kCensusUnderWay, leave_census);
  if (capsule == nullptr) end_census();
  return capsule;
}

// census_step(nanoseconds) -> is there more? It stops at the first area after so long.
PyObject *py_census_step(PyObject *, PyObject *arguments) {
  unsigned long long budget;
  if (PyArg_ParseTuple(arguments, "K:census_step", &budget) == 0) return nullptr;
  if (g_census == nullptr) return fail(PyExc_RuntimeError, "no census is under way");
  const uint64_t until = now() + budget;
  bool more;
  do {
    more = step_census(*g_census);
  } while (more && now() < until);
  return Py_BuildValue("i", int{more});
}

PyObject *census_row(const CensusRow &row) {
  using Number = unsigned long long;
  return Py_BuildValue("(KKKKK)", Number{row.count}, Number{row.bytes}, Number{row.pages},
                       Number{row.sparse_pages}, Number{row.held_bytes});
}

// census_end() -> rows, as the types were given, then blocks that are no objects, then those of the raw domain:
// (blocks, bytes, pages, of these three quarters empty, bytes held in them).
PyObject *py_census_end(PyObject *, PyObject *) {
  if (g_census == nullptr) return fail(PyExc_RuntimeError, "no census is under way");
  Census *census = g_census;
  g_census = nullptr;
  PyObject *rows = PyList_New(0);
  const size_t count = census->count() + 2;
  for (size_t i = 0; rows != nullptr && i < count; ++i) {
    PyObject *row = census_row(i < census->count()    ? census->row(i)
                               : i == census->count() ? census->others()
                                                      : census->raw());
    if (row == nullptr || PyList_Append(rows, row) != 0) {
      Py_DecRef(rows);
      rows = nullptr;
    }
    if (row != nullptr) Py_DecRef(row);
  }
  Census::destroy(census);
  return rows;
}

// ---- the way into an interpreter that runs already

PyObject *py_enter(PyObject *, PyObject *) {
  const char *refusal = enter_running();
  return refusal == nullptr ? none() : fail(PyExc_RuntimeError, refusal);
}

// ---- the module

ace_py_method g_methods[] = {
    {"hint", py_hint, kPyMethodVarArgs, "hint(name): tells the heaps what the program does."},
    {"active", py_active, kPyMethodVarArgs, "active() -> does this interpreter allocate from ACE?"},
    {"enter", py_enter, kPyMethodVarArgs,
     "enter(): this interpreter allocates from ACE from now on; RuntimeError where it cannot."},
    {"trim", py_trim, kPyMethodVarArgs, "trim() -> bytes given back: all that is free."},
    {"enter_limit", py_enter_limit, kPyMethodVarArgs,
     "enter_limit(bytes) -> an object: the limit is in force while it lives, until leave_limit(object)."},
    {"leave_limit", py_leave_limit, kPyMethodOne, "leave_limit(object): once more does nothing."},
    {"set_listener", py_set_listener, kPyMethodVarArgs,
     "set_listener(callable or None): called once seven eighths of the limit are in use."},
    {"stats", py_stats, kPyMethodVarArgs, "stats() -> {heap: {field: number}}."},
    {"census_begin", py_census_begin, kPyMethodVarArgs,
     "census_begin(types) -> an object: the census is under way as long as it lives."},
    {"census_step", py_census_step, kPyMethodVarArgs, "census_step(nanoseconds) -> is there more?"},
    {"census_end", py_census_end, kPyMethodVarArgs,
     "census_end() -> [(blocks, bytes, pages, sparse pages, held bytes)]: a row a type, then what is no "
     "object, "
     "then the raw domain."},
    {}};
ace_py_slot g_slots[] = {{}};
ace_py_module g_module{{1, nullptr, nullptr, 0, nullptr},
                       "_ace",
                       "The heap that this interpreter lives on. Use it through the package acealloc.",
                       0,
                       g_methods,
                       g_slots,
                       nullptr,
                       nullptr,
                       nullptr};

PyObject *make_module() { return PyModuleDef_Init(&g_module); }

}  // namespace

void forget_program() {
  g_listener = nullptr;  // an object that is not there any more
  end_census();
}

void forget_census() {
  if (g_census != nullptr && pthread_equal(g_counts, pthread_self()) == 0) end_census();
}

bool add_builtin() {
#define ACE_CPYTHON_CHECK(result, name, parameters) \
  if (&name == nullptr) return false;
  ACE_CPYTHON_MODULE_FUNCTIONS(ACE_CPYTHON_CHECK)
#undef ACE_CPYTHON_CHECK
  return PyImport_AppendInittab("_ace", make_module) == 0;
}

}  // namespace ace::python

// The preloaded library is an extension module as well, for interpreters that were started without it. One that
// its process has loaded after this library it does not see.
extern "C" [[gnu::visibility("default")]] PyObject *PyInit__ace() {
  return &PyModuleDef_Init != nullptr ? ace::python::make_module() : nullptr;
}
