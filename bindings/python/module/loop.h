// The loop's own code for Python: to simulate it, and to replay its logs.
#pragma once

#include <pybind11/pybind11.h>

namespace acepy {

void bind_loop(pybind11::module_ &module);

}  // namespace acepy
