// The one change of machine code that ACE makes: a call of one function inside another goes to a third.
#pragma once
#include <stddef.h>

namespace ace::lua {

// Looks in the `size` bytes of code at `caller` for the call of `callee` and makes it call `target`. nullptr
// where that is done; otherwise why it was not, a static text, and nothing was changed. Before other threads
// run the code.
const char *redirect_call(const char *caller, size_t size, const void *callee, const void *target);

}  // namespace ace::lua
