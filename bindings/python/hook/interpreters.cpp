// Which heap serves which interpreter, once there may be several with a GIL of their own: each has one, used
// under its GIL, without a lock. Objects that go from one to another are freed by the remote queue of their
// heap.
//
// An interpreter is known by its state's address, which the thread state names. One operating system thread may
// run several interpreters in turn. When a state is freed, its heap waits for the next interpreter: blocks may
// outlive the one that they were made for.
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

pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;  // guards the seats
Seat *g_seats;
size_t g_count, g_room;

// A bit for each seated interpreter, by its state's address: whatever raw memory is freed may be a state's, and
// most of it need not wait for the lock to hear that it is none.
std::atomic<uint64_t> g_seated{0};
uint64_t seat_bit(const void *state) {
  return uint64_t{1} << (reinterpret_cast<uintptr_t>(state) * 0x9e3779b97f4a7c15u >> 58);
}

// Changes whenever an interpreter ends: what threads remember from before is void.
std::atomic<uint64_t> g_ended{0};
struct Known {
  const void *interpreter;
  ace_heap *heap;
  uint64_t ended;
};
thread_local Known t_known;

const void *this_interpreter() {
  void *state =
      &PyThreadState_GetUnchecked != nullptr ? PyThreadState_GetUnchecked() : _PyThreadState_UncheckedGet();
  return state == nullptr ? nullptr : PyThreadState_GetInterpreter(state);
}

// The lock is held. nullptr where there is no memory.
Seat *add_seat() {
  if (g_count == g_room) {
    const size_t room = g_room == 0 ? 8 : 2 * g_room;
    auto *seats = static_cast<Seat *>(realloc(g_seats, room * sizeof(Seat)));
    if (seats == nullptr) return nullptr;
    g_seats = seats;
    g_room = room;
  }
  return &g_seats[g_count++];
}

// The lock is held.
ace_heap *find_or_make(const void *interpreter) {
  Seat *empty = nullptr;
  for (size_t i = 0; i < g_count; ++i) {
    if (g_seats[i].interpreter == interpreter) return g_seats[i].heap;
    if (g_seats[i].interpreter == nullptr) empty = &g_seats[i];
  }
  if (empty == nullptr) {
    ace_heap *heap = make_interpreter_heap();
    empty = heap == nullptr ? nullptr : add_seat();
    if (empty == nullptr) {
      ace_heap_destroy(heap);
      return nullptr;
    }
    empty->heap = heap;
  }
  empty->interpreter = interpreter;
  g_seated.fetch_or(seat_bit(interpreter), std::memory_order_relaxed);
  return empty->heap;
}

}  // namespace

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

void end_interpreter(const void *state) {
  // A state is freed by a thread that knows it, and so its bit.
  if ((g_seated.load(std::memory_order_relaxed) & seat_bit(state)) == 0) return;
  pthread_mutex_lock(&g_lock);
  uint64_t seated = 0;
  for (size_t i = 0; i < g_count; ++i) {
    if (g_seats[i].interpreter == state) {
      g_seats[i].interpreter = nullptr;
      g_ended.fetch_add(1, std::memory_order_release);
    } else if (g_seats[i].interpreter != nullptr) {
      seated |= seat_bit(g_seats[i].interpreter);
    }
  }
  g_seated.store(seated, std::memory_order_relaxed);
  pthread_mutex_unlock(&g_lock);
}

void visit_interpreter_heaps(void (*visit)(ace_heap *heap, void *context), void *context) {
  pthread_mutex_lock(&g_lock);
  for (size_t i = 0; i < g_count; ++i) visit(g_seats[i].heap, context);
  pthread_mutex_unlock(&g_lock);
}

void lock_interpreters() { pthread_mutex_lock(&g_lock); }
void unlock_interpreters() { pthread_mutex_unlock(&g_lock); }

}  // namespace ace::python
