// The system table for Linux.
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

#include "base/bits.h"
#include "base/config.h"
#include "base/kept_errno.h"
#include "base/path.h"
#include "base/uncancelled.h"
#include "os/os.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

namespace ace {
namespace {

// Where the system gives memory above the limit by itself it also takes the places that are named, as long as
// they are free: from a quarter of the limit on, one behind the other. 0: it has given none yet.
std::atomic<uintptr_t> g_next_place{0};

// Without MAP_NORESERVE: what is more than the machine has is refused here, where a VM can still say so, and
// not when it is written to.
void *map_anywhere(void *place, size_t size) {
  return mmap(place, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

void *map_under(size_t size, uintptr_t limit) {
  if (size > limit / 4) return MAP_FAILED;
  constexpr int kPlaces = 64;
  for (int i = 0; i <= kPlaces; ++i) {
    void *place = nullptr;
    if (g_next_place.load(std::memory_order_relaxed) != 0 || i != 0) {
      const uintptr_t step = round_up(size, kSuperslabSize);
      place = reinterpret_cast<void *>(limit / 4 +
                                       g_next_place.fetch_add(step, std::memory_order_relaxed) % (limit / 2));
    }
    void *start = map_anywhere(place, size);
    if (start == MAP_FAILED || address_of(start) + size <= limit) return start;
    munmap(start, size);
  }
  return MAP_FAILED;
}

void *map(size_t size, size_t alignment) { return map_below(size, alignment, uintptr_t{1} << kAddressBits); }

// Piece by piece, from the end: the system lets no other thread of the process map or fault meanwhile. Where it
// refuses after the first, what is left stays mapped for good: who asked again would hit what others may have
// mapped behind it.
bool unmap(void *start, size_t size) {
  constexpr size_t kAtOnce = size_t{2} << 20;
  OnPath::note_system_call();
  const KeptErrno kept;
  size_t left = size;
  while (left > kAtOnce && munmap(static_cast<char *>(start) + left - kAtOnce, kAtOnce) == 0) left -= kAtOnce;
  if (munmap(start, left) == 0) return true;
  if (left == size) return false;
  madvise(start, left, MADV_DONTNEED);
  return true;
}

bool purge(void *start, size_t size) {
  OnPath::note_system_call();
  const KeptErrno kept;
  return madvise(start, size, MADV_DONTNEED) == 0;
}

bool resize(void *start, size_t old_size, size_t new_size) {
  OnPath::note_system_call();
  const KeptErrno kept;
  return mremap(start, old_size, new_size, 0) != MAP_FAILED;
}

bool move(void *start, size_t size, void *target, size_t new_size) {
  OnPath::note_system_call();
  const KeptErrno kept;
  if (mremap(start, size, new_size, MREMAP_MAYMOVE | MREMAP_FIXED, target) != MAP_FAILED) return true;
  // Before it looks at the source the system unmaps the target, which its owner will unmap: nobody else's
  // mapping may be there by then.
  if (errno == EFAULT || errno == ENOMEM) {
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    void *hole = mmap(target, new_size, PROT_NONE, kFlags, -1, 0);
    if (hole != MAP_FAILED && hole != target) munmap(hole, new_size);  // Linux before 4.17
  }
  return false;
}

uint64_t read_clock(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(t.tv_nsec);
}

uint64_t now() { return read_clock(CLOCK_MONOTONIC); }
uint64_t thread_time() { return read_clock(CLOCK_THREAD_CPUTIME_ID); }

bool fill_huge(void *start, size_t size) {
  OnPath::note_system_call();
  const KeptErrno kept;
  if (madvise(start, size, MADV_HUGEPAGE) != 0) return false;
  *static_cast<volatile char *>(start) = 0;  // fresh memory is zero
  // A page far from the one that was touched is there only if both are part of a huge page.
  const size_t page = real_os().page_size;
  unsigned char resident = 0;
  if (mincore(static_cast<char *>(start) + size - page, page, &resident) == 0 && (resident & 1) != 0)
    return true;
  madvise(start, size, MADV_NOHUGEPAGE);
  return false;
}

void end_huge(void *start, size_t size) {
  OnPath::note_system_call();
  const KeptErrno kept;
  madvise(start, size, MADV_NOHUGEPAGE);
}

struct OwnThread {
  const char *name;
  void (*run)();
  std::atomic<pid_t> id{0};
};
OwnThread g_threads[kThreads] = {{"ace-worker", nullptr}, {"ace-publisher", nullptr}};

// The program's thread-local variables, which lie on each thread's stack.
size_t thread_local_bytes() {
  size_t bytes = 0;
  const auto add = [](dl_phdr_info *library, size_t, void *sum) {
    for (unsigned i = 0; i < library->dlpi_phnum; ++i) {
      const auto &header = library->dlpi_phdr[i];
      if (header.p_type == PT_TLS) *static_cast<size_t *>(sum) += header.p_memsz + header.p_align;
    }
    return 0;
  };
  dl_iterate_phdr(add, &bytes);
  return bytes;
}

bool start_thread(Thread thread, void (*run)()) {
  const KeptErrno kept;
  OwnThread &own = g_threads[static_cast<unsigned>(thread)];
  own.run = run;
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, (size_t{128} << 10) + round_up(thread_local_bytes(), kPage));
  auto body = [](void *argument) -> void * {
    auto *self = static_cast<OwnThread *>(argument);
    self->id.store(gettid(), std::memory_order_relaxed);
    pthread_setname_np(pthread_self(), self->name);
    self->run();
    return nullptr;
  };
  pthread_t handle;
  const bool started = pthread_create(&handle, &attributes, body, &own) == 0;
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  return started;
}

// A thread is counted until the kernel is done with it, which pthread_join does not wait for. A moment at most:
// a number that was given away anew shall not be waited for.
void await_thread_end(Thread thread) {
  constexpr uint64_t kPatience = 100'000'000;
  std::atomic<pid_t> &id = g_threads[static_cast<unsigned>(thread)].id;
  pid_t waited = id.load(std::memory_order_relaxed);
  if (waited == 0) return;
  const KeptErrno kept;
  const uint64_t begin = now();
  while (tgkill(getpid(), waited, 0) == 0 && now() - begin < kPatience) sched_yield();
  id.compare_exchange_strong(waited, 0, std::memory_order_relaxed);
}

void *share(const char *path, size_t reserved, size_t size) {
  // A file beyond the limit is not only refused: the process would get a signal that ends it.
  rlimit most{};
  if (getrlimit(RLIMIT_FSIZE, &most) == 0 && most.rlim_cur < reserved) return errno = EFBIG, nullptr;
  const Uncancelled whole;
  const int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (file < 0) return nullptr;
  void *start = MAP_FAILED;
  int error = fchmod(file, 0600) != 0 || ftruncate(file, static_cast<off_t>(reserved)) != 0 ? errno : EINTR;
  while (error == EINTR) error = posix_fallocate(file, 0, static_cast<off_t>(size));
  if (error == 0) {
    start = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
    if (start == MAP_FAILED) error = errno;
  }
  close(file);
  if (error == 0) return start;
  unlink(path);
  errno = error;
  return nullptr;
}

#ifndef MADV_POPULATE_WRITE  // Linux 5.14
#define MADV_POPULATE_WRITE 23
#endif

bool make_resident(void *start, size_t size) { return madvise(start, size, MADV_POPULATE_WRITE) == 0; }

bool guard(void *start, size_t size) {
  OnPath::note_system_call();
  const KeptErrno kept;
  return mprotect(start, size, PROT_NONE) == 0;
}

bool random_bytes(void *start, size_t size) {
  const KeptErrno kept;
  const Uncancelled whole;
  return getrandom(start, size, GRND_NONBLOCK) == static_cast<ssize_t>(size);
}

OsTable g_real{map,          unmap,    purge,        resize,           move,  now,           thread_time,
               fill_huge,    end_huge, start_thread, await_thread_end, share, make_resident, guard,
               random_bytes, 0};
std::atomic<const OsTable *> g_table{nullptr};

}  // namespace

// Over-map and cut: the kernel aligns to pages only. A mapping of exactly the right place often comes by
// itself once the first one is aligned, so that is tried first.
void *map_below(size_t size, size_t alignment, uintptr_t limit) {
  OnPath::note_system_call();
  const KeptErrno kept;
  void *start = map_under(size, limit);
  if (start == MAP_FAILED) return nullptr;
  if (address_of(start) % alignment != 0) {
    munmap(start, size);
    if (size > SIZE_MAX - alignment) return nullptr;
    start = map_under(size + alignment, limit);
    if (start == MAP_FAILED) return nullptr;
    uintptr_t from = address_of(start), aligned = round_up(from, alignment);
    uintptr_t end = from + size + alignment;
    if (aligned != from) munmap(start, aligned - from);
    if (end != aligned + size) munmap(reinterpret_cast<void *>(aligned + size), end - aligned - size);
    start = reinterpret_cast<void *>(aligned);
  }
  // Where transparent huge pages are `always`, the system would fill up again what was purged.
  madvise(start, size, MADV_NOHUGEPAGE);
  return start;
}

const OsTable &real_os() {
  if (g_real.page_size == 0) g_real.page_size = static_cast<size_t>(getpagesize());
  return g_real;
}

const OsTable &os() {
  const OsTable *table = g_table.load(std::memory_order_acquire);
  if (table != nullptr) return *table;
  table = &real_os();
  g_table.store(table, std::memory_order_release);
  return *table;
}

void replace_os(const OsTable *table) { g_table.store(table, std::memory_order_release); }

}  // namespace ace
