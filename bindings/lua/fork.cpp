#include "lua/fork.h"

#include <pthread.h>

namespace ace::lua {
namespace {

// Neither is taken while the other is held, nor while one of the core's is.
void before() {
  lock_libraries();
  lock_heap_log_before_fork();
}

void in_parent() {
  unlock_heap_log();
  unlock_libraries();
}

void in_child() {
  unlock_heap_log_in_child();
  unlock_libraries();
}

pthread_once_t g_once = PTHREAD_ONCE_INIT;

}  // namespace

void watch_forks_of_lua() {
  pthread_once(&g_once, [] { pthread_atfork(before, in_parent, in_child); });
}

}  // namespace ace::lua
