// Stands around what writes to a file.
#pragma once
#include <errno.h>
#include <signal.h>
#include <time.h>

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

}  // namespace ace
