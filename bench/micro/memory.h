// What the system says of this process, and the benchmark's own large arrays, which are kept out of the
// allocator under test.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <new>

namespace micro {

struct Memory {
  uint64_t rss = 0, peak_rss = 0, vmsize = 0;  // bytes
  uint64_t heap = 0;                           // resident pages that are no file's
};

// From /proc/self/status, whose figures are exact; those of statm lag behind by some pages a processor.
Memory memory_now();

// Page faults so far, of all threads.
uint64_t faults_now();

// Bytes of all OwnArrays that live.
extern uint64_t own_bytes;

// An array of zeros, resident from the start, so that it can be subtracted exactly.
template <class T>
class OwnArray {
 public:
  explicit OwnArray(size_t length) : bytes_((length * sizeof(T) + 4095) / 4096 * 4096) {
    void *p = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    madvise(p, bytes_, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < bytes_; i += 4096) static_cast<volatile char *>(p)[i] = 0;
    data_ = static_cast<T *>(p);
    own_bytes += bytes_;
  }
  ~OwnArray() {
    munmap(data_, bytes_);
    own_bytes -= bytes_;
  }
  OwnArray(const OwnArray &) = delete;
  OwnArray &operator=(const OwnArray &) = delete;

  T *data() const { return data_; }

 private:
  size_t bytes_;
  T *data_;
};

}  // namespace micro
