// Writing a text whole.
#pragma once
#include <errno.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cstddef>

#include "base/uncancelled.h"

namespace ace {

// A file that would become larger than the process's limit is an error, and not the signal that ends a process
// which never asked for our files.
class WithoutSizeSignal {
 public:
  WithoutSizeSignal() {
    sigemptyset(&signal_);
    sigaddset(&signal_, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &signal_, &before_);
  }
  ~WithoutSizeSignal() {
    const int error = errno;
    constexpr timespec kNow{};
    if (error == EFBIG) sigtimedwait(&signal_, nullptr, &kNow);
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    errno = error;
  }
  WithoutSizeSignal(const WithoutSizeSignal &) = delete;
  WithoutSizeSignal &operator=(const WithoutSizeSignal &) = delete;

 private:
  sigset_t signal_, before_;
};

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
