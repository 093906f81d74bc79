#include "control/hints.h"

#include "control/controller.h"
#include "control/worker.h"
#include "decide/trim.h"
#include "heap/purge.h"
#include "heap/remote.h"
#include "heap/slab.h"
#include "os/os.h"
#include "wire/options.h"

namespace ace {
namespace {

void enter_phase(Heap &heap, Phase phase, uint64_t now) {
  PhaseLog &log = heap.phases;
  const Phase former = log.phase;
  if (phase == former) return;
  const auto old = static_cast<unsigned>(former);
  const uint64_t faulted = heap.counters.faulted_bytes.get(), returned = heap.counters.returned_bytes.get();
  log.ns[old].add(now - log.since.get());
  log.faulted_bytes[old].add(faulted - log.faulted_before);
  log.returned_bytes[old].add(returned - log.returned_before);
  log.phase = phase;
  log.since.set(now);
  log.faulted_before = faulted;
  log.returned_before = returned;
  log.entries[static_cast<unsigned>(phase)].add(1);
}

// What follows a collection or an idle time.
Phase phase_outside(const Heap &heap) { return heap.phases.burst_depth != 0 ? Phase::kBurst : Phase::kRun; }

// Counts, and says which phase begins.
Phase note_hint(Heap &heap, ace_hint_code hint, uint64_t value) {
  Counters &counters = heap.counters;
  PhaseLog &log = heap.phases;
  switch (hint) {
    case ACE_HINT_COLLECT_BEGIN:
      log.collection_is_partial = value != 0;
      (value == 0 ? counters.collections_full : counters.collections_partial).add(1);
      return Phase::kCollect;
    case ACE_HINT_MARK:
      return Phase::kMark;
    case ACE_HINT_SWEEP:
      return Phase::kSweep;
    case ACE_HINT_COLLECT_END:
      counters.host_live_bytes.set(value);
      return phase_outside(heap);
    case ACE_HINT_COLLECTED:
      counters.collected_objects.add(value);
      return log.phase;
    case ACE_HINT_IDLE_BEGIN:
      return Phase::kIdle;
    case ACE_HINT_IDLE_END:
      return phase_outside(heap);
    case ACE_HINT_BURST_BEGIN:
      ++log.burst_depth;
      return Phase::kBurst;
    case ACE_HINT_BURST_END:
      if (log.burst_depth != 0) --log.burst_depth;
      return phase_outside(heap);
    default:
      return log.phase;
  }
}

// Only these may have memory go back; the others come often, and what a decision looks at is not free.
bool is_occasion(ace_hint_code hint) {
  return hint == ACE_HINT_COLLECT_END || hint == ACE_HINT_IDLE_BEGIN || hint == ACE_HINT_FORK_BEFORE ||
         hint == ACE_HINT_PRESSURE;
}

struct Verdict {
  TrimDecision decision;
  bool learned;
  uint64_t delay;  // of what was learned
};

// By the fixed rules, or, where the mode says so, by the loop: for what has no rhythm (a fork, short memory) it
// has nothing to say.
Verdict decide(Heap &heap, ace_hint_code hint, uint64_t now) {
  const Mode mode = options().mode;
  const bool is_end = hint == ACE_HINT_COLLECT_END;
  if (is_end || hint == ACE_HINT_IDLE_BEGIN) {
    drain_remote_frees(heap);
    if (mode == Mode::kObserve || mode == Mode::kLearn) {
      const Occasion occasion = !is_end                              ? Occasion::kIdle
                                : !heap.phases.collection_is_partial ? Occasion::kFull
                                                                     : Occasion::kPartial;
      LoopStep step;
      if (step_loop(heap, occasion, may_defer(heap), now, step) && mode == Mode::kLearn) {
        if (!step.opened && may_defer(heap)) {
          // The interval's memory waits for its time, has gone back, or is in use again. What has fallen free
          // since goes back by the fixed rule: once the heap is quiet.
          if (step.closed) cancel_trim(heap);
          return {{TrimAction::kLater, 0, now + options().idle_delay_ns, false}, false, 0};
        }
        return {{step.action, SIZE_MAX, step.due, false}, true, step.delay};
      }
    }
  }
  const TrimView view{hint,
                      !heap.phases.collection_is_partial,
                      may_defer(heap),
                      now,
                      heap.last_collection_end,
                      options().idle_delay_ns,
                      heap.counters.resident_bytes(),
                      live_bytes_bound(heap),
                      heap.last_trim,
                      heap.last_trim_bytes,
                      heap.counters.faulted_bytes.get() - heap.faulted_at_trim};
  return {decide_at_hint(view), false, 0};
}

// A larger one of late, whose memory was not needed yet, is remembered instead: some runtimes collect twice in
// a row, and the second collection finds next to nothing.
void note_trim(Heap &heap, uint64_t now, size_t given) {
  const uint64_t faulted = heap.counters.faulted_bytes.get();
  const uint64_t needed = faulted - heap.faulted_at_trim;
  const bool recent = heap.last_trim != 0 && now - heap.last_trim < kBusyDelays * options().idle_delay_ns;
  if (given == 0) return;
  if (recent && heap.last_trim_bytes > needed && given < heap.last_trim_bytes - needed) return;
  heap.last_trim_bytes = given;
  heap.last_trim = now;
  heap.faulted_at_trim = faulted;
}

// Who ticks has time for a step of it, and not here. Who forks, or is short of memory, cannot wait.
bool gives_back_in_steps(const Heap &heap, ace_hint_code hint) {
  return options().worker == WorkerOption::kTick && may_defer(heap) &&
         (hint == ACE_HINT_COLLECT_END || hint == ACE_HINT_IDLE_BEGIN);
}

void follow(Heap &heap, ace_hint_code hint, const Verdict &verdict, uint64_t now) {
  const TrimDecision &decision = verdict.decision;
  if (decision.action == TrimAction::kNow && gives_back_in_steps(heap, hint)) {
    retire_all(heap);
    cancel_trim(heap);
    schedule_trim(heap, now, now, 1);
  } else if (decision.action == TrimAction::kNow) {
    cancel_trim(heap);
    note_trim(heap, now, trim_heap(heap, decision.budget));
  } else if (decision.action == TrimAction::kLater) {
    // The worker cannot touch the current slabs; from here on they are ordinary ones. Not after each of the
    // partial collections, which come every millisecond in a busy heap.
    if (hint != ACE_HINT_COLLECT_END || !heap.phases.collection_is_partial) retire_all(heap);
    if (verdict.learned) cancel_trim(heap);  // the time is this interval's
    schedule_trim(heap, now, decision.due, verdict.delay);
  }
}

// The host says when memory has fallen free, so that what is empty may wait for that, or for the worker, which
// comes when the heap has been quiet.
bool give_back_later(Heap &heap) {
  if (!may_defer(heap)) return false;
  const uint64_t now = os().now();
  schedule_trim(heap, now, now + options().idle_delay_ns, 0);
  // What is free in current slabs the worker cannot reach. Not too often: the next allocations fill their lists
  // anew.
  if (now - heap.spare_retired >= options().idle_delay_ns) {
    heap.spare_retired = now;
    heap.retire_asked = true;
  }
  return true;
}

}  // namespace

bool take_hint(Heap &heap, ace_hint_code hint, uint64_t value) {
  if (hint < ACE_HINT_COLLECT_BEGIN || hint > ACE_HINT_PRESSURE) return false;
  heap.counters.hints.add(1);
  wake_after_fork();
  if (kHints) heap.on_spare = give_back_later;
  const uint64_t now = os().now();
  const Phase next = note_hint(heap, hint, value);
  // In the phase that ends: what a collection gives back counts as the collection's.
  if (kHints && options().mode != Mode::kOff && is_occasion(hint))
    follow(heap, hint, decide(heap, hint, now), now);
  if (hint == ACE_HINT_FORK_CHILD && options().mode != Mode::kOff) seal_slabs(heap);
  if (hint == ACE_HINT_COLLECT_END) {
    // A full collection writes to all objects that it knows: what was shared with the parent is so no longer.
    if (heap.sealed && !heap.phases.collection_is_partial) unseal_slabs(heap);
    heap.last_collection_end = now;
    heap.phases.collection_is_partial = false;
  }
  enter_phase(heap, next, now);
  return true;
}

void forget_hints(Heap &heap) {
  heap.on_spare = nullptr;
  heap.spare_at = heap.spare_retired = 0;
  heap.retire_asked = false;
  heap.phases.burst_depth = 0;
  heap.phases.collection_is_partial = false;
  heap.last_collection_end = 0;
  if (heap.sealed) unseal_slabs(heap);
  enter_phase(heap, Phase::kRun, os().now());
}

}  // namespace ace
