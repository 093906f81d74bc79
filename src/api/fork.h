// Fork: the child of a process with several threads must find every lock free and every list whole.
#pragma once

namespace ace {

// Registers the handlers, once: at the start, or before the first heap where a constructor makes that earlier.
void watch_forks();

}  // namespace ace
