// Writing a text whole.
#pragma once
#include <errno.h>
#include <unistd.h>

#include <cstddef>

#include "base/size_signal.h"
#include "base/uncancelled.h"

namespace ace {

// In one call where the system takes it so, so that the lines of several processes do not mix. False, with
// errno, where it cannot be written whole.
inline bool write_all(int file, const char *text, size_t length) {
  const Uncancelled whole;
  const WithoutSizeSignal quiet;
  while (length != 0) {
    const ssize_t n = write(file, text, length);
    if (n < 0 && errno == EINTR) continue;
    if (n == 0) errno = ENOSPC;
    if (n <= 0) return false;
    text += n;
    length -= static_cast<size_t>(n);
  }
  return true;
}

}  // namespace ace
