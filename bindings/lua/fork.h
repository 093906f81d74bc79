// Fork: the child finds the locks of what enters stock programs free (as src/api/fork.h has it for the core's).
#pragma once

namespace ace::lua {

// Registers the handlers, once. Called before the first library is looked at.
void watch_forks_of_lua();

// Each around fork.
void lock_libraries();
void unlock_libraries();
void lock_heap_log_before_fork();
void unlock_heap_log();
void unlock_heap_log_in_child();

}  // namespace ace::lua
