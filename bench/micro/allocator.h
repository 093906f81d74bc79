// How an allocator is reached: every one is loaded in the same way and called through function pointers.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <optional>
#include <stdexcept>
#include <string>

#include "api.h"

namespace micro {

// What the caller asked for does not exist: exit status 2.
struct UsageError : std::runtime_error {
  using runtime_error::runtime_error;
};

// The allocator misbehaved: exit status 1.
struct Failure : std::runtime_error {
  using runtime_error::runtime_error;
};

// `plain`: the allocator's malloc and free. `heap`: an explicit heap. `heap-sized`: the same, and a free says
// the block's size. `theap`: mimalloc's thread-local view of an explicit heap.
enum class ApiKind { kPlain, kHeap, kHeapSized, kTheap };

ApiKind api_named(const std::string &name);

// The library that `--allocator NAME` means: "" for libc, which is there already.
std::string library_named(const std::string &name);

// The library that counts which way operations go; it may not have been built.
std::string counting_library();

// Whether this process is the one that restart_with has started.
bool is_restarted(const std::string &library);

// Starts this program again with `library` preloaded, unless that has happened. All libraries are loaded so,
// because several of the peers use static TLS, which is not to be had by dlopen.
void restart_with(const std::string &library, char **argv);

// The functions of the loaded library, and the heap made by it.
class Allocator {
 public:
  Allocator(const std::string &library, ApiKind kind);
  ~Allocator();
  Allocator(const Allocator &) = delete;
  Allocator &operator=(const Allocator &) = delete;

  ApiKind kind() const { return kind_; }
  const PlainApi &plain() const { return plain_; }

  // How often ACE's hot path has run dry in the heap of the calling thread; nothing for other libraries.
  std::optional<uint64_t> refills() const;

  // Operations that left ACE's hot path, of all threads, where the library counts them.
  struct Paths {
    uint64_t warm, cold;
  };
  std::optional<Paths> paths() const;

  // Calls f with the API in question. Workloads are compiled once for each, and take it by value, so that the
  // pointers stay in registers.
  template <class F>
  void with_api(F &&f) const {
    if (kind_ == ApiKind::kPlain) return f(plain_);
    if (kind_ == ApiKind::kHeapSized) return f(ace_sized_);
    if (is_ace_) return f(ace_);
    f(mimalloc_);
  }

 private:
  enum class Family { kMalloc, kAce, kMimalloc };
  template <class Function>
  void find(Function *&function, const char *name) const;
  bool has(const char *name) const;
  void find_plain(Family family);
  void make_ace_heap();
  void make_mimalloc_heap();

  std::string library_;
  void *handle_ = nullptr;
  ApiKind kind_;
  bool is_ace_ = false;
  void *heap_ = nullptr;
  void (*destroy_)(void *heap) = nullptr;
  void *(*thread_heap_)() = nullptr;
  int (*stats_)(void *heap, void *stats, size_t size) = nullptr;
  void (*count_paths_)(uint64_t *warm, uint64_t *cold) = nullptr;
  PlainApi plain_{};
  AceHeapApi ace_{};
  AceHeapSizedApi ace_sized_{};
  MimallocHeapApi mimalloc_{};
};

}  // namespace micro
