// The statistics page: a file in shared memory by which a process tells those who watch it what its heaps
// consist of.
//
//   0  magic           version  text_offset  |  process  0  started             written once
//  32  asked  bell  |  answered  sequence  |  text_bytes  left_out  |  0
//  64  text: the lines of a JSON report (ace_report), and before them one of the process
//
// Nothing is written there until somebody asks, and the process's publisher sleeps. Who asks adds 1 to `asked`,
// then to `bell`, wakes those who sleep on `bell` (a futex), and sleeps on `answered` until that has come to
// what `asked` was: then the text is newer than the question. It is whole if it is not empty, `sequence` was
// even before it was read, and still is the same.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace ace {

// As a file of kPageFolder, with the number of the namespace of process numbers, the process's own, and when it
// began in clock ticks: a page whose process has gone is told from that of a later one by its name.
inline constexpr char kPageFolder[] = "/dev/shm";
inline constexpr char kPageName[] = "ace-stats.%lu.%d.%llu";

inline constexpr char kPageMagic[8] = {'A', 'C', 'E', 's', 't', 'a', 't', 's'};
inline constexpr uint32_t kPageVersion = 1;

// What it may grow to takes no memory before.
inline constexpr size_t kPageReserved = size_t{8} << 20;

struct StatsPage {
  char magic[8];
  uint32_t version;
  uint32_t text_offset;
  uint32_t process;
  uint32_t zero;
  uint64_t started;
  std::atomic<uint32_t> asked;       // those who watch add to it, in any process
  std::atomic<uint32_t> bell;        // they do, and the process where it needs its thread
  std::atomic<uint32_t> answered;    // the publisher's, released after the text
  std::atomic<uint32_t> sequence;    // the publisher's: odd while it writes; half of it says how often it did
  std::atomic<uint32_t> text_bytes;  // the publisher's, as is the rest
  std::atomic<uint32_t> left_out;    // heaps for which there was no room
  uint64_t zeros;
};
static_assert(sizeof(StatsPage) == 64 && offsetof(StatsPage, started) == 24 &&
              offsetof(StatsPage, asked) == 32 && offsetof(StatsPage, answered) == 40 &&
              offsetof(StatsPage, text_bytes) == 48);
static_assert(std::atomic<uint32_t>::is_always_lock_free, "processes share them");

}  // namespace ace
