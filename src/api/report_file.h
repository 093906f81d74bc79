// Where a process that ends writes its report, as the option says: a file, to which each process appends its
// lines, or standard error.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ace/ace.h"
#include "base/say.h"
#include "base/size_signal.h"
#include "base/uncancelled.h"

namespace ace {

// While it is there the thread cannot be cancelled.
class ReportFile {
 public:
  // `suffix` is added to a file's name. That it cannot be opened is told.
  explicit ReportFile(const char *suffix = "") {
    const char *option = ace_option_get("report");
    if (strcmp(option, "none") == 0) return;
    json_ = strcmp(option, "stderr") != 0;
    snprintf(name_, sizeof name_, "%s%s", option, json_ ? suffix : "");
    fd_ = json_ ? open(name_, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : STDERR_FILENO;
    if (fd_ < 0) say("ace: the report cannot be written to %s (ACE_REPORT): %s\n", name_, error_text(errno));
  }
  ReportFile(const ReportFile &) = delete;
  ~ReportFile() {
    if (is_wanted() && json_) close(fd_);
  }

  bool is_wanted() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  bool json() const { return json_; }

  // A part of it was written whole, or errno says why not: that is told, once.
  void wrote(bool whole) {
    if (whole || !json_ || is_cut_) return;
    is_cut_ = true;
    say("ace: the report in %s (ACE_REPORT) of process %d is not whole: %s\n", name_, getpid(),
        error_text(errno));
  }

 private:
  const Uncancelled whole_;
  const WithoutSizeSignal quiet_;
  int fd_ = -1;
  bool json_ = false, is_cut_ = false;
  char name_[4096];
};

}  // namespace ace
