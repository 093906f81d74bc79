// The allocators that a plan is replayed on. Each has the same functions, and the replay is compiled once for
// each:
//
//   alloc, zeroed    a block for the present heap, of a kind
//   release, resize  of a block of any heap, with the size that was asked for last
//   hint             what the host told the present heap
//   enter, leave     the heap that becomes the present one; that it has ended
//   pass             the time of the trace, between steps
#pragma once
#include <stdlib.h>
#include <sys/mman.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "ace/ace.h"
#include "purge_malloc.h"

namespace ace::replay {

// malloc and its like: the process's own, which may have been preloaded.
class MallocTarget {
 public:
  // hinted: told to give memory back when a host's full collection is over, or it rests.
  explicit MallocTarget(bool hinted) {
    if (!hinted) return;
    purge_ = find_malloc_purge(purge_function_);
    if (purge_ == nullptr) throw std::runtime_error("this malloc has no function that gives memory back");
  }
  void *alloc(size_t size, unsigned) { return malloc(size); }
  void *zeroed(size_t size, unsigned) { return calloc(1, size); }
  void release(void *p, size_t) { free(p); }
  void *resize(void *p, size_t, size_t size) { return realloc(p, size); }
  void hint(uint32_t code, uint64_t value) {
    if (purge_ == nullptr) return;
    if (code == ACE_HINT_COLLECT_BEGIN) is_full_ = value == 0;
    if ((code == ACE_HINT_COLLECT_END && is_full_) || code == ACE_HINT_IDLE_BEGIN) purge_->run(purge_function_);
  }
  void enter(uint32_t) {}
  void leave(uint32_t) {}
  void pass(uint64_t) {}

 private:
  const MallocPurge *purge_ = nullptr;
  void *purge_function_ = nullptr;
  bool is_full_ = true;
};

// ACE, a heap for each of the trace's, called as the hosts' bindings call it.
class AceTarget {
 public:
  AceTarget(size_t heaps, bool sweeps);  // sweeps: frees in a row are a sweep's, as bindings/lua sees them
  void *alloc(size_t size, unsigned kind) {
    frees_ = 0;
    return ace_heap_alloc_kind(heap_, size, kind);
  }
  void *zeroed(size_t size, unsigned kind) {
    frees_ = 0;
    return ace_heap_calloc(heap_, 1, size, kind);
  }
  void release(void *p, size_t size) {
    if (!sweeps_) {
      ace_heap_try_free(heap_, p);
    } else if (++frees_ > kFreesOfASweep) {
      ace_heap_free_swept(heap_, p, size);
    } else {
      ace_heap_free_sized(heap_, p, size);
    }
  }
  void *resize(void *p, size_t, size_t size) { return ace_heap_realloc(heap_, p, size, 0); }
  void hint(uint32_t code, uint64_t value) { ace_hint(heap_, static_cast<ace_hint_code>(code), value); }
  void enter(uint32_t heap);
  void leave(uint32_t heap);
  void pass(uint64_t now_us);

 private:
  static constexpr int kFreesOfASweep = 3;
  ace_heap *heap_ = nullptr;
  int frees_ = 0;
  bool sweeps_;
  std::vector<ace_heap *> heaps_;
};

// From now on ACE's clock stands where the trace's does, no thread runs, and what is due is done between steps:
// what goes where, and when it goes back, is then the same in every replay. Before the first heap.
void use_clock_of_trace();

// LuaJIT's own allocator, a state for each heap.
class LuajitTarget {
 public:
  LuajitTarget(const std::string &library, size_t heaps);
  void *alloc(size_t size, unsigned) { return present_.allocate(present_.ud, nullptr, 0, size); }
  void *zeroed(size_t size, unsigned);
  void release(void *p, size_t size) { present_.allocate(present_.ud, p, size, 0); }
  void *resize(void *p, size_t old, size_t size) { return present_.allocate(present_.ud, p, old, size); }
  void hint(uint32_t, uint64_t) {}
  void enter(uint32_t heap);
  void leave(uint32_t heap);
  void pass(uint64_t) {}

 private:
  struct State {
    void *(*allocate)(void *ud, void *block, size_t old, size_t size) = nullptr;
    void *ud = nullptr, *state = nullptr;
  };
  void *(*new_state_)();
  void (*close_)(void *state);
  void *(*getallocf_)(void *state, void **ud);
  State present_;
  std::vector<State> states_;
};

// CPython's own: pymalloc for mem and obj, malloc for raw. Only where this runs inside of a CPython.
class PymallocTarget {
 public:
  PymallocTarget();
  void *alloc(size_t size, unsigned) { return is_raw_ ? malloc(size) : alloc_(size); }
  void *zeroed(size_t size, unsigned) { return is_raw_ ? calloc(1, size) : calloc_(1, size); }
  void release(void *p, size_t) { is_raw_ ? free(p) : free_(p); }
  void *resize(void *p, size_t, size_t size) { return is_raw_ ? realloc(p, size) : realloc_(p, size); }
  void hint(uint32_t, uint64_t) {}
  void enter(uint32_t heap) { is_raw_ = heap == 1; }  // as bindings/python/hook records them
  void leave(uint32_t) {}
  void pass(uint64_t) {}

 private:
  bool is_raw_ = false;
  void *(*alloc_)(size_t size);
  void *(*calloc_)(size_t count, size_t size);
  void *(*realloc_)(void *p, size_t size);
  void (*free_)(void *p);
};

// No allocator: every block is the same memory. What the replay itself takes.
class NoTarget {
 public:
  NoTarget() {
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    memory_ = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, kFlags, -1, 0);
    if (memory_ == MAP_FAILED) throw std::runtime_error("there are no addresses left");
  }
  void *alloc(size_t size, unsigned) { return size <= kSize ? memory_ : nullptr; }
  void *zeroed(size_t size, unsigned kind) { return alloc(size, kind); }
  void release(void *, size_t) {}
  void *resize(void *, size_t, size_t size) { return alloc(size, 0); }
  void hint(uint32_t, uint64_t) {}
  void enter(uint32_t) {}
  void leave(uint32_t) {}
  void pass(uint64_t) {}

 private:
  static constexpr size_t kSize = size_t{1} << 34;  // of addresses
  void *memory_;
};

}  // namespace ace::replay
