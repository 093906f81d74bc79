// What the program calls leaves its errno as it was: a free as programs expect that clean up after a failure,
// the rest as ace.h promises.
#pragma once
#include <errno.h>

namespace ace {

class KeptErrno {
 public:
  KeptErrno() : error_(errno) {}
  ~KeptErrno() { errno = error_; }
  KeptErrno(const KeptErrno &) = delete;
  KeptErrno &operator=(const KeptErrno &) = delete;

 private:
  const int error_;
};

}  // namespace ace
