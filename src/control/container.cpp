#include "control/container.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "base/kept_errno.h"
#include "os/lock.h"
#include "os/process.h"

namespace ace {
namespace {

constexpr uint64_t kLookEvery = 1'000'000'000;
constexpr uint64_t kNearShare = 10;        // of the limit
constexpr unsigned kPressurePercent = 10;  // of the last 10 s

// What a version of the kernel's groups calls its files. Use counts against the least of the limits.
struct FileNames {
  const char *mount, *use, *limits[2];
};
constexpr FileNames kVersion1{
    "/sys/fs/cgroup/memory", "memory.usage_in_bytes", {"memory.limit_in_bytes", nullptr}};
constexpr FileNames kVersion2{"/sys/fs/cgroup", "memory.current", {"memory.max", "memory.high"}};

struct Files {
  const FileNames *names;  // nullptr: the process is in no group
  char group[400];         // its folder; those that it lies in are groups as well, up to the mount
  size_t mount_length;
  char pressure[512];  // "" where there is none
};

Lock g_container_lock;  // guards the files
bool g_is_found;
Files g_files;
const char *g_root = "";
std::atomic<uint64_t> g_look_at{0};
std::atomic<bool> g_is_short{false};

// The file's beginning, with a final zero; false where it cannot be read.
bool read_text(const char *path, char *text, size_t size) {
  return path[0] != '\0' && read_proc(path, text, size) != 0;
}

bool exists(const char *path) { return access(path, R_OK) == 0; }

// False where the group's file is not there or says "max".
bool read_bytes(const char *group, const char *name, uint64_t *number) {
  char path[512], text[64];
  snprintf(path, sizeof path, "%s/%s", group, name);
  if (!read_text(path, text, sizeof text) || text[0] < '0' || text[0] > '9') return false;
  *number = strtoull(text, nullptr, 10);
  return true;
}

// The group's folder is the mount and `group`, or, inside a container that sees its own group as the root, the
// mount alone. False where neither holds the files.
bool find_in(Files &files, const FileNames &names, const char *group) {
  for (const char *at : {group, ""}) {
    files.mount_length = strlen(g_root) + strlen(names.mount);
    if (snprintf(files.group, sizeof files.group, "%s%s%s", g_root, names.mount, at) >=
        static_cast<int>(sizeof files.group))
      continue;
    snprintf(files.pressure, sizeof files.pressure, "%s/memory.pressure", files.group);
    files.names = &names;
    uint64_t use;
    if (read_bytes(files.group, names.use, &use)) return true;
  }
  files = {};
  return false;
}

// The process's group by a line of /proc/self/cgroup: "0::/path" in version 2, "4:memory:/path" in version 1.
bool find_group(Files &files, char *line) {
  char *controllers = strchr(line, ':'),
       *path = controllers == nullptr ? nullptr : strchr(controllers + 1, ':');
  if (path == nullptr) return false;
  *path++ = '\0';
  if (strcmp(path, "/") == 0) path = path + 1;
  if (strcmp(controllers, ":") == 0) return find_in(files, kVersion2, path);
  return strstr(controllers, "memory") != nullptr && find_in(files, kVersion1, path);
}

void find(Files &files) {
  files = {};
  char path[300], text[4096];
  snprintf(path, sizeof path, "%s/proc/self/cgroup", g_root);
  if (read_text(path, text, sizeof text)) {
    char *rest = nullptr;
    for (char *line = strtok_r(text, "\n", &rest); line != nullptr; line = strtok_r(nullptr, "\n", &rest)) {
      if (find_group(files, line)) break;
    }
  }
  if (!exists(files.pressure))
    snprintf(files.pressure, sizeof files.pressure, "%s/proc/pressure/memory", g_root);
}

// Pages of files that were not used lately: they count as the group's, and make room for anything.
uint64_t droppable(const char *group) {
  char path[512], text[8192];
  snprintf(path, sizeof path, "%s/memory.stat", group);
  if (!read_text(path, text, sizeof text)) return 0;
  for (const char *name : {"\ntotal_inactive_file ", "\ninactive_file "}) {
    if (const char *at = strstr(text, name)) return strtoull(at + strlen(name), nullptr, 10);
  }
  return 0;
}

bool is_near_limit(const char *group, const FileNames &names) {
  uint64_t most = UINT64_MAX, use;
  for (const char *name : names.limits) {
    uint64_t limit;
    if (name != nullptr && read_bytes(group, name, &limit)) most = std::min(most, limit);
  }
  const uint64_t near = most - most / kNearShare;
  if (most == UINT64_MAX || !read_bytes(group, names.use, &use)) return false;
  return use >= near && use - std::min(use, droppable(group)) >= near;
}

// A group's limit is also one for the groups in it.
bool is_any_near_limit(Files &files) {
  if (files.names == nullptr) return false;
  for (char *end = files.group + strlen(files.group);;) {
    *end = '\0';
    if (is_near_limit(files.group, *files.names)) return true;
    do {
      if (end <= files.group + files.mount_length) return false;
    } while (*--end != '/');
  }
}

// "some avg10=12.34 avg60=..."
bool is_under_pressure(const Files &files) {
  char text[256];
  if (!read_text(files.pressure, text, sizeof text)) return false;
  const char *share = strstr(text, "some avg10=");
  return share != nullptr && strtoul(share + strlen("some avg10="), nullptr, 10) >= kPressurePercent;
}

}  // namespace

bool is_memory_short(uint64_t now) {
  uint64_t at = g_look_at.load(std::memory_order_relaxed);
  if (now < at || !g_look_at.compare_exchange_strong(at, now + kLookEvery, std::memory_order_relaxed))
    return g_is_short.load(std::memory_order_relaxed);
  const KeptErrno kept;  // some files are not there
  Files files;
  {
    Locked locked(g_container_lock);
    if (!g_is_found) find(g_files);
    g_is_found = true;
    files = g_files;
  }
  const bool is_short = is_any_near_limit(files) || is_under_pressure(files);
  g_is_short.store(is_short, std::memory_order_relaxed);
  return is_short;
}

void lock_container() { g_container_lock.lock(); }
void unlock_container() { g_container_lock.unlock(); }

void set_container_root_for_tests(const char *root) {
  Locked locked(g_container_lock);
  g_root = root;
  g_is_found = false;
  g_look_at.store(0, std::memory_order_relaxed);
  g_is_short.store(false, std::memory_order_relaxed);
}

}  // namespace ace
