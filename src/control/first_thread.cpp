#include "control/first_thread.h"

#include <pthread.h>
#include <unistd.h>

#include <utility>

namespace ace {

std::atomic<bool> g_threads_barred{false};

namespace {

std::atomic<void (*)()> g_ends[kThreads];  // by Thread; nullptr: it never began
pthread_key_t g_first_thread_key;
pthread_once_t g_made_first_thread_key = PTHREAD_ONCE_INIT;
bool g_has_first_thread_key;

void first_thread_ends(void *) {
  g_threads_barred.store(true);
  for (const auto &end_of : g_ends) {
    if (void (*end)() = end_of.load()) end();
  }
}

}  // namespace

// In one order with what first_thread_ends does: either it finds `end`, or this finds that it was here.
bool end_with_first_thread(Thread thread, void (*end)()) {
  g_ends[static_cast<unsigned>(thread)].store(end);
  watch_first_thread();
  return !g_threads_barred.load();
}

void watch_first_thread() {
  thread_local bool is_known;
  if (std::exchange(is_known, true) || gettid() != getpid()) return;
  pthread_once(&g_made_first_thread_key, [] {
    g_has_first_thread_key = pthread_key_create(&g_first_thread_key, first_thread_ends) == 0;
  });
  if (g_has_first_thread_key) pthread_setspecific(g_first_thread_key, &g_first_thread_key);
}

}  // namespace ace
