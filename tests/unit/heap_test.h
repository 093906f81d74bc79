// What most tests of the allocator need: a heap that is audited at the end, a log of misuse, options that are
// put back.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string.h>

#include <string>
#include <utility>
#include <vector>

#include "ace/ace.h"
#include "heap/heap.h"

namespace ace::test {

inline constexpr uint64_t kMillisecond = 1'000'000;

// What ace_heap_audit says; "" where every invariant holds.
inline std::string audit(ace_heap *heap) {
  char message[200] = "";
  return ace_heap_audit(heap, message, sizeof message) == 0 ? "" : message;
}

inline ace_stats stats_of(ace_heap *heap) {
  ace_stats stats;
  EXPECT_EQ(ace_heap_stats(heap, &stats, sizeof stats), 0);
  return stats;
}

// Replaces the misuse handler while it lives, and writes down what it was told.
class MisuseLog {
 public:
  MisuseLog() { ace_set_error_handler(note, this); }
  ~MisuseLog() { ace_set_error_handler(nullptr, nullptr); }
  MisuseLog(const MisuseLog &) = delete;
  MisuseLog &operator=(const MisuseLog &) = delete;

  std::vector<int> take() { return std::exchange(codes_, {}); }
  const ace_error &last() const { return last_; }

 private:
  static void note(const ace_error *error, void *context) {
    auto *log = static_cast<MisuseLog *>(context);
    log->codes_.push_back(error->code);
    log->last_ = *error;
  }
  std::vector<int> codes_;
  ace_error last_{};
};

// Sets an option while it lives.
class OptionGuard {
 public:
  OptionGuard(const char *name, const char *value) : name_(name), old_(ace_option_get(name)) {
    EXPECT_EQ(ace_option_set(name, value), 0);
  }
  ~OptionGuard() { ace_option_set(name_, old_.c_str()); }
  OptionGuard(const OptionGuard &) = delete;
  OptionGuard &operator=(const OptionGuard &) = delete;

 private:
  const char *name_;
  std::string old_;
};

// A test with a heap, which must pass its audit when the test ends.
class HeapTest : public testing::Test {
 protected:
  HeapTest() { make(); }
  ~HeapTest() override {
    if (heap == nullptr) return;
    EXPECT_EQ(audit(heap), "");
    ace_heap_destroy(heap);
  }

  // A new heap in place of the present one.
  void make(uint32_t kind_groups = 0, size_t limit = 0, ace_limit_fn on_limit = nullptr,
            void *context = nullptr, uint32_t flags = ACE_HEAP_NO_WORKER) {
    ace_heap_destroy(heap);
    ace_heap_config config{};
    config.struct_size = sizeof config;
    config.name = "test";
    config.flags = flags;
    config.kind_groups = kind_groups;
    config.limit = limit;
    config.on_limit = on_limit;
    config.on_limit_context = context;
    heap = ace_heap_create(&config);
    ASSERT_NE(heap, nullptr);
  }
  // For tests that say when pages go back: growth has none of them go.
  void keep_what_is_free() { heap->next_look = ~uint64_t{0}; }
  ace_stats stats() { return stats_of(heap); }

  // `count` blocks of `size` bytes; each byte is touched.
  std::vector<void *> fill(size_t count, size_t size, ace_kind kind = 0) {
    std::vector<void *> blocks;
    for (size_t i = 0; i < count; ++i) {
      void *block = ace_heap_alloc_kind(heap, size, kind);
      EXPECT_NE(block, nullptr);
      if (block == nullptr) break;
      memset(block, 0xa5, size);
      blocks.push_back(block);
    }
    return blocks;
  }
  void free_all(std::vector<void *> &blocks) {
    for (void *block : blocks) ace_heap_free(heap, block);
    blocks.clear();
  }

  ace_heap *heap = nullptr;
};

// A block as its owner sees it.
struct Seen {
  void *block;
  size_t usable;
  ace_kind group;
};
inline std::vector<Seen> walk(ace_heap *heap) {
  std::vector<Seen> seen;
  ace_heap_walk(
      heap,
      [](void *block, size_t usable, ace_kind group, void *context) {
        static_cast<std::vector<Seen> *>(context)->push_back({block, usable, group});
        return 0;
      },
      &seen);
  return seen;
}

}  // namespace ace::test
