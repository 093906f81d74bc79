// What the stress tests share: blocks that know their contents, a gate that starts threads together, an audit
// of every heap at rest.
#pragma once
#include <string.h>

#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "heap/all_heaps.h"
#include "unit/heap_test.h"

namespace ace::test {

// The thread sanitizer makes everything several times slower.
#ifdef __SANITIZE_THREAD__
inline constexpr unsigned kSlowness = 4;
#else
inline constexpr unsigned kSlowness = 1;
#endif

// A block whose contents follow from its size, which stands at its start.
inline void *write_block(void *p, size_t size) {
  memset(p, static_cast<int>(size % 251), size);
  memcpy(p, &size, sizeof size);
  return p;
}
inline bool is_whole(const void *p) {
  size_t size;
  memcpy(&size, p, sizeof size);
  auto *bytes = static_cast<const unsigned char *>(p);
  for (size_t i = sizeof size; i < size; i += size < 4096 ? 1 : 509) {
    if (bytes[i] != size % 251) return false;
  }
  return true;
}

// Sizes from 16 bytes on, mostly small, now and then of the mid and large pools.
class Sizes {
 public:
  explicit Sizes(uint64_t seed) : state_(seed * 2 + 1) {}
  size_t next() {
    const uint64_t dice = random() % 1000;
    if (dice < 900) return 16 + random() % 500;
    if (dice < 980) return 16 + random() % 9000;
    if (dice < 998) return 9000 + random() % 60'000;
    return 600'000 + random() % 100'000;
  }
  uint64_t random() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return state_ >> 33;
  }

 private:
  uint64_t state_;
};

// Runs f(0) ... f(count - 1) in threads that start together, to their end.
inline void run_together(unsigned count, const std::function<void(unsigned)> &f) {
  std::atomic<unsigned> ready{0};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      ++ready;
      while (ready < count) std::this_thread::yield();
      f(i);
    });
  }
  for (std::thread &thread : threads) thread.join();
}

// What the audits of all heaps say; nobody else uses them meanwhile.
inline std::string audit_all() {
  std::string broken;
  visit_heaps(
      [](Heap &heap, void *context) {
        std::string message = audit(static_cast<ace_heap *>(&heap));
        if (!message.empty())
          *static_cast<std::string *>(context) += std::string(heap.name) + ": " + message + "\n";
      },
      &broken);
  return broken;
}

}  // namespace ace::test
