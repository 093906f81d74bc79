// What the workloads with threads share.
#pragma once
#include <sched.h>

#include <atomic>
#include <barrier>
#include <cstddef>

#include "memory.h"

namespace micro {

// Binds the calling thread to the processor `index` of those that this process may use, where there are two.
inline void pin(unsigned index) {
  static const cpu_set_t allowed = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof set, &set);
    return set;
  }();
  const int count = CPU_COUNT(&allowed);
  if (count < 2) return;
  int wanted = static_cast<int>(index) % count;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || wanted-- != 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
    return;
  }
}

// Pointers from one thread to one other, bounded, without a lock. Each side keeps a copy of the other's
// position and reads the shared one only when the ring looks full or empty.
class Ring {
 public:
  // `length` is a power of two.
  explicit Ring(size_t length) : mask_(length - 1), places_(length) {}

  bool push(void *p) {
    const size_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_seen_ > mask_) {
      head_seen_ = head_.load(std::memory_order_acquire);
      if (tail - head_seen_ > mask_) return false;
    }
    places_.data()[tail & mask_] = p;
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }

  void *pop() {
    const size_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_seen_) {
      tail_seen_ = tail_.load(std::memory_order_acquire);
      if (head == tail_seen_) return nullptr;
    }
    void *p = places_.data()[head & mask_];
    head_.store(head + 1, std::memory_order_release);
    return p;
  }

 private:
  alignas(64) std::atomic<size_t> tail_{0};
  size_t head_seen_ = 0;
  alignas(64) std::atomic<size_t> head_{0};
  size_t tail_seen_ = 0;
  alignas(64) const size_t mask_;
  OwnArray<void *> places_;
};

// Waits a little: at first on the processor, then by giving it to the other thread.
class Patience {
 public:
  void wait() {
    if (++turns_ < 64) {
      __builtin_ia32_pause();
    } else {
      sched_yield();
    }
  }
  void reset() { turns_ = 0; }

 private:
  unsigned turns_ = 0;
};

}  // namespace micro
