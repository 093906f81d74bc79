// Checks of our own logic. ACE_ASSERT is compiled in every build and runs where NDEBUG is not defined; a
// caller's mistake is never its business (front/gate.h judges those).
#pragma once
#include <cstdlib>

namespace ace {

// Prints the broken condition and aborts.
[[noreturn]] void assertion_failed(const char *condition, const char *file, int line);

}  // namespace ace

#ifdef NDEBUG
#define ACE_ASSERT(condition) ((void)sizeof(condition))
#else
#define ACE_ASSERT(condition) \
  (__builtin_expect(!!(condition), 1) ? (void)0 : ::ace::assertion_failed(#condition, __FILE__, __LINE__))
#endif
