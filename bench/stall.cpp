// How long single allocations take while another thread gives gigabytes of the same heap back.
//
//   stall trim|control MIB FILE
//
// Fills a heap with MIB of small blocks and frees all but one in a thousand. With `trim` a collection's end is
// hinted then, so that ACE's worker gives the free pages back; with `control` nothing is. Meanwhile this thread
// replaces random blocks of a working set, and takes the time of each allocation and each free, for as long as
// the trim lasts (`control`: for the operations of a trim of that size, about). FILE gets lines "ns,count";
// standard output one JSON object. Exit status: 0; 1: the heap failed; 2: wrong use.
#include <ace/ace.h>
#include <ace/stats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

namespace {

constexpr size_t kBlock = 512;
constexpr unsigned kSurvivors = 1000;
constexpr unsigned kWorkingSet = 4096;
constexpr uint64_t kStride = 1 << 14;            // operations between two looks at the statistics
constexpr uint64_t kLeast = 4'000'000;           // operations
constexpr uint64_t kPatience = 60'000'000'000u;  // ns

uint64_t now() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(t.tv_nsec);
}

// xorshift64: what is drawn must not cost much beside what is measured.
struct Random {
  uint64_t state = 42;
  uint64_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
  }
};

// Exact counts: short times in an array, the few long ones in a map.
class Times {
 public:
  Times() : short_(1 << 16) {}
  void add(uint64_t ns) {
    if (ns < short_.size()) {
      ++short_[ns];
    } else {
      ++long_[ns];
    }
  }
  bool write(const char *path) const {
    FILE *file = fopen(path, "w");
    if (file == nullptr) return false;
    fputs("ns,count\n", file);
    for (size_t ns = 0; ns < short_.size(); ++ns) {
      if (short_[ns] != 0) fprintf(file, "%zu,%llu\n", ns, static_cast<unsigned long long>(short_[ns]));
    }
    for (const auto &[ns, count] : long_) {
      fprintf(file, "%llu,%llu\n", static_cast<unsigned long long>(ns), static_cast<unsigned long long>(count));
    }
    const bool written = ferror(file) == 0;
    return fclose(file) == 0 && written;
  }

 private:
  std::vector<uint64_t> short_;
  std::map<uint64_t, uint64_t> long_;
};

ace_stats stats_of(ace_heap *heap) {
  ace_stats stats{};
  ace_heap_stats(heap, &stats, sizeof stats);
  return stats;
}

void *checked(void *p) {
  if (p == nullptr) {
    fputs("stall: the heap returned NULL: is there so much memory?\n", stderr);
    exit(1);
  }
  memset(p, 1, 16);
  return p;
}

int run(bool trims, size_t mib, const char *path) {
  // By the fixed rules the trim begins as soon as the worker may call the heap busy: after ten times this.
  ace_option_set("mode", "static");
  ace_option_set("idle_delay", "1ms");
  ace_heap *heap = ace_heap_create(nullptr);
  const size_t count = (mib << 20) / kBlock;
  auto **blocks = static_cast<void **>(
      mmap(nullptr, count * sizeof(void *), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (heap == nullptr || blocks == MAP_FAILED) {
    fputs("stall: there is not enough memory\n", stderr);
    return 1;
  }
  for (size_t i = 0; i < count; ++i) blocks[i] = checked(ace_heap_alloc(heap, kBlock));

  std::vector<void *> set(kWorkingSet);
  Random random;
  for (void *&p : set) p = checked(ace_heap_alloc(heap, 16 + random.next() % 1009));

  ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 1);
  for (size_t i = 0; i < count; ++i) {
    if (i % kSurvivors != 0) ace_heap_free(heap, blocks[i]);
  }
  const ace_stats before = stats_of(heap);
  if (trims) ace_hint(heap, ACE_HINT_COLLECT_END, 0);

  Times times;
  const uint64_t begin = now(), to_return = before.resident_bytes - before.live_bytes;
  uint64_t operations = 0, end = begin;
  const auto is_over = [&] {
    if (operations < kLeast) return false;
    if (!trims || now() - begin > kPatience) return true;
    const ace_stats stats = stats_of(heap);
    return stats.returned_bytes + stats.released_bytes - before.returned_bytes - before.released_bytes >
           to_return / 10 * 9;
  };
  do {
    for (uint64_t i = 0; i < kStride; ++i) {
      const uint64_t draw = random.next();
      void *&p = set[draw % kWorkingSet];
      const size_t size = 16 + (draw >> 32) % 1009;
      const uint64_t first = now();
      ace_heap_free(heap, p);
      const uint64_t second = now();
      p = ace_heap_alloc(heap, size);
      const uint64_t third = now();
      checked(p);
      times.add(second - first);
      times.add(third - second);
    }
    operations += 2 * kStride;
  } while (!is_over());
  end = now();

  const ace_stats after = stats_of(heap);
  const uint64_t returned =
      after.returned_bytes + after.released_bytes - before.returned_bytes - before.released_bytes;
  if (!times.write(path)) {
    fprintf(stderr, "stall: cannot write %s\n", path);
    return 1;
  }
  printf(
      "{\"mode\": \"%s\", \"mib\": %zu, \"operations\": %llu, \"seconds\": %.6f, \"returned_bytes\": %llu, "
      "\"purge_calls\": %llu, \"purge_seconds\": %.6f}\n",
      trims ? "trim" : "control", mib, static_cast<unsigned long long>(operations),
      static_cast<double>(end - begin) * 1e-9, static_cast<unsigned long long>(returned),
      static_cast<unsigned long long>(after.purge_calls - before.purge_calls),
      static_cast<double>(after.purge_ns - before.purge_ns) * 1e-9);
  if (trims && returned < to_return / 10 * 9) {
    fputs("stall: the worker has not given the memory back within a minute\n", stderr);
    return 1;
  }
  return 0;
}

}  // namespace

int main(int argc, char **argv) {
  const bool trims = argc == 4 && strcmp(argv[1], "trim") == 0;
  const long mib = argc == 4 ? strtol(argv[2], nullptr, 10) : 0;
  if ((!trims && (argc != 4 || strcmp(argv[1], "control") != 0)) || mib < 1 || mib > 1 << 20) {
    fputs("usage: stall trim|control MIB FILE\n", stderr);
    return 2;
  }
  return run(trims, static_cast<size_t>(mib), argv[3]);
}
