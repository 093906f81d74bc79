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

struct Files {
  char use[512], limit[512], parts[512], pressure[512];  // "" where there is none
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

// Sets the paths of a group whose folder is `mount` and `group`, or, inside a container that sees its own group
// as the root, `mount` alone. False where neither holds them.
bool find_in(Files &files, const char *mount, const char *group, const char *use, const char *limit) {
  for (const char *at : {group, ""}) {
    char folder[400];
    if (snprintf(folder, sizeof folder, "%s%s%s", g_root, mount, at) >= static_cast<int>(sizeof folder))
      continue;
    snprintf(files.use, sizeof files.use, "%s/%s", folder, use);
    snprintf(files.limit, sizeof files.limit, "%s/%s", folder, limit);
    snprintf(files.parts, sizeof files.parts, "%s/memory.stat", folder);
    snprintf(files.pressure, sizeof files.pressure, "%s/memory.pressure", folder);
    if (exists(files.use) && exists(files.limit)) return true;
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
  if (strcmp(controllers, ":") == 0)
    return find_in(files, "/sys/fs/cgroup", path, "memory.current", "memory.max");
  if (strstr(controllers, "memory") != nullptr)
    return find_in(files, "/sys/fs/cgroup/memory", path, "memory.usage_in_bytes", "memory.limit_in_bytes");
  return false;
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
uint64_t droppable(const Files &files) {
  char text[8192];
  if (!read_text(files.parts, text, sizeof text)) return 0;
  for (const char *name : {"\ntotal_inactive_file ", "\ninactive_file "}) {
    if (const char *at = strstr(text, name)) return strtoull(at + strlen(name), nullptr, 10);
  }
  return 0;
}

bool is_near_limit(const Files &files) {
  char use[64], limit[64];
  if (!read_text(files.use, use, sizeof use) || !read_text(files.limit, limit, sizeof limit)) return false;
  if (limit[0] < '0' || limit[0] > '9') return false;  // "max"
  const uint64_t most = strtoull(limit, nullptr, 10), near = most - most / kNearShare;
  const uint64_t now = strtoull(use, nullptr, 10);
  return now >= near && now - std::min(now, droppable(files)) >= near;
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
  const bool is_short = is_near_limit(files) || is_under_pressure(files);
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
