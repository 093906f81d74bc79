#include "control/playbook.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>

#include "base/kept_errno.h"
#include "base/say.h"
#include "base/uncancelled.h"
#include "control/controller.h"
#include "heap/all_heaps.h"
#include "os/lock.h"
#include "os/os.h"
#include "os/write_all.h"
#include "wire/options.h"

namespace ace {
namespace {

Lock g_playbook_lock;                  // guards the rest
char g_playbook_path[kOptionTextMax];  // of the playbook that was read; "": none so far
bool g_has_news;                       // that is not in the file
bool g_is_other;                // what lies at the playbook's path is something else, which is not to be lost
Context g_contexts[kContexts];  // the file's, and what was learned since
char g_text[kPlaybookMax + 1];

bool copy_file_name(char (&path)[kOptionTextMax]) { return copy_file_option("playbook", path); }

PlaybookFit fit() { return {os().page_size, options().memory_price}; }

// The whole file into g_text, with a final zero; false where there is none, or it cannot be a playbook.
bool read_file(const char *path) {
  const Uncancelled whole;
  const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat what;
  if (file < 0 || fstat(file, &what) != 0 || !S_ISREG(what.st_mode)) {
    if (file < 0 && errno == ENOENT) return false;
    g_is_other = true;
    say("ace: the playbook %s cannot be read: %s\n", path, file < 0 ? error_text(errno) : "it is no file");
    if (file >= 0) close(file);
    return false;
  }
  size_t length = 0;
  while (length < sizeof g_text) {
    const ssize_t n = read(file, g_text + length, sizeof g_text - length);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    length += static_cast<size_t>(n);
  }
  close(file);
  if (length == sizeof g_text || memchr(g_text, '\0', length) != nullptr) {
    g_is_other = true;
    say("ace: the playbook %s is none: it is ignored\n", path);
    return false;
  }
  g_text[length] = '\0';
  return length != 0;  // an empty one is as good as none
}

// False where nothing was learned.
bool add_learner(Context (&contexts)[kContexts], const Learner &learner) {
  bool has_news = false;
  for (unsigned c = 0; c < kContexts; ++c) {
    has_news |= learner.context(c).samples != 0;
    add_context(contexts[c], learner.context(c));
  }
  return has_news;
}

// Several threads, and processes, may write at once: each a file of its own, before it becomes the playbook.
std::atomic<unsigned> g_writes{0};

bool write_file(const char *path, const char *text, size_t length) {
  const Uncancelled whole;
  char temporary[300];
  if (snprintf(temporary, sizeof temporary, "%s.%d.%u", path, static_cast<int>(getpid()),
               g_writes.fetch_add(1, std::memory_order_relaxed)) >= static_cast<int>(sizeof temporary))
    return errno = ENAMETOOLONG, false;
  const int file = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) return false;
  int error = write_all(file, text, length) ? 0 : errno;
  if (close(file) != 0 && error == 0) error = errno;
  if (error == 0 && rename(temporary, path) != 0) error = errno;
  if (error == 0) return true;
  unlink(temporary);
  errno = error;
  return false;
}

bool write_contexts(const char *path, const Context (&contexts)[kContexts]) {
  const KeptErrno kept;
  char text[kPlaybookMax];
  const size_t length = format_playbook(text, sizeof text, fit(), contexts);
  if (length != 0 && write_file(path, text, length)) return true;
  say("ace: the playbook %s cannot be written: %s\n", path, error_text(errno));
  return false;
}

// The lock is held. Another playbook than before is begun as in a new process: what ended loops have learned
// was for the former.
void read_once(const char *path) {
  if (strcmp(path, g_playbook_path) == 0) return;
  const KeptErrno kept;
  strcpy(g_playbook_path, path);
  g_has_news = g_is_other = false;
  const Learner fresh;
  for (unsigned c = 0; c < kContexts; ++c) g_contexts[c] = fresh.context(c);
  unsigned line;
  if (!read_file(path)) return;
  if (const char *wrong = parse_playbook(g_text, fit(), g_contexts, &line)) {
    g_is_other = true;
    say("ace: the playbook %s %s (line %u): it is ignored; delete it to have a new one\n", path, wrong, line);
  }
}

}  // namespace

void start_loop(const LoopName &loop, Learner &learner) {
  char path[kOptionTextMax];
  if (!copy_file_name(path)) return log_start(loop, "");
  Locked locked(g_playbook_lock);
  read_once(path);
  bool knows = false;
  for (const Context &context : g_contexts) knows |= context.samples != 0 || context.pinned;
  if (!knows || format_playbook(g_text, kPlaybookMax, fit(), g_contexts) == 0) return log_start(loop, "");
  for (unsigned c = 0; c < kContexts; ++c) start_from(learner.context(c), g_contexts[c]);
  log_start(loop, g_text);
}

void add_to_playbook(const Learner &learner) {
  char path[kOptionTextMax];
  if (!copy_file_name(path)) return;
  Locked locked(g_playbook_lock);
  read_once(path);
  g_has_news |= add_learner(g_contexts, learner);
}

void lock_playbook() { g_playbook_lock.lock(); }
void unlock_playbook() { g_playbook_lock.unlock(); }

[[gnu::noinline]] bool write_playbook() {
  char path[kOptionTextMax];
  if (!copy_file_name(path) || options().mode != Mode::kLearn) return true;
  struct Sum {
    Context contexts[kContexts];
    bool has_news;
  } sum;
  {
    Locked locked(g_playbook_lock);
    read_once(path);
    memcpy(sum.contexts, g_contexts, sizeof sum.contexts);
    sum.has_news = g_has_news;
    if (g_is_other) {
      say("ace: the playbook %s is not written: what lies there is something else\n", path);
      return false;
    }
    visit_heaps(
        [](Heap &heap, void *context) {
          auto &all = *static_cast<Sum *>(context);
          const Learner *learner = learner_of(heap);
          if (learner != nullptr) all.has_news |= add_learner(all.contexts, *learner);
        },
        &sum);
  }
  return !sum.has_news || write_contexts(path, sum.contexts);
}

namespace {
// A process in which no loop ever began has not even read the options.
// What it needs of the stack is used only where there is a playbook: any thread may be the one that calls exit.
[[gnu::destructor]] void write_at_exit() {
  if (g_playbook_path[0] != '\0') write_playbook();
}
}  // namespace

}  // namespace ace
