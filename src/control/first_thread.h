// When the library may have threads of its own, and that they end with the process's first.
#pragma once
#include <atomic>

#include "os/os.h"

namespace ace {

// None begins any more. Also in the child of a fork by another thread than the first, and in its own children:
// that process ends when that thread returns, and a thread of ours would keep it.
extern std::atomic<bool> g_threads_barred;

// A process whose first thread has ended by pthread_exit, as CPython's may where interpreters are left, ends
// with its last thread, and would live for the sake of ours. So from then on it has none: `end` ends it. Asked
// before it begins, by any thread, under a lock that `end` takes: false where it may not any more. A library
// that another thread has loaded knows the first one only once that comes to it.
bool end_with_first_thread(Thread thread, void (*end)());

// The calling thread, where it is the first, is known from now on. Cheap where it is known.
void watch_first_thread();

}  // namespace ace
