// CPython needs no help to call malloc: PYTHONMALLOC=malloc does it. So libpeer-plain.so leaves it alone.
#include "preload/hosts.h"

namespace ace::python {

preload::Entry enter_cpython() { return {}; }
bool report_cpython(int, bool, bool) { return true; }
bool ends_by_python(const void *) { return false; }
bool ends_after_python(const void *) { return false; }

}  // namespace ace::python
