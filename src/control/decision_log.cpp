#include "control/decision_log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/kept_errno.h"
#include "base/say.h"
#include "base/text.h"
#include "control/controller.h"
#include "decide/playbook.h"
#include "os/lock.h"
#include "os/os.h"
#include "os/own_file.h"
#include "wire/options.h"

namespace ace {
namespace {

Lock g_log_lock;  // guards the rest
OwnFile g_file;
int g_process;  // which opened it: a child of fork writes a header of its own
bool g_failed;
char g_path[kOptionTextMax];  // what the option said when it was opened
char g_line[kPlaybookMax + kPlaybookMax / 16 + 512];

void fail(const char *path) {
  g_failed = true;
  say("ace: the decision log %s cannot be written (%s); what follows is not logged\n", path, error_text(errno));
}

// The option names another file than before.
void begin_anew(const char *path) {
  g_file.close();
  g_process = 0;
  g_failed = false;
  strncpy(g_path, path, sizeof g_path - 1);
}

void add_prices(TextBuffer &line, const Prices &prices) {
  using Number = unsigned long long;
  line.add(",\"release_ns\":%llu,\"refault_ns\":%llu,\"byte_seconds\":%llu,\"whole_ns\":%llu",
           Number{prices.release_ns}, Number{prices.refault_ns}, Number{prices.byte_seconds},
           Number{prices.whole_ns});
}

// False where nothing can be written. Loops from `first_id` on begin in this process.
bool open_log(const char *path, unsigned first_id) {
  if (strcmp(g_path, path) != 0) begin_anew(path);
  if (g_failed) return false;
  if (!g_file.is_open() && !g_file.open(path, O_CREAT | O_APPEND)) return fail(path), false;
  const int process = getpid();
  if (g_process == process) return true;
  g_process = process;
  TextBuffer line(g_line, sizeof g_line);
  line.add("{\"ace_log\":2,\"pid\":%d,\"page\":%zu,\"first_id\":%u", process, os().page_size, first_id);
  add_prices(line, prices());  // for loops that have begun earlier
  line.add("}\n");
  if (g_file.write(g_line, line.length())) return true;
  return fail(path), false;
}

}  // namespace

void log_start(const LoopName &loop, const char *playbook) {
  char path[kOptionTextMax];
  if (!copy_file_option("log", path)) return;
  const KeptErrno kept;
  Locked locked(g_log_lock);
  if (!open_log(path, loop.id)) return;
  TextBuffer line(g_line, sizeof g_line);
  line.add("{\"pid\":%d,\"id\":%u,\"heap\":", g_process, loop.id);
  line.add_json_string(loop.heap);
  add_prices(line, loop.prices);
  line.add(",\"playbook\":");
  line.add_json_string(playbook);
  line.add("}\n");
  if (line.fits() && !g_file.write(g_line, line.length())) fail(path);
}

void log_step(unsigned id, const char *heap, const LoopView &view, const LoopStep &step) {
  char path[kOptionTextMax];
  if (!copy_file_option("log", path)) return;
  const KeptErrno kept;
  Locked locked(g_log_lock);
  if (!open_log(path, next_loop_id())) return;
  const size_t length = format_step(g_line, sizeof g_line, g_process, id, heap, view, step);
  if (length != 0 && !g_file.write(g_line, length)) fail(path);
}

void lock_decision_log() { g_log_lock.lock(); }
void unlock_decision_log() { g_log_lock.unlock(); }

}  // namespace ace
