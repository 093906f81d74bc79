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
constexpr int kPyMethodVarArgs = 1, kPyMethodOne = 8;

// PyModuleDef_Slot and PyModuleDef, with the object's header of a build with a GIL.
struct ace_py_slot {
  int slot;
  void *value;
};
struct ace_py_module {
  struct {
    ace_py_ssize_t references;
    void *type;
    PyObject *(*init)(void);
    ace_py_ssize_t index;
    PyObject *copy;
  } base;
  const char *name, *description;
  ace_py_ssize_t size;
  ace_py_method *methods;
  ace_py_slot *slots;
  void *traverse, *clear, *free;
};

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

// By which interpreters are told apart, from 3.12 on; one of the first two is there.
extern "C" {
[[gnu::weak]] void *PyGILState_GetThisThreadState(void);
[[gnu::weak]] void *PyThreadState_GetUnchecked(void);
[[gnu::weak]] void *_PyThreadState_UncheckedGet(void);
[[gnu::weak]] void *PyThreadState_GetInterpreter(void *thread_state);
[[gnu::weak]] void *PyInterpreterState_Main(void);
}

// Whether a running interpreter can still be entered. One that ends is no longer initialised; one of these two
// is there.
extern "C" {
[[gnu::weak]] int Py_IsFinalizing(void);
[[gnu::weak]] int _Py_IsFinalizing(void);
[[gnu::weak]] const char *_PyMem_GetCurrentAllocatorName(void);
[[gnu::weak]] void *PyInterpreterState_Head(void);
[[gnu::weak]] void *PyInterpreterState_Next(void *interpreter);
}

// What the built-in module needs besides; without it the interpreter is entered all the same.
#define ACE_CPYTHON_MODULE_FUNCTIONS(X)                                      \
  X(int, PyImport_AppendInittab, (const char *, PyObject *(*)(void)))        \
  X(PyObject *, PyModuleDef_Init, (ace_py_module *))                         \
  X(int, PyArg_ParseTuple, (PyObject *, const char *, ...))                  \
  X(PyObject *, PyObject_CallObject, (PyObject *, PyObject *))               \
  X(int, PyCallable_Check, (PyObject *))                                     \
  X(int, PyObject_IsInstance, (PyObject *, PyObject *))                      \
  X(PyObject *, PyDict_New, (void))                                          \
  X(int, PyDict_SetItemString, (PyObject *, const char *, PyObject *))       \
  X(PyObject *, PyList_New, (ace_py_ssize_t))                                \
  X(ace_py_ssize_t, PyList_Size, (PyObject *))                               \
  X(PyObject *, PyList_GetItem, (PyObject *, ace_py_ssize_t))                \
  X(unsigned long, PyType_GetFlags, (PyObject *))                            \
  X(void, PyErr_SetString, (PyObject *, const char *))                       \
  X(void, PyErr_WriteUnraisable, (PyObject *))                               \
  X(int, PyErr_ExceptionMatches, (PyObject *))                               \
  X(PyObject *, PyCapsule_New, (void *, const char *, void (*)(PyObject *))) \
  X(void *, PyCapsule_GetPointer, (PyObject *, const char *))                \
  X(void, Py_IncRef, (PyObject *))

#define ACE_CPYTHON_DECLARE(result, name, parameters) [[gnu::weak]] result name parameters;
ACE_CPYTHON_FUNCTIONS(ACE_CPYTHON_DECLARE)
ACE_CPYTHON_MODULE_FUNCTIONS(ACE_CPYTHON_DECLARE)
#undef ACE_CPYTHON_DECLARE

// PyObject, which CPython's own statically allocated ones are as well.
struct PyObject {
  ace_py_ssize_t references;
  void *type;
};
[[gnu::weak]] extern PyObject PyType_Type;
[[gnu::weak]] extern PyObject *PyExc_Exception, *PyExc_MemoryError, *PyExc_RuntimeError, *PyExc_TypeError,
    *PyExc_ValueError;

}  // extern "C"
