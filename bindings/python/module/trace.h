// Recorded runs for Python.
#pragma once

#include <pybind11/pybind11.h>

namespace acepy {

void bind_trace(pybind11::module_ &module);

}  // namespace acepy
