// Fork: the child of a process with several threads must find every lock free and every list whole.
#pragma once

namespace ace {

// Registers the handlers, once. Called before the first heap is made.
void watch_forks();

}  // namespace ace
