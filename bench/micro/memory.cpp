#include "memory.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

namespace micro {

uint64_t own_bytes = 0;

namespace {

uint64_t kilobytes(const char *text, const char *name) {
  const char *line = strstr(text, name);
  return line == nullptr ? 0 : strtoull(line + strlen(name), nullptr, 10) * 1024;
}

}  // namespace

// Without stdio, whose buffers may come from the allocator under test.
Memory memory_now() {
  char text[4096];
  const int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  const ssize_t length = read(fd, text, sizeof text - 1);
  close(fd);
  if (length <= 0) return {};
  text[length] = 0;
  return {.rss = kilobytes(text, "\nVmRSS:"),
          .peak_rss = kilobytes(text, "\nVmHWM:"),
          .vmsize = kilobytes(text, "\nVmSize:"),
          .heap = kilobytes(text, "\nRssAnon:") + kilobytes(text, "\nRssShmem:")};
}

uint64_t faults_now() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_minflt + usage.ru_majflt);
}

}  // namespace micro
