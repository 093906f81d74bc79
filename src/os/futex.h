// Sleeping on a word of memory that several processes share.
#pragma once
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>

namespace ace {

// Until the word is woken, for `timeout` at most (nullptr: for ever), and not at all where it is not `value`.
// False, with errno, where it did not sleep to be woken: EAGAIN, EINTR, ETIMEDOUT, or there are no futexes
// here.
inline bool futex_wait(std::atomic<uint32_t> &word, uint32_t value, const timespec *timeout) {
  return syscall(SYS_futex, &word, FUTEX_WAIT, value, timeout, nullptr, 0) == 0;
}

inline void futex_wake(std::atomic<uint32_t> &word) {
  syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace ace
