// All that the allocator asks of the system, behind one table, so that tests can make any of it fail and can
// move the clock.
#pragma once
#include <cstddef>
#include <cstdint>

namespace ace {

// The threads of the library's own, by what they are for.
enum class Thread : unsigned { kWorker, kPublisher };
inline constexpr unsigned kThreads = 2;

struct OsTable {
  // Fresh zeroed memory of `size` bytes at an address divisible by `alignment` (both multiples of the page
  // size) and below 2^kAddressBits, readable and writable; nullptr where the system refuses. No memory is
  // resident before it is touched, and it is marked so that transparent huge pages do not make it so.
  void *(*map)(size_t size, size_t alignment);
  // Ends a mapping, or a part of one in whole pages. False where the system refuses (a mapping split in two
  // may exceed its count of mappings): all of the memory then stays mapped.
  bool (*unmap)(void *start, size_t size);
  // The pages stay mapped and read as zero; they are no longer resident. False where the system refuses.
  bool (*purge)(void *start, size_t size);
  // Grows or shrinks the mapping at `start` without moving it; false where that cannot be.
  bool (*resize)(void *start, size_t old_size, size_t new_size);
  // Moves the pages of [start, start + size) to `target`, of which new_size bytes are mapped already and are
  // replaced; the source is unmapped. False where the system refuses, as where the program has divided the
  // mapping by an advice for a part of it: then the source is as it was, and the target fit to be unmapped.
  // What has moved is one mapping: Linux before 6.17 moves nothing else, and none lets anything else grow.
  bool (*move)(void *start, size_t size, void *target, size_t new_size);
  // Nanoseconds since a fixed moment.
  uint64_t (*now)();
  // Nanoseconds of processor time that the calling thread has had.
  uint64_t (*thread_time)();
  // Makes fresh memory resident as one huge page; `start` and `size` are multiples of a huge page's size. False
  // where the system gives none: the memory is then as it was, but for one resident page.
  bool (*fill_huge)(void *start, size_t size);
  // What fill_huge was asked for is over: pages that are purged stay away, where the system would fill up the
  // huge page again.
  void (*end_huge)(void *start, size_t size);
  // Runs `run` on a thread of its own ("ace-worker", "ace-publisher"), detached, with all signals blocked; at
  // most one of each at a time. False where the system refuses.
  bool (*start_thread)(Thread thread, void (*run)());
  // Waits until the system counts that thread no longer, whose run() is about to return, or has; not at all
  // where there is none.
  void (*await_thread_end)(Thread thread);
  // A new file of `reserved` zero bytes, this user's alone, as memory that whoever opens it shares. Its first
  // `size` bytes are there, the others not before make_resident. nullptr, with errno, where that cannot be.
  void *(*share)(const char *path, size_t reserved, size_t size);
  // Has pages of such a file be there; false where there is no memory for them: touching them would be fatal.
  bool (*make_resident)(void *start, size_t size);
  // From now on whoever touches these pages gets a signal. False where the system refuses.
  bool (*guard)(void *start, size_t size);
  // Bytes that nobody can guess; false where the system has none.
  bool (*random)(void *start, size_t size);
  size_t page_size;
};

// The table in use; the real one unless another was put in its place before the first heap: by tests, and by
// who replays a trace under its clock.
const OsTable &os();
void replace_os(const OsTable *table);
const OsTable &real_os();
// What `map` does, for any limit.
void *map_below(size_t size, size_t alignment, uintptr_t limit);

}  // namespace ace
