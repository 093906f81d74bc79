#include "watch.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>

#include "os/futex.h"
#include "wire/stats_page.h"

namespace py = pybind11;
using ace::StatsPage;

namespace {

using Clock = std::chrono::steady_clock;

// A page that is open, as long as it lives.
class Page {
 public:
  explicit Page(const std::string &path) : path_(path) {
    file_ = open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    struct stat info;
    if (file_ < 0 || fstat(file_, &info) != 0) fail();
    owner_ = info.st_uid;
    const bool is_long = info.st_size >= static_cast<off_t>(sizeof(StatsPage));
    void *start =
        is_long ? mmap(nullptr, sizeof(StatsPage), PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0) : nullptr;
    if (start == MAP_FAILED) fail();
    page_ = static_cast<StatsPage *>(start);
    std::string problem;
    if (!is_long || memcmp(page_->magic, ace::kPageMagic, sizeof ace::kPageMagic) != 0) {
      problem = " is no statistics page";
    } else if (page_->version != ace::kPageVersion) {
      problem = " is a statistics page of version " + std::to_string(page_->version) +
                ", of another release of ACE; this one reads version " + std::to_string(ace::kPageVersion);
    }
    if (problem.empty()) return;
    shut();
    throw py::value_error(path + problem);
  }
  ~Page() { shut(); }
  Page(const Page &) = delete;
  Page &operator=(const Page &) = delete;

  // Asks, waits for the answer, and reads it.
  py::bytes ask(double seconds) {
    StatsPage &page = *page_;
    const uint32_t mine = page.asked.fetch_add(1, std::memory_order_release) + 1;
    page.bell.fetch_add(1, std::memory_order_release);
    ace::futex_wake(page.bell);
    constexpr double kLongest = 1e9;  // what is added to the time stays in range
    const std::chrono::duration<double> patience(seconds < kLongest ? seconds : kLongest);
    const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(patience);
    std::string text;
    for (;;) {
      const uint32_t answered = page.answered.load(std::memory_order_acquire);
      // Numbers that wrap around.
      if (static_cast<int32_t>(answered - mine) >= 0 && read(text)) return text;
      const auto left = std::chrono::duration_cast<std::chrono::nanoseconds>(end - Clock::now()).count();
      if (left <= 0) throw_timeout();
      {
        py::gil_scoped_release others;
        if (static_cast<int32_t>(answered - mine) < 0) {
          const timespec rest{static_cast<time_t>(left / 1'000'000'000),
                              static_cast<long>(left % 1'000'000'000)};
          ace::futex_wait(page.answered, answered, &rest);
        } else {
          usleep(1000);  // it is being filled for somebody else
        }
      }
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    }
  }

  uint32_t process() const { return page_->process; }
  uint32_t owner() const { return owner_; }
  uint64_t started() const { return page_->started; }
  uint32_t left_out() const { return page_->left_out.load(std::memory_order_relaxed); }
  uint32_t published() const { return page_->sequence.load(std::memory_order_relaxed) / 2; }

 private:
  // False where it was being written meanwhile.
  bool read(std::string &text) const {
    const uint32_t before = page_->sequence.load(std::memory_order_acquire);
    const uint32_t length = page_->text_bytes.load(std::memory_order_relaxed);
    if (before % 2 != 0 || length == 0 || length > ace::kPageReserved) return false;
    text.resize(length);
    const ssize_t n = pread(file_, text.data(), text.size(), static_cast<off_t>(page_->text_offset));
    std::atomic_thread_fence(std::memory_order_acquire);
    return n == static_cast<ssize_t>(text.size()) && page_->sequence.load(std::memory_order_relaxed) == before;
  }

  [[noreturn]] void throw_timeout() const {
    PyErr_SetString(PyExc_TimeoutError, (path_ + " was not filled").c_str());
    throw py::error_already_set();
  }
  [[noreturn]] void fail() {
    const int error = errno;
    shut();
    errno = error;
    PyErr_SetFromErrnoWithFilename(PyExc_OSError, path_.c_str());
    throw py::error_already_set();
  }
  void shut() {
    if (page_ != nullptr) munmap(page_, sizeof(StatsPage));
    if (file_ >= 0) close(file_);
    page_ = nullptr;
    file_ = -1;
  }

  std::string path_;
  int file_ = -1;
  uint32_t owner_ = 0;
  StatsPage *page_ = nullptr;
};

}  // namespace

void acepy::bind_watch(py::module_ &module) {
  py::class_<Page>(module, "_StatsPage", "A process's statistics page; see acealloc.watch.")
      .def(py::init<const std::string &>(), py::arg("path"))
      .def("ask", &Page::ask, py::arg("seconds"),
           "Has it filled, and gives its text. TimeoutError where nobody does so.")
      .def_property_readonly("process", &Page::process)
      .def_property_readonly("owner", &Page::owner, "The user who has made it.")
      .def_property_readonly("started", &Page::started, "In clock ticks since the system began.")
      .def_property_readonly("left_out", &Page::left_out, "Heaps that found no room in the text.")
      .def_property_readonly("published", &Page::published, "How often it was filled.");
  module.attr("_PAGE_FOLDER") = ace::kPageFolder;
}
