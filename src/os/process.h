// What the kernel knows of this process.
#pragma once
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "base/uncancelled.h"

namespace ace {

// The beginning of a file of /proc or the like, with a final zero; its length, 0 where it cannot be read.
inline size_t read_proc(const char *path, char *text, size_t size) {
  const Uncancelled whole;
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  const ssize_t length = file < 0 ? 0 : read(file, text, size - 1);
  if (file >= 0) close(file);
  text[length < 0 ? 0 : length] = '\0';
  return length < 0 ? 0 : static_cast<size_t>(length);
}

// As a key of a JSON object. The kernel has it as words that end with a zero.
inline void add_command(TextBuffer &text) {
  char words[1024];
  const size_t length = read_proc("/proc/self/cmdline", words, sizeof words);
  text.add(",\"command\":[");
  for (const char *word = words; word < words + length; word += strlen(word) + 1) {
    if (word != words) text.add(",");
    text.add_json_string(word);
  }
  text.add("]");
}

// When the process began, in clock ticks since the system did: with its number, what tells it from all others.
// 0 where /proc is not there.
inline unsigned long long process_start() {
  char stat[1024];
  if (read_proc("/proc/self/stat", stat, sizeof stat) == 0) return 0;
  const char *at = strrchr(stat, ')');  // the program's name, in parentheses, may hold anything
  for (int field = 2; at != nullptr && field < 22; ++field) at = strchr(at + 1, ' ');
  return at == nullptr ? 0 : strtoull(at, nullptr, 10);
}

// Within which the process's number is its own; 0 where that cannot be told.
inline unsigned long process_namespace() {
  struct stat info;
  return stat("/proc/self/ns/pid", &info) == 0 ? static_cast<unsigned long>(info.st_ino) : 0;
}

}  // namespace ace
