// Asks a process for its statistics page, as `ace top` does.
#pragma once
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "os/futex.h"
#include "wire/stats_page.h"

namespace ace::test {

// The paths of a process's pages: one, or none.
inline std::vector<std::string> pages_of(pid_t process) {
  std::vector<std::string> found;
  DIR *folder = opendir(kPageFolder);
  while (const dirent *entry = readdir(folder)) {
    unsigned long space;
    int its;
    unsigned long long start;
    if (sscanf(entry->d_name, kPageName, &space, &its, &start) == 3 && its == process)
      found.push_back(std::string(kPageFolder) + "/" + entry->d_name);
  }
  closedir(folder);
  return found;
}

class Watcher {
 public:
  explicit Watcher(const std::string &path) : file_(open(path.c_str(), O_RDWR | O_CLOEXEC)) {
    void *start = mmap(nullptr, sizeof(StatsPage), PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
    page_ = static_cast<StatsPage *>(start);
  }
  ~Watcher() {
    munmap(page_, sizeof(StatsPage));
    close(file_);
  }
  Watcher(const Watcher &) = delete;
  Watcher &operator=(const Watcher &) = delete;

  StatsPage &page() { return *page_; }

  // The text; "" where nobody answers in `patience` seconds.
  std::string ask(int patience = 30) {
    const uint32_t mine = ++page_->asked;
    ++page_->bell;
    futex_wake(page_->bell);
    for (int tries = 0; tries < patience * 100; ++tries) {
      const uint32_t answered = page_->answered;
      const uint32_t before = page_->sequence;
      if (static_cast<int32_t>(answered - mine) >= 0 && before % 2 == 0) {
        std::string text(page_->text_bytes, '\0');
        const ssize_t n = pread(file_, text.data(), text.size(), page_->text_offset);
        if (n == static_cast<ssize_t>(text.size()) && page_->sequence == before) return text;
      } else {
        const timespec rest{0, 10'000'000};
        futex_wait(page_->answered, answered, &rest);
      }
    }
    return "";
  }

 private:
  int file_;
  StatsPage *page_;
};

}  // namespace ace::test
