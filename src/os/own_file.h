// A file that is written to for long in a process which is not ours: a host may close all descriptors, as those
// do that go to the background, and the next file that it opens then has this one's number.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/uncancelled.h"
#include "os/write_all.h"

namespace ace {

class OwnFile {
 public:
  // False, with errno, where it cannot be opened. `flags`: how, beside that it is to be written to.
  bool open(const char *path, int flags) {
    const Uncancelled whole;
    file_ = ::open(path, O_WRONLY | O_CLOEXEC | flags, 0666);
    struct stat is;
    if (file_ < 0 || fstat(file_, &is) != 0) return false;
    device_ = is.st_dev;
    inode_ = is.st_ino;
    return true;
  }

  // Is the descriptor still this file's?
  bool is_open() const {
    struct stat is;
    return file_ >= 0 && fstat(file_, &is) == 0 && is_it(is);
  }

  // At its end, where `path` still leads to it.
  bool open_again(const char *path) {
    const Uncancelled whole;
    const int file = ::open(path, O_WRONLY | O_CLOEXEC | O_APPEND);
    if (file < 0) return false;
    struct stat is;
    if (fstat(file, &is) != 0 || !is_it(is)) {
      ::close(file);
      return errno = ESTALE, false;
    }
    file_ = file;
    return true;
  }

  // False, with errno, where it cannot be written whole, or is no longer open.
  bool write(const void *data, size_t size) const {
    if (!is_open()) return errno = EBADF, false;
    return write_all(file_, static_cast<const char *>(data), size);
  }

  void close() {
    const Uncancelled whole;
    if (is_open()) ::close(file_);
    file_ = -1;
  }

 private:
  bool is_it(const struct stat &is) const { return is.st_dev == device_ && is.st_ino == inode_; }

  int file_ = -1;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace ace
