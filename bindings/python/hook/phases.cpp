// CPython's collector, heard through gc.callbacks: a C function there is told of each collection's start and
// stop, its generation, and how many objects it freed. Main interpreter only; collections at shutdown are not
// told, and a program may clear the list.
//
// The list exists once CPython is initialised. Nothing calls us at that moment, so the allocator asks from its
// slow path, and the main thread attaches between two bytecodes, where calling Python is safe.
#include "python/hook/cpython.h"
#include "python/hook/hook.h"

#include <string.h>

namespace ace::python {
namespace {

bool g_asked;
bool g_attached;

// The entry `name` of the dictionary `info`, or -1 where it is no number that fits.
long number(PyObject *info, const char *name) {
  PyObject *value = PyDict_GetItemString(info, name);
  return value == nullptr ? -1 : PyLong_AsLong(value);
}

void pass_on(const char *phase, long generation, long collected) {
  const bool full = generation >= 2;
  if (strcmp(phase, "start") == 0) {
    hint(ACE_HINT_COLLECT_BEGIN, full || generation < 0 ? 0 : 1 + static_cast<uint64_t>(generation), full);
  } else if (strcmp(phase, "stop") == 0) {
    if (collected > 0) hint(ACE_HINT_COLLECTED, static_cast<uint64_t>(collected), full);
    hint(ACE_HINT_COLLECT_END, 0, full);
  }
}

// Called as f(phase, info). Anyone can find it in the list and call it with anything: nothing but the
// arguments that the collector gives has an effect, and no error is raised.
PyObject *collector_callback(PyObject *, PyObject *arguments) {
  PyObject *phase = PyTuple_GetItem(arguments, 0), *info = phase ? PyTuple_GetItem(arguments, 1) : nullptr;
  const char *text = info != nullptr ? PyUnicode_AsUTF8AndSize(phase, nullptr) : nullptr;
  if (text != nullptr) pass_on(text, number(info, "generation"), number(info, "collected"));
  PyErr_Clear();
  return Py_BuildValue("");
}

ace_py_method g_method{"ace_collector_callback", collector_callback, kPyMethodVarArgs,
                       "Tells ACE-Alloc of this interpreter's collections."};

bool append_callback() {
  // Not through builtins.__import__, which a program may have replaced.
  PyObject *gc = PyImport_ImportModuleLevel("gc", nullptr, nullptr, nullptr, 0);
  if (gc == nullptr) return false;
  PyObject *list = PyObject_GetAttrString(gc, "callbacks");
  PyObject *function = list != nullptr ? PyCFunction_NewEx(&g_method, nullptr, nullptr) : nullptr;
  const bool appended = function != nullptr && PyList_Append(list, function) == 0;
  if (function != nullptr) Py_DecRef(function);
  if (list != nullptr) Py_DecRef(list);
  Py_DecRef(gc);
  return appended;
}

int attach(void *) {
  g_attached = append_callback();
  if (!g_attached) PyErr_Clear();
  go_straight();
  return 0;
}

}  // namespace

void attach_now() {
  g_asked = true;
  attach(nullptr);
}

bool ask_to_attach() {
  if (g_asked) return true;
  if (!Py_IsInitialized()) return false;
  // Where the queue is full this is tried again at the next call. Several GILs may come here again;
  // they find it asked.
  g_asked = Py_AddPendingCall(attach, nullptr) == 0;
  return g_asked;
}

void ask_to_attach_anew() { g_asked = g_attached = false; }

bool attached() { return g_attached; }

}  // namespace ace::python
