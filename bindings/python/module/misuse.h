// Misuse of an address: recorded by the core's error handler, raised as BadAddress after the call.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

namespace acepy::misuse {

// Creates the exception `BadAddress` and takes over the core's error handler.
void bind(pybind11::module_ &module);

// Was an address misused, or is damage found, that was not raised yet?
bool is_any();

// Raises BadAddress where the call that has just returned misused an address.
void raise_if_any();

// Raises BadAddress for what the binding itself has found.
[[noreturn]] void raise(uintptr_t address, const char *reason, const char *message);

}  // namespace acepy::misuse
