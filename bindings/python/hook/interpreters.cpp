// Which heap serves which interpreter, once there may be several with a GIL of their own: each has one, used
// under its GIL, without a lock. Objects that go from one to another are freed by the remote queue of their
// heap.
//
// An interpreter is known by its state's address, which the thread state names. One operating system thread may
// run several interpreters in turn. When the block that holds a state is freed, the interpreter's heap waits
// for the next one: blocks may outlive the interpreter that they were made for.
#include <pthread.h>
#include <stdlib.h>

#include <atomic>

#include "python/hook/cpython.h"
#include "python/hook/hook.h"

namespace ace::python {
namespace {

struct Seat {
  const void *interpreter;  // nullptr: its interpreter has ended
  ace_heap *heap;
};

// A block of raw memory that may hold an interpreter's state: at its begin, or, from 3.14 on, at the first
// address in it that is aligned as the state wants to be.
struct StateBlock {
  const std::byte *begin;
  size_t size;
  bool has(const void *p) const {
    return static_cast<size_t>(static_cast<const std::byte *>(p) - begin) < size;
  }
};

// An array that grows; never torn down.
template <class T>
struct Rows {
  T *rows = nullptr;
  size_t count = 0, room = 0;
  T *begin() { return rows; }
  T *end() { return rows + count; }
  // nullptr where there is no memory.
  T *add() {
    if (count == room) {
      const size_t more = room == 0 ? 8 : 2 * room;
      auto *grown = static_cast<T *>(realloc(rows, more * sizeof(T)));
      if (grown == nullptr) return nullptr;
      rows = grown;
      room = more;
    }
    return &rows[count++];
  }
  void remove(T &row) { row = rows[--count]; }
};

pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;  // guards both
Rows<Seat> g_seats;
Rows<StateBlock> g_blocks;

// A bit for each of g_blocks, by its address: whatever raw memory is freed may be one, and most of it need not
// wait for the lock to hear that it is none.
std::atomic<uint64_t> g_block_bits{0};
uint64_t bit_of(const void *block) {
  return uint64_t{1} << (reinterpret_cast<uintptr_t>(block) * 0x9e3779b97f4a7c15u >> 58);
}

// The lock is held.
void forget_blocks_that(auto &&go) {
  uint64_t bits = 0;
  for (size_t i = g_blocks.count; i-- > 0;) {
    if (go(g_blocks.rows[i])) {
      g_blocks.remove(g_blocks.rows[i]);
    } else {
      bits |= bit_of(g_blocks.rows[i].begin);
    }
  }
  g_block_bits.store(bits, std::memory_order_relaxed);
}

// Changes whenever an interpreter ends: what threads remember from before is void.
std::atomic<uint64_t> g_ended{0};
struct Known {
  const void *interpreter;
  ace_heap *heap;
  uint64_t ended;
};
thread_local Known t_known;

// From 3.12 on the calling thread's, before that whose has the GIL.
void *current_state() {
  if (&PyThreadState_GetUnchecked != nullptr) return PyThreadState_GetUnchecked();
  return &_PyThreadState_UncheckedGet != nullptr ? _PyThreadState_UncheckedGet() : nullptr;
}

const void *this_interpreter() {
  void *state = current_state();
  return state == nullptr ? nullptr : PyThreadState_GetInterpreter(state);
}

// The lock is held.
ace_heap *find_or_make(const void *interpreter) {
  Seat *empty = nullptr;
  for (Seat &seat : g_seats) {
    if (seat.interpreter == interpreter) return seat.heap;
    if (seat.interpreter == nullptr) empty = &seat;
  }
  if (empty == nullptr) {
    ace_heap *heap = make_interpreter_heap();
    empty = heap == nullptr ? nullptr : g_seats.add();
    if (empty == nullptr) {
      ace_heap_destroy(heap);
      return nullptr;
    }
    empty->heap = heap;
  }
  empty->interpreter = interpreter;
  return empty->heap;
}

}  // namespace

// PyGILState_Check says yes to everybody once there was a second interpreter.
bool runs_main_interpreter() {
  if (found().minor >= 12) return can_tell_interpreters() && this_interpreter() == PyInterpreterState_Main();
  const void *state = current_state();
  return state != nullptr && &PyGILState_GetThisThreadState != nullptr &&
         state == PyGILState_GetThisThreadState();
}

bool can_tell_interpreters() {
  return (&PyThreadState_GetUnchecked != nullptr || &_PyThreadState_UncheckedGet != nullptr) &&
         &PyThreadState_GetInterpreter != nullptr && &PyInterpreterState_Main != nullptr;
}

ace_heap *heap_of_this_interpreter(ace_heap *main_heap) {
  const void *interpreter = this_interpreter();
  if (interpreter == nullptr) return nullptr;
  const uint64_t ended = g_ended.load(std::memory_order_acquire);
  if (t_known.interpreter == interpreter && t_known.ended == ended) return t_known.heap;
  ace_heap *heap = main_heap;
  if (interpreter != PyInterpreterState_Main()) {
    pthread_mutex_lock(&g_lock);
    heap = find_or_make(interpreter);
    pthread_mutex_unlock(&g_lock);
  }
  if (heap != nullptr) t_known = {interpreter, heap, ended};
  return heap;
}

void note_state_block(const void *p, size_t size) {
  const StateBlock fresh{static_cast<const std::byte *>(p), size};
  pthread_mutex_lock(&g_lock);
  // Of blocks that were resized nobody has told us.
  forget_blocks_that([&](const StateBlock &old) { return old.has(fresh.begin) || fresh.has(old.begin); });
  if (StateBlock *row = g_blocks.add(); row != nullptr) {
    *row = fresh;
    g_block_bits.fetch_or(bit_of(p), std::memory_order_relaxed);
  }
  pthread_mutex_unlock(&g_lock);
}

void end_interpreter(const void *block) {
  // A state is freed by a thread that knows it, and so its bit.
  if ((g_block_bits.load(std::memory_order_relaxed) & bit_of(block)) == 0) return;
  pthread_mutex_lock(&g_lock);
  forget_blocks_that([&](const StateBlock &one) {
    if (one.begin != block) return false;
    for (Seat &seat : g_seats) {
      if (!one.has(seat.interpreter)) continue;
      seat.interpreter = nullptr;
      g_ended.fetch_add(1, std::memory_order_release);
    }
    return true;
  });
  pthread_mutex_unlock(&g_lock);
}

void visit_interpreter_heaps(void (*visit)(ace_heap *heap, void *context), void *context) {
  pthread_mutex_lock(&g_lock);
  for (const Seat &seat : g_seats) visit(seat.heap, context);
  pthread_mutex_unlock(&g_lock);
}

void lock_interpreters() { pthread_mutex_lock(&g_lock); }
void unlock_interpreters() { pthread_mutex_unlock(&g_lock); }

}  // namespace ace::python
