// The library's own threads, as the system has them.
#pragma once
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>

namespace ace::test {

// The number of this process's thread of that name, 0 where there is none.
inline int thread_named(const std::string &wanted) {
  DIR *tasks = opendir("/proc/self/task");
  int found = 0;
  while (const dirent *task = readdir(tasks)) {
    char path[64], name[32] = "";
    snprintf(path, sizeof path, "/proc/self/task/%.16s/comm", task->d_name);
    FILE *file = fopen(path, "r");
    if (file == nullptr) continue;
    if (fgets(name, sizeof name, file) != nullptr && name == wanted + "\n") found = atoi(task->d_name);
    fclose(file);
  }
  closedir(tasks);
  return found;
}

inline bool is_asleep(int thread) {
  char path[64], state = 0;
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
  FILE *file = fopen(path, "r");
  const bool read = file != nullptr && fscanf(file, "%*d (%*[^)]) %c", &state) == 1;
  if (file != nullptr) fclose(file);
  return read && state == 'S';
}

// How often it has gone to sleep; -1 where it is gone.
inline long voluntary_switches(int thread) {
  char path[64], line[128];
  snprintf(path, sizeof path, "/proc/self/task/%d/status", thread);
  FILE *file = fopen(path, "r");
  if (file == nullptr) return -1;
  long switches = -1;
  while (fgets(line, sizeof line, file) != nullptr) sscanf(line, "voluntary_ctxt_switches: %ld", &switches);
  fclose(file);
  return switches;
}

inline bool wait_until(const std::function<bool()> &holds) {
  for (int i = 0; i < 3000; ++i) {
    if (holds()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

}  // namespace ace::test
