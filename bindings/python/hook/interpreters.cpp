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
  pthread_mutex_lock(&g_lock);
  for (size_t i = 0; i < g_count; ++i) {
    if (g_seats[i].interpreter != state) continue;
    g_seats[i].interpreter = nullptr;
    g_ended.fetch_add(1, std::memory_order_release);
  }
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
