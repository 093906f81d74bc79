// Other processes' statistics pages for Python.
#pragma once

#include <pybind11/pybind11.h>

namespace acepy {

void bind_watch(pybind11::module_ &module);

}  // namespace acepy
