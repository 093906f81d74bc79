#include "api/stats_page.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

#include "api/stats_api.h"
#include "base/say.h"
#include "base/uncancelled.h"
#include "control/first_thread.h"
#include "heap/all_heaps.h"
#include "os/futex.h"
#include "os/os.h"
#include "os/process.h"
#include "wire/options.h"
#include "wire/stats_page.h"

namespace ace {

std::atomic<bool> g_page_waits{false};

namespace {

// A heap's line has some 1.4 KiB, most processes have a few heaps.
constexpr size_t kPageFirst = size_t{16} << 10;

pthread_mutex_t g_page_lock = PTHREAD_MUTEX_INITIALIZER;  // guards the rest
pthread_cond_t g_publisher_ended = PTHREAD_COND_INITIALIZER;
StatsPage *g_page;   // stays where it is while the publisher runs
size_t g_page_room;  // bytes of it that are there; the publisher's while it runs
pid_t g_page_process;
char g_page_path[128];
bool g_is_published;    // the thread runs
unsigned g_page_forks;  // that are under way: no thread begins meanwhile
bool g_page_refused;    // there shall be none: it could not be made, or the process ends
bool g_has_said;
std::atomic<bool> g_publisher_stops{false};
std::atomic<const char *> g_host_name{nullptr};

// ---- the publisher

// The text, line by line.
class PageText {
 public:
  explicit PageText(StatsPage &page) : page_(page) {}

  template <typename Write>
  void add_line(Write write) {
    for (;;) {
      const size_t at = sizeof page_ + used_;
      TextBuffer line(reinterpret_cast<char *>(&page_) + at, g_page_room - at);
      write(line);
      if (line.fits()) {
        used_ += static_cast<uint32_t>(line.length());
        return;
      }
      if (!grow()) break;
    }
    ++left_out_;
  }
  uint32_t bytes() const { return used_; }
  uint32_t left_out() const { return left_out_; }

 private:
  bool grow() {
    const size_t more = std::min(g_page_room, kPageReserved - g_page_room);
    if (more == 0 || !os().make_resident(reinterpret_cast<std::byte *>(&page_) + g_page_room, more))
      return false;
    g_page_room += more;
    return true;
  }

  StatsPage &page_;
  uint32_t used_ = 0, left_out_ = 0;
};

void add_process(TextBuffer &line) {
  const char *host = g_host_name.load(std::memory_order_relaxed);
  line.add("{\"host\":");
  line.add_json_string(host != nullptr ? host : program_invocation_short_name);
  line.add(",\"pid\":%d,\"active\":true,\"ace\":\"%s\"", getpid(), ace_version());
  add_command(line);
  line.add("}\n");
}

void publish(StatsPage &page) {
  const uint32_t sequence = page.sequence.load(std::memory_order_relaxed);
  page.sequence.store(sequence + 1, std::memory_order_relaxed);
  __sync_synchronize();  // a fence of C++ has no meaning for the thread sanitizer, which refuses it
  PageText text(page);
  text.add_line(add_process);
  visit_heaps(
      [](Heap &heap, void *context) {
        if (g_publisher_stops.load(std::memory_order_relaxed)) return;
        static_cast<PageText *>(context)->add_line([&](TextBuffer &line) { add_shared_report(line, heap); });
      },
      &text);
  const bool is_whole = !g_publisher_stops.load(std::memory_order_relaxed);
  page.text_bytes.store(is_whole ? text.bytes() : 0, std::memory_order_relaxed);
  page.left_out.store(text.left_out(), std::memory_order_relaxed);
  page.sequence.store(sequence + 2, std::memory_order_release);
}

// Whoever needs the thread changes `bell` after what it is to see, and so before it sleeps on it.
void publish_when_asked() {
  StatsPage &page = *g_page;
  bool can_sleep = true;
  while (can_sleep) {
    const uint32_t bell = page.bell.load(std::memory_order_acquire);
    const uint32_t asked = page.asked.load(std::memory_order_acquire);
    if (asked != page.answered.load(std::memory_order_relaxed)) publish(page);
    if (g_publisher_stops.load(std::memory_order_acquire)) break;
    if (asked != page.answered.load(std::memory_order_relaxed)) {
      page.answered.store(asked, std::memory_order_release);
      futex_wake(page.answered);
    }
    can_sleep = futex_wait(page.bell, bell, nullptr) || errno == EAGAIN || errno == EINTR;
  }
  pthread_mutex_lock(&g_page_lock);
  g_is_published = false;
  pthread_cond_broadcast(&g_publisher_ended);
  pthread_mutex_unlock(&g_page_lock);
}

// ---- the page; the lock is held

void say_why_not(const char *what, const char *why) {
  if (!g_has_said) say("ace: process %d cannot be watched: %s: %s\n", getpid(), what, why);
  g_has_said = true;
}

// Those who were killed, or ended by _exit, have left theirs behind.
void remove_pages_of_the_dead(unsigned long space) {
  DIR *folder = opendir(kPageFolder);
  if (folder == nullptr) return;
  while (const dirent *entry = readdir(folder)) {
    unsigned long its_space;
    int process;
    unsigned long long start;
    if (sscanf(entry->d_name, kPageName, &its_space, &process, &start) == 3 && its_space == space &&
        process > 0 && kill(process, 0) != 0 && errno == ESRCH)
      unlinkat(dirfd(folder), entry->d_name, 0);
  }
  closedir(folder);
}

bool is_mapped(const char *path) {
  FILE *maps = fopen("/proc/self/maps", "re");
  char line[512];
  bool is = false;
  while (maps != nullptr && !is && fgets(line, sizeof line, maps) != nullptr)
    is = strstr(line, path) != nullptr;
  if (maps != nullptr) fclose(maps);
  return is;
}

void make_page() {
  const Uncancelled whole;
  const unsigned long space = process_namespace();
  const unsigned long long start = process_start();
  remove_pages_of_the_dead(space);
  const int folder = snprintf(g_page_path, sizeof g_page_path, "%s/", kPageFolder);
  snprintf(g_page_path + folder, sizeof g_page_path - static_cast<size_t>(folder), kPageName, space, getpid(),
           start);
  const size_t size = std::max(kPageFirst, os().page_size);
  void *start_of_page = os().share(g_page_path, kPageReserved, size);
  if (start_of_page == nullptr && errno == EEXIST) {
    // Another copy of this library in the process, as a host and a module of its may each have one, keeps its
    // page.
    if (is_mapped(g_page_path)) {
      g_page_refused = true;
      return;
    }
    unlink(g_page_path);  // of the program that this process was before it became another (exec)
    start_of_page = os().share(g_page_path, kPageReserved, size);
  }
  if (start_of_page == nullptr) {
    g_page_refused = true;
    return say_why_not(g_page_path, error_text(errno));
  }
  g_page = static_cast<StatsPage *>(start_of_page);
  g_page_room = size;
  g_page_process = getpid();
  g_page->text_offset = sizeof *g_page;
  g_page->process = static_cast<uint32_t>(getpid());
  g_page->started = start;
  g_page->version = kPageVersion;
  __sync_synchronize();
  memcpy(g_page->magic, kPageMagic, sizeof kPageMagic);
}

void stop_publisher() {
  if (!g_is_published || g_page_process != getpid()) return;
  g_publisher_stops.store(true, std::memory_order_release);
  g_page->bell.fetch_add(1, std::memory_order_release);
  futex_wake(g_page->bell);
  while (g_is_published) pthread_cond_wait(&g_publisher_ended, &g_page_lock);
  g_publisher_stops.store(false, std::memory_order_relaxed);
  os().await_thread_end(Thread::kPublisher);
}

// For good.
void remove_page() {
  if (g_page != nullptr && g_page_process == getpid()) unlink(g_page_path);
  g_page_refused = true;
}

void end_page() {
  const Uncancelled whole;
  pthread_mutex_lock(&g_page_lock);
  stop_publisher();
  remove_page();
  pthread_mutex_unlock(&g_page_lock);
}

// The parent's page stays the parent's.
void leave_page() {
  if (g_page != nullptr) os().unmap(g_page, kPageReserved);
  g_page = nullptr;
  g_is_published = false;
}

}  // namespace

void serve_page() {
  g_page_waits.store(false, std::memory_order_relaxed);
  if (!options().stats_page || g_threads_barred.load(std::memory_order_relaxed)) return;  // no page, either
  const int error = errno;
  pthread_mutex_lock(&g_page_lock);
  if (g_page_process != getpid()) leave_page();  // also the child of a raw clone, which runs no fork handlers
  if (g_page == nullptr && !g_page_refused) make_page();
  if (g_page != nullptr && !g_is_published && !g_page_refused && g_page_forks == 0) {
    if (end_with_first_thread(Thread::kPublisher, end_page)) {
      g_is_published = os().start_thread(Thread::kPublisher, publish_when_asked);
      if (!g_is_published) say_why_not("a thread", "the system gives none");
    } else {
      remove_page();
    }
  }
  pthread_mutex_unlock(&g_page_lock);
  errno = error;
}

void name_host(const char *host) { g_host_name.store(host, std::memory_order_relaxed); }

void pause_page() {
  const Uncancelled whole;
  pthread_mutex_lock(&g_page_lock);
  ++g_page_forks;
  stop_publisher();
}

void resume_page() {
  --g_page_forks;
  if (g_page != nullptr) g_page_waits.store(true, std::memory_order_relaxed);
  pthread_mutex_unlock(&g_page_lock);
}

void forget_page() {
  g_page_forks = 0;
  g_publisher_ended = PTHREAD_COND_INITIALIZER;
  if (g_page != nullptr) g_page_waits.store(true, std::memory_order_relaxed);
  leave_page();
  pthread_mutex_unlock(&g_page_lock);
}

namespace {
[[gnu::destructor]] void remove_page_at_exit() {
  pthread_mutex_lock(&g_page_lock);
  remove_page();
  pthread_mutex_unlock(&g_page_lock);
}
}  // namespace

}  // namespace ace
