// Lines on standard error, from anywhere: under a lock, in the middle of a malloc. dprintf may allocate.
#pragma once
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

#include "base/kept_errno.h"
#include "base/size_signal.h"
#include "base/uncancelled.h"

namespace ace {

__attribute__((format(printf, 1, 2))) inline void say(const char *format, ...) {
  const KeptErrno kept;
  const Uncancelled whole;
  const WithoutSizeSignal quiet;
  char text[1024];
  va_list values;
  va_start(values, format);
  const int n = vsnprintf(text, sizeof text, format, values);
  va_end(values);
  if (n > 0 && write(STDERR_FILENO, text, std::min(static_cast<size_t>(n), sizeof text - 1)) < 0) {
    // Nobody listens.
  }
}

// What the number means, in English: a translation may have to be loaded first.
inline const char *error_text(int error) {
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 32)
  const char *text = strerrordesc_np(error);
  return text != nullptr ? text : "an unknown error";
#else
  return strerror(error);
#endif
}

}  // namespace ace
