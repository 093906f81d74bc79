// A whole file in memory, for reading. For tools that read a trace; not a part of the core.
#pragma once
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

namespace ace::trace {

class MappedFile {
 public:
  explicit MappedFile(const char *path) {
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (file >= 0 && fstat(file, &info) == 0 && info.st_size > 0) {
      size_ = static_cast<size_t>(info.st_size);
      void *data = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
      if (data != MAP_FAILED) data_ = static_cast<const std::byte *>(data);
    }
    if (data_ == nullptr && (file < 0 || size_ != 0)) error_ = errno;
    if (data_ == nullptr) size_ = 0;
    if (file >= 0) close(file);
  }
  ~MappedFile() {
    if (size_ != 0) munmap(const_cast<std::byte *>(data_), size_);
  }
  MappedFile(const MappedFile &) = delete;
  MappedFile &operator=(const MappedFile &) = delete;

  // An errno: why it cannot be read; 0 where it can. An empty file has no data.
  int error() const { return error_; }
  const std::byte *data() const { return data_; }
  size_t size() const { return size_; }

 private:
  const std::byte *data_ = nullptr;
  size_t size_ = 0;
  int error_ = 0;
};

}  // namespace ace::trace
