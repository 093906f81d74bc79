// The limit of what an allocator can gain in time: a malloc that only counts upwards and frees nothing, on huge
// pages that are there before they are asked for. It stands beside the real peers in time alone; its memory
// says nothing.
//
// Memory is made resident in steps of 64 MiB. The processor's time of that is told at the end, and by
// bump_prefault_ns, so that it can be taken off; what it does to the caches stays. A program whose garbage does
// not fit ends with exit status kTooMuch.
//
// malloc's blocks have a header of 16 bytes for their size, which realloc has to know. Lua tells it itself: its
// blocks have none.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "ace/ace.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace {

constexpr size_t kGranule = 16, kHugePage = size_t{2} << 20;
constexpr size_t kStep = size_t{64} << 20;  // made resident at once
constexpr size_t kSpan = size_t{8} << 20;   // what a thread takes at once
constexpr size_t kMost = size_t{8} << 30;   // and half of the machine's memory at most; BUMP_MIB says otherwise
constexpr int kTooMuch = 97;                // bench/harness/measure.py knows it

constexpr size_t round_up(size_t n, size_t unit) { return (n + unit - 1) & ~(unit - 1); }

// A thread's own: no lock, no atomic operation.
struct Span {
  char *next, *end;
};
[[gnu::tls_model("initial-exec")]] thread_local Span t_span;

pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;  // guards the rest
char *g_next, *g_resident, *g_end, *g_start;
uint64_t g_prefault_ns;

[[noreturn]] void give_up(const char *why) {
  static char line[128];
  const int n = snprintf(line, sizeof line, "bump: %s\n", why);
  if (write(STDERR_FILENO, line, static_cast<size_t>(n)) < 0) _exit(kTooMuch);
  _exit(kTooMuch);
}

uint64_t thread_ns() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(time.tv_nsec);
}

void reserve() {
  const size_t half =
      static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) / 2 * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const char *mib = getenv("BUMP_MIB");
  const size_t most = mib != nullptr ? strtoul(mib, nullptr, 10) << 20 : std::min(kMost, half);
  const size_t size = most / kStep * kStep;
  void *start = mmap(nullptr, size + kHugePage, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) give_up("the system gives no address space");
  g_start = g_next = g_resident =
      reinterpret_cast<char *>(round_up(reinterpret_cast<uintptr_t>(start), kHugePage));
  g_end = g_start + size;
  madvise(g_start, size, MADV_HUGEPAGE);
}

void make_resident(size_t size) {
  const uint64_t begin = thread_ns();
  if (madvise(g_resident, size, MADV_POPULATE_WRITE) != 0) {
    for (size_t at = 0; at < size; at += 4096) *static_cast<volatile char *>(g_resident + at) = 0;
  }
  g_resident += size;
  g_prefault_ns += thread_ns() - begin;
}

// A span that holds `size` bytes; where nobody came between, the thread's present one grows.
[[gnu::noinline]] void extend(size_t size) {
  pthread_mutex_lock(&g_lock);
  if (g_start == nullptr) reserve();
  const size_t more = round_up(size, kSpan);
  if (size > kMost || more > static_cast<size_t>(g_end - g_next)) {
    give_up("the program allocates more than fits without freeing: no limit can be told");
  }
  while (static_cast<size_t>(g_resident - g_next) < more) make_resident(kStep);
  if (t_span.end != g_next) t_span = {g_next, g_next};
  t_span.end += more;
  g_next += more;
  pthread_mutex_unlock(&g_lock);
}

inline char *bump(size_t size) {
  size = round_up(size, kGranule);
  if (static_cast<size_t>(t_span.end - t_span.next) < size) [[unlikely]]
    extend(size);
  char *block = t_span.next;
  t_span.next += size;
  return block;
}

// The last block of a thread grows where it is.
inline bool grows_in_place(char *block, size_t old_size, size_t size) {
  old_size = round_up(old_size, kGranule), size = round_up(size, kGranule);
  if (block + old_size != t_span.next || size > static_cast<size_t>(t_span.end - block)) return false;
  t_span.next = block + size;
  return true;
}

size_t &size_of(void *block) { return *reinterpret_cast<size_t *>(static_cast<char *>(block) - kGranule); }

void *with_header(size_t size) {
  if (size > kMost) return nullptr;
  char *block = bump(size + kGranule) + kGranule;
  size_of(block) = size;
  return block;
}

[[gnu::destructor]] void report() {
  const char *target = getenv("ACE_REPORT");
  const int fd = target != nullptr ? open(target, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;
  if (fd < 0) return;
  char line[128];
  const int n = snprintf(line, sizeof line, "{\"bump\":%zu,\"prefault_ns\":%llu}\n",
                         static_cast<size_t>(g_next - g_start), static_cast<unsigned long long>(g_prefault_ns));
  if (write(fd, line, static_cast<size_t>(n)) < 0) perror("bump");
  close(fd);
}

}  // namespace

extern "C" {

ACE_API uint64_t bump_prefault_ns() { return g_prefault_ns; }

// The lua_Alloc of bindings/lua/ace_lua.h.
void *ace_lua_alloc(void *, void *ptr, size_t osize, size_t nsize) {
  if (nsize == 0) return nullptr;
  if (ptr == nullptr) return nsize <= kMost ? bump(nsize) : nullptr;
  if (nsize <= osize || grows_in_place(static_cast<char *>(ptr), osize, nsize)) return ptr;
  if (nsize > kMost) return nullptr;
  return memcpy(bump(nsize), ptr, osize);
}

ACE_API void *malloc(size_t size) { return with_header(size); }

ACE_API void free(void *) {}

// Never used before, hence zero.
ACE_API void *calloc(size_t count, size_t size) {
  size_t bytes;
  return __builtin_mul_overflow(count, size, &bytes) ? nullptr : with_header(bytes);
}

ACE_API void *realloc(void *ptr, size_t size) {
  if (ptr == nullptr) return with_header(size);
  if (size > kMost) return nullptr;
  size_t &old_size = size_of(ptr);
  if (size <= old_size) return ptr;  // it keeps its size, so that growing again costs nothing
  if (grows_in_place(static_cast<char *>(ptr), old_size, size)) {
    old_size = size;
    return ptr;
  }
  void *moved = with_header(size);
  return memcpy(moved, ptr, old_size);
}

ACE_API void *memalign(size_t alignment, size_t size) {
  if (size > kMost || alignment > kMost) return nullptr;
  if (alignment <= kGranule) return with_header(size);
  auto place = reinterpret_cast<uintptr_t>(bump(size + alignment + kGranule)) + kGranule;
  void *block = reinterpret_cast<void *>(round_up(place, alignment));
  size_of(block) = size;
  return block;
}

ACE_API void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

ACE_API int posix_memalign(void **result, size_t alignment, size_t size) {
  *result = memalign(alignment, size);
  return *result != nullptr ? 0 : ENOMEM;
}

ACE_API size_t malloc_usable_size(void *ptr) { return ptr != nullptr ? size_of(ptr) : 0; }

}  // extern "C"
