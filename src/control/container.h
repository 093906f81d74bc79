// Whether memory is short around the process: in its container (cgroup v1 and v2), or on the machine (PSI).
#pragma once
#include <cstdint>

namespace ace {

// True where the container's use, but for file pages that it could drop, is within a tenth of its limit, or of
// one of a group that it lies in, or tasks have lately waited for memory for a tenth of the time. Looks at most
// once a second, some system calls then. False where the system does not say. Any thread.
bool is_memory_short(uint64_t now);

// Around fork.
void lock_container();
void unlock_container();

// Forgets what was found, and looks below `root` instead of "" from now on.
void set_container_root_for_tests(const char *root);

}  // namespace ace
