#include "allocator.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ace/stats.h>

#include <filesystem>

namespace micro {
namespace {

constexpr char kMark[] = "ACE_MICRO_PRELOADED";

// Of a library that was built together with this program.
std::filesystem::path beside_me(const char *path) {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / path;
}

}  // namespace

ApiKind api_named(const std::string &name) {
  if (name == "plain") return ApiKind::kPlain;
  if (name == "heap") return ApiKind::kHeap;
  if (name == "heap-sized") return ApiKind::kHeapSized;
  if (name == "theap") return ApiKind::kTheap;
  throw UsageError("there is no api '" + name + "'; the apis are plain, heap, heap-sized, theap");
}

std::string library_named(const std::string &name) {
  namespace fs = std::filesystem;
  if (name == "libc") return "";
  std::string path = name;
  if (name == "ace") path = beside_me("../../src/libace.so");
  if (name == "ace-counting") path = counting_library();
  // A name without a folder is left to the loader.
  if (path.find('/') == std::string::npos) return path;
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  if (error) throw UsageError("there is no library " + path);
  if (real.native().find_first_of(" :") != std::string::npos) {
    throw UsageError("a library whose path holds a space or a colon cannot be preloaded: " + real.native());
  }
  return real;
}

std::string counting_library() { return beside_me("libace-counting.so"); }

bool is_restarted(const std::string &library) {
  const char *done = getenv(kMark);
  return done != nullptr && library == done;
}

void restart_with(const std::string &library, char **argv) {
  if (library.empty() || is_restarted(library)) return;
  std::string preload = library;
  if (const char *others = getenv("LD_PRELOAD"); others != nullptr && *others != 0) {
    preload += std::string(":") + others;
  }
  setenv("LD_PRELOAD", preload.c_str(), 1);
  setenv(kMark, library.c_str(), 1);
  // By its path: under valgrind, /proc/self/exe itself would be valgrind.
  execv(std::filesystem::read_symlink("/proc/self/exe").c_str(), argv);
  throw UsageError(std::string("cannot start again with a preloaded library: ") + strerror(errno));
}

Allocator::Allocator(const std::string &library, ApiKind kind) : library_(library), kind_(kind) {
  const char *path = library.empty() ? "libc.so.6" : library.c_str();
  handle_ = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
  if (handle_ == nullptr) throw UsageError("the library could not be loaded: " + library);
  if (library.empty()) library_ = "libc";

  const Family family = has("ace_alloc")   ? Family::kAce
                        : has("mi_malloc") ? Family::kMimalloc
                                           : Family::kMalloc;
  is_ace_ = family == Family::kAce;
  find_plain(family);
  if (has("ace_thread_heap") && has("ace_heap_stats")) {
    find(thread_heap_, "ace_thread_heap");
    find(stats_, "ace_heap_stats");
  }
  if (has("ace_count_paths")) find(count_paths_, "ace_count_paths");
  if (kind == ApiKind::kPlain) return;
  if (kind == ApiKind::kTheap ? family != Family::kMimalloc
                              : family == Family::kMalloc || (kind == ApiKind::kHeapSized && !is_ace_)) {
    throw UsageError(library_ + " has no such interface as this api asks for");
  }
  is_ace_ ? make_ace_heap() : make_mimalloc_heap();
}

Allocator::~Allocator() {
  if (heap_ != nullptr) destroy_(heap_);
}

// A handle's symbols include those of the libraries that it needs: `malloc` must be this library's own.
bool Allocator::has(const char *name) const {
  void *symbol = dlsym(handle_, name);
  Dl_info unused;
  link_map *own = nullptr, *found = nullptr;
  return symbol != nullptr && dlinfo(handle_, RTLD_DI_LINKMAP, &own) == 0 &&
         dladdr1(symbol, &unused, reinterpret_cast<void **>(&found), RTLD_DL_LINKMAP) != 0 && own == found;
}

std::optional<uint64_t> Allocator::refills() const {
  if (stats_ == nullptr) return {};
  ace_stats stats{};
  if (stats_(heap_ != nullptr ? heap_ : thread_heap_(), &stats, sizeof stats) != 0) return {};
  return stats.refills;
}

std::optional<Allocator::Paths> Allocator::paths() const {
  if (count_paths_ == nullptr) return {};
  Paths paths;
  count_paths_(&paths.warm, &paths.cold);
  return paths;
}

template <class Function>
void Allocator::find(Function *&function, const char *name) const {
  if (!has(name)) throw UsageError(library_ + " has no function " + name);
  function = reinterpret_cast<Function *>(dlsym(handle_, name));
}

void Allocator::find_plain(Family family) {
  const std::string prefix = family == Family::kAce ? "ace_" : family == Family::kMimalloc ? "mi_" : "";
  find(plain_.alloc_, (prefix + (family == Family::kAce ? "alloc" : "malloc")).c_str());
  find(plain_.free_, (prefix + "free").c_str());
  find(plain_.realloc_, (prefix + "realloc").c_str());
  find(plain_.aligned_, (prefix + "aligned_alloc").c_str());
}

void Allocator::make_ace_heap() {
  void *(*create)(const void *);
  find(create, "ace_heap_create");
  find(destroy_, "ace_heap_destroy");
  find(ace_.alloc_, "ace_heap_alloc");
  find(ace_.realloc_, "ace_heap_realloc");
  find(ace_.aligned_, "ace_heap_aligned_alloc");
  find(ace_.free_, "ace_heap_free");
  find(ace_sized_.free_, "ace_heap_free_sized");
  heap_ = create(nullptr);
  if (heap_ == nullptr) throw Failure("no heap could be made");
  ace_.heap = heap_;
  static_cast<AceHeapBase &>(ace_sized_) = ace_;
}

void Allocator::make_mimalloc_heap() {
  void *(*create)();
  find(create, "mi_heap_new");
  find(destroy_, "mi_heap_destroy");
  const bool theap = kind_ == ApiKind::kTheap;
  find(mimalloc_.alloc_, theap ? "mi_theap_malloc" : "mi_heap_malloc");
  find(mimalloc_.realloc_, theap ? "mi_theap_realloc" : "mi_heap_realloc");
  find(mimalloc_.aligned_, theap ? "mi_theap_malloc_aligned" : "mi_heap_malloc_aligned");
  find(mimalloc_.free_, "mi_free");
  heap_ = create();
  if (heap_ == nullptr) throw Failure("no heap could be made");
  mimalloc_.heap = heap_;
  if (theap) {
    void *(*theap_of)(void *);
    find(theap_of, "mi_heap_theap");
    mimalloc_.heap = theap_of(heap_);
  }
}

}  // namespace micro
