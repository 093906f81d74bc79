// A process that works for long: threads that exchange blocks, end and follow one another; a VM's heap with
// collections and trims from other threads; heaps that come and go. After each round all is freed and the
// process at rest is measured: a line with the seconds, resident and mapped KiB, and operations so far.
// scripts/soak judges.
//
//   soak SECONDS [LEAK]     LEAK: bytes that each round loses, for who tests the judge
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "os/os.h"
#include "stress/threads.h"

namespace ace::test {
namespace {

constexpr unsigned kThreads = 3, kPlaces = 512;
std::atomic<void *> g_shelf[kPlaces];
std::atomic<uint64_t> g_operations, g_broken;

void check_and_free(void *p) {
  if (p == nullptr) return;
  if (!is_whole(p)) ++g_broken;
  ace_free(p);
}

// A thread of the kind that comes and goes: most of its blocks are freed by others.
void exchange(uint64_t seed) {
  Sizes sizes(seed);
  for (unsigned i = 0; i < 20'000; ++i) {
    const size_t size = sizes.next();
    void *p = ace_alloc(size);
    if (p == nullptr) {
      ++g_broken;
      continue;
    }
    p = g_shelf[sizes.random() % kPlaces].exchange(write_block(p, size), std::memory_order_acq_rel);
    if (p != nullptr && i % 16 == 0) {
      if (!is_whole(p)) ++g_broken;
      const size_t other = sizes.next();
      p = write_block(ace_realloc(p, other), other);
    }
    check_and_free(p);
    if (i % 1000 == 0) ace_trim_shared(ace_thread_heap(), size_t{1} << 20);
  }
  g_operations += 20'000;
}

// A VM: it fills, collects, keeps some, collects fully; others give its pages back meanwhile.
void collect(ace_heap *heap, uint64_t seed) {
  Sizes sizes(seed);
  std::vector<void *> blocks;
  for (unsigned day = 0; day < 8; ++day) {
    for (unsigned i = 0; i < 4000; ++i) {
      const size_t size = sizes.next();
      blocks.push_back(write_block(ace_heap_alloc(heap, size), size));
    }
    ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 1 + day % 2);
    size_t keep = 0;
    for (void *p : blocks) {
      if (!is_whole(p)) ++g_broken;
      if (day != 7 && sizes.random() % 6 == 0) {
        blocks[keep++] = p;
      } else {
        ace_heap_free(heap, p);
      }
    }
    blocks.resize(keep);
    ace_hint(heap, ACE_HINT_COLLECT_END, 0);
    if (day % 3 == 0) ace_trim(heap, SIZE_MAX);
  }
  g_operations += 8 * 4000;
}

// Heaps that end with all that they hold, as a script's does.
void come_and_go(uint64_t seed) {
  Sizes sizes(seed);
  for (unsigned i = 0; i < 12; ++i) {
    ace_heap *heap = ace_heap_create(nullptr);
    for (unsigned n = 0; n < 1500; ++n) {
      const size_t size = sizes.next();
      void *p = write_block(ace_heap_alloc(heap, size), size);
      if (n % 3 != 0) ace_heap_free(heap, p);
    }
    if (!audit(heap).empty()) ++g_broken;
    ace_heap_destroy(heap);
  }
  g_operations += 12 * 1500;
}

void work_a_round(ace_heap *vm, uint64_t round) {
  for (unsigned wave = 0; wave < 3; ++wave) {
    std::atomic<bool> over{false};
    run_together(kThreads + 1, [&](unsigned who) {
      const uint64_t seed = (round * 3 + wave) * 16 + who;
      if (who < kThreads - 1) return exchange(seed);
      if (who == kThreads - 1) {
        collect(vm, seed);
        come_and_go(seed);
        over = true;
        return;
      }
      while (!over) {
        ace_trim_shared(vm, size_t{256} << 10);
        usleep(2000);
      }
    });
  }
  for (auto &place : g_shelf) check_and_free(place.exchange(nullptr));
  // Heaps whose threads have ended are taken up by others, which find them empty.
  run_together(kThreads * 3, [](unsigned) { ace_free(ace_alloc(16)); });
  ace_trim(vm, SIZE_MAX);
  ace_tick(UINT64_MAX);
  if (!audit_all().empty()) ++g_broken;
}

void tell(uint64_t seconds) {
  unsigned long mapped = 0, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == nullptr || fscanf(file, "%lu %lu", &mapped, &resident) != 2) abort();
  fclose(file);
  const unsigned long page = static_cast<unsigned long>(sysconf(_SC_PAGESIZE)) >> 10;
  printf("%llu %lu %lu %llu\n", static_cast<unsigned long long>(seconds), resident * page, mapped * page,
         static_cast<unsigned long long>(g_operations.load()));
  fflush(stdout);
}

}  // namespace
}  // namespace ace::test

int main(int count, char **words) {
  using namespace ace::test;
  const uint64_t seconds = count > 1 ? strtoull(words[1], nullptr, 10) : 60;
  const size_t leak = count > 2 ? strtoull(words[2], nullptr, 10) : 0;
  const uint64_t begin = ace::real_os().now();
  ace_heap *vm = ace_heap_create(nullptr);
  for (uint64_t round = 0, now = 0; now < seconds; ++round) {
    work_a_round(vm, round);
    if (leak != 0) write_block(ace_heap_alloc(vm, leak), leak);
    now = (ace::real_os().now() - begin) / 1'000'000'000;
    tell(now);
    if (g_broken != 0) {
      fprintf(stderr, "%llu blocks or heaps were broken\n", static_cast<unsigned long long>(g_broken.load()));
      return 1;
    }
  }
  ace_heap_destroy(vm);
  return 0;
}
