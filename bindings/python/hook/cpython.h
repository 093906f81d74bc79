// The part of CPython's C interface that the hook uses. It is the same in every version from 3.8 on, so that
// no Python.h is needed. Each function is a weak symbol: null in a process that is not CPython.
#pragma once
#include <stddef.h>

extern "C" {

struct PyObject;
using ace_py_ssize_t = ptrdiff_t;

// PyMemAllocatorEx.
struct ace_py_allocator {
  void *context;
  void *(*allocate)(void *context, size_t size);
  void *(*allocate_zeroed)(void *context, size_t count, size_t size);
  void *(*reallocate)(void *context, void *p, size_t size);
  void (*release)(void *context, void *p);
};

// PyMethodDef.
struct ace_py_method {
  const char *name;
  PyObject *(*function)(PyObject *self, PyObject *arguments);
  int flags;
  const char *description;
};
constexpr int kPyMethodVarArgs = 1;

// X(result, name, parameters)
#define ACE_CPYTHON_FUNCTIONS(X)                                                                     \
  X(const char *, Py_GetVersion, (void))                                                             \
  X(int, Py_IsInitialized, (void))                                                                   \
  X(int, Py_AddPendingCall, (int (*)(void *), void *))                                               \
  X(void, PyMem_GetAllocator, (int, ace_py_allocator *))                                             \
  X(void, PyMem_SetAllocator, (int, ace_py_allocator *))                                             \
  X(void, PyMem_SetupDebugHooks, (void))                                                             \
  X(PyObject *, PyImport_ImportModuleLevel, (const char *, PyObject *, PyObject *, PyObject *, int)) \
  X(PyObject *, PyObject_GetAttrString, (PyObject *, const char *))                                  \
  X(PyObject *, PyCFunction_NewEx, (ace_py_method *, PyObject *, PyObject *))                        \
  X(int, PyList_Append, (PyObject *, PyObject *))                                                    \
  X(PyObject *, PyTuple_GetItem, (PyObject *, ace_py_ssize_t))                                       \
  X(PyObject *, PyDict_GetItemString, (PyObject *, const char *))                                    \
  X(long, PyLong_AsLong, (PyObject *))                                                               \
  X(const char *, PyUnicode_AsUTF8AndSize, (PyObject *, ace_py_ssize_t *))                           \
  X(PyObject *, Py_BuildValue, (const char *, ...))                                                  \
  X(void, PyErr_Clear, (void))                                                                       \
  X(void, Py_DecRef, (PyObject *))

#define ACE_CPYTHON_DECLARE(result, name, parameters) [[gnu::weak]] result name parameters;
ACE_CPYTHON_FUNCTIONS(ACE_CPYTHON_DECLARE)
#undef ACE_CPYTHON_DECLARE

}  // extern "C"
