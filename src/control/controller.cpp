#include "control/controller.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <new>

#include "control/container.h"
#include "control/decision_log.h"
#include "control/playbook.h"
#include "heap/superslab_pool.h"
#include "heap/tiers.h"
#include "os/os.h"
#include "wire/options.h"

namespace ace {

struct Controller {
  Loop loop;
  Prices prices;  // those of its beginning, by which a log replays
  unsigned id;
  Decisions decisions;  // under lock_playbook, for those who ask from other threads
};

static_assert(sizeof(Controller) <= size_t{64} << 10);

namespace {

pthread_once_t g_measured_once = PTHREAD_ONCE_INIT;
Prices g_measured;
std::atomic<unsigned> g_next_id{1};

// A smaller heap is left to the fixed rules: measuring the prices takes some of the memory that it could save.
constexpr uint64_t kLearnFrom = uint64_t{16} << 20;

size_t controller_size() { return round_up(sizeof(Controller), os().page_size); }

// Takes fresh memory into use for the first time, a part at a time, and gives it back. What counts is the
// processor's time: by the clock a busy machine would make memory dear, and it would be held for long. The
// least of several is noted, as other programs also take the caches. Memory that has just been used costs less,
// but a heap's has not. Where the clock stands still the defaults stay.
void measure_pages() {
  constexpr size_t kCount = 5, kPerMiB = 4, kPart = kMiBytes / kPerMiB;
  void *memory = os().map(kCount * kPart, os().page_size);
  if (memory == nullptr) return;
  uint64_t fault[kCount], release[kCount];
  bool released = true;
  for (size_t i = 0; i < kCount; ++i) {
    const uint64_t begin = os().thread_time();
    for (size_t at = 0; at < kPart; at += os().page_size)
      static_cast<volatile std::byte *>(memory)[i * kPart + at] = std::byte{1};
    fault[i] = os().thread_time() - begin;
  }
  for (size_t i = 0; i < kCount && released; ++i) {
    const uint64_t begin = os().thread_time();
    released = os().purge(static_cast<std::byte *>(memory) + i * kPart, kPart);
    release[i] = os().thread_time() - begin;
  }
  end_mapping(memory, kCount * kPart);
  if (!released) return;
  std::sort(fault, fault + kCount);
  std::sort(release, release + kCount);
  if (fault[0] == 0 || release[0] == 0) return;
  g_measured.refault_ns = fault[0] * kPerMiB;
  g_measured.release_ns = release[0] * kPerMiB;
}

// The same of a superslab as a huge page, where the system has any; the dearer of two times, since the first
// may have to look for one.
void measure_huge() {
  void *memory = os().map(kSuperslabSize, kSuperslabSize);
  if (memory == nullptr) return;
  uint64_t most = 0;
  for (int i = 0; i < 2; ++i) {
    const uint64_t begin = os().thread_time();
    if (!os().fill_huge(memory, kSuperslabSize) || !os().purge(memory, kSuperslabSize)) {
      most = 0;
      break;
    }
    most = std::max(most, os().thread_time() - begin);
  }
  end_mapping(memory, kSuperslabSize);
  g_measured.whole_ns = most / (kSuperslabSize / kMiBytes);
}

void measure() {
  measure_pages();
  measure_huge();
}

Controller *controller_of(Heap &heap) {
  if (heap.controller != nullptr) return heap.controller;
  void *memory = os().map(controller_size(), os().page_size);
  if (memory == nullptr) return nullptr;
  auto *controller = new (memory) Controller{};
  controller->id = g_next_id.fetch_add(1, std::memory_order_relaxed);
  controller->prices = prices();
  start_loop({controller->id, heap.name, controller->prices}, controller->loop.learner());
  lock_playbook();  // whoever writes it visits the loops that are there
  heap.controller = controller;
  unlock_playbook();
  return controller;
}

// What the last trim could not give back, as live blocks share its pages. Where fewer live now, so much less is
// taken for stuck.
uint64_t still_stuck(const Heap &heap, uint64_t live) {
  const uint64_t stuck = heap.stuck_bytes.load(std::memory_order_relaxed);
  const uint64_t then = heap.stuck_live.load(std::memory_order_relaxed);
  return live < then ? scaled(stuck, live, then) : stuck;
}

void note_decision(Decisions &decisions, const Decision &decision) {
  decisions.recent[decisions.count++ % kRecentDecisions] = decision;
}

}  // namespace

Prices prices() {
  pthread_once(&g_measured_once, measure);
  Prices all = g_measured;
  all.byte_seconds = options().memory_price;
  if (!options().huge_pages) all.whole_ns = 0;
  return all;
}

unsigned next_loop_id() { return g_next_id.load(std::memory_order_relaxed); }

bool step_loop(Heap &heap, Occasion occasion, bool may_defer, uint64_t now, LoopStep &step) {
  const uint64_t resident = heap.counters.resident_bytes(), live = live_bytes_bound(heap);
  if (heap.controller == nullptr && resident < kLearnFrom) return false;
  Controller *controller = controller_of(heap);
  if (controller == nullptr) return false;
  const uint64_t more = live + still_stuck(heap, live);
  LoopView view{};
  view.now = now;
  view.occasion = occasion;
  view.may_defer = may_defer;
  view.is_short = is_memory_short(now);
  view.slack = resident > more ? resident - more : 0;
  view.whole = std::min(view.slack, bytes_that_return_huge(heap));
  view.live = live;
  view.taken = heap.counters.taken_bytes.get();
  view.reused_at = heap.reuse.at;
  view.quiet = heap.reuse.quiet;
  view.quiet_at = heap.reuse.quiet_at;
  const uint64_t last = heap.reuse.last.load(std::memory_order_relaxed);
  if (view.reused_at == 0 && last != 0 && now - last > view.quiet) {
    view.quiet = now - last;
    view.quiet_at = last;
  }
  lock_playbook();
  step = controller->loop.at(controller->prices, view);
  if (step.opened)
    note_decision(controller->decisions, {now, view.slack, step.delay, step.context, step.action});
  unlock_playbook();
  if (step.opened) {
    watch_reuse(heap, now, step.awaits);
  } else if (step.closed) {
    end_watch(heap);
  }
  if (step.opened || step.closed) log_step(controller->id, heap.name, view, step);
  return true;
}

void end_loop(Heap &heap) {
  Controller *controller = heap.controller;
  if (controller == nullptr) return;
  lock_playbook();
  heap.controller = nullptr;
  unlock_playbook();
  add_to_playbook(controller->loop.learner());
  end_mapping(controller, controller_size());
}

Decisions decisions_of(const Heap &heap) {
  lock_playbook();
  const Decisions decisions = heap.controller == nullptr ? Decisions{} : heap.controller->decisions;
  unlock_playbook();
  return decisions;
}

const Learner *learner_of(const Heap &heap) {
  return heap.controller == nullptr ? nullptr : &heap.controller->loop.learner();
}

}  // namespace ace
