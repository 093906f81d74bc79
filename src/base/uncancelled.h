// No call into the library is a cancellation point: a thread that ended in the midst of one would leave its
// locks and its heap as they are in that moment. Stands around whatever libc makes one.
#pragma once
#include <pthread.h>

namespace ace {

class Uncancelled {
 public:
  Uncancelled() { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state_); }
  ~Uncancelled() { pthread_setcancelstate(state_, nullptr); }
  Uncancelled(const Uncancelled &) = delete;
  Uncancelled &operator=(const Uncancelled &) = delete;

 private:
  int state_;
};

}  // namespace ace
