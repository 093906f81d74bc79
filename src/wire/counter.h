// Values that one thread writes and any thread may read.
#pragma once
#include <atomic>
#include <cstdint>

namespace ace {

// A value that may be set while other threads, such as the worker, read it. Relaxed: it orders nothing.
template <typename T>
class Setting {
 public:
  operator T() const { return value_.load(std::memory_order_relaxed); }
  void operator=(T value) { value_.store(value, std::memory_order_relaxed); }

 private:
  std::atomic<T> value_{};
};

// Written by the heap's holder (add, subtract, set) or by several threads (add_shared), never by both kinds.
// Relaxed: a reader wants a recent value and orders nothing by it.
class Counter {
 public:
  uint64_t get() const { return value_.load(std::memory_order_relaxed); }
  void set(uint64_t n) { value_.store(n, std::memory_order_relaxed); }
  void add(uint64_t n) { set(get() + n); }
  void subtract(uint64_t n) { set(get() - n); }
  void add_shared(uint64_t n) { value_.fetch_add(n, std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// A counter that knows the most it ever was. The holder's.
class PeakCounter : public Counter {
 public:
  void add(uint64_t n) {
    Counter::add(n);
    if (get() > peak_.get()) peak_.set(get());
  }
  uint64_t peak() const { return peak_.get(); }

 private:
  Counter peak_;
};

}  // namespace ace
