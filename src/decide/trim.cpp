#include "decide/trim.h"

#include <algorithm>

namespace ace {
namespace {

// Below this, or below a sixteenth of what is live, looking for dead pages is not worth the walk.
constexpr uint64_t kSlackMin = uint64_t{1} << 20;
constexpr uint64_t kSlackShare = 16;
// A partial collection says little: most of what is free will be used again soon.
constexpr uint64_t kPartialSlackMin = uint64_t{8} << 20;
// A program that is never quiet is looked at all the same after this many delays, and keeps what it turns over.
constexpr uint64_t kPatience = 10;

constexpr TrimDecision kNothing{TrimAction::kNothing, 0, 0, false};
constexpr TrimDecision kAllNow{TrimAction::kNow, SIZE_MAX, 0, false};

uint64_t slack_of(uint64_t resident, uint64_t live) { return resident > live ? resident - live : 0; }

// Did the last trim cost more than it brought? What it gave back was soon in use again. A small one says
// nothing of a large one.
bool was_refaulted_soon(const TrimView &view, uint64_t slack) {
  return view.last_trim != 0 && view.now - view.last_trim < kBusyDelays * view.idle_delay &&
         view.last_trim_bytes >= slack / 4 && view.faulted_since >= view.last_trim_bytes / 2;
}

}  // namespace

bool is_worth_it(uint64_t slack, uint64_t live) { return slack >= std::max(kSlackMin, live / kSlackShare); }

TrimDecision decide_at_hint(const TrimView &view) {
  const uint64_t slack = slack_of(view.resident_bytes, view.live_bytes);
  switch (view.hint) {
    case ACE_HINT_IDLE_BEGIN:
    case ACE_HINT_FORK_BEFORE:
      return is_worth_it(slack, view.live_bytes) ? kAllNow : kNothing;
    case ACE_HINT_PRESSURE:
      return kAllNow;
    case ACE_HINT_COLLECT_END:
      break;
    default:
      return kNothing;
  }
  if (!is_worth_it(slack, view.live_bytes)) return kNothing;
  const bool recent =
      view.last_collection_end != 0 && view.now - view.last_collection_end < kBusyDelays * view.idle_delay;
  if (view.may_defer) {
    const bool collapsed = slack / kCollapse >= view.live_bytes && !was_refaulted_soon(view, slack);
    if (view.full_collection && (!recent || collapsed)) return kAllNow;
    return {TrimAction::kLater, 0, view.now + view.idle_delay, false};
  }
  // Nobody will come later: a full collection is the last chance before the program may fall silent.
  if (view.full_collection) return kAllNow;
  bool large = slack >= kPartialSlackMin && slack >= view.live_bytes;
  return large && !recent ? kAllNow : kNothing;
}

TrimDecision decide_when_due(const DeferredView &view) {
  uint64_t slack = slack_of(view.resident_bytes, view.live_bytes);
  if (!is_worth_it(slack, view.live_bytes)) return kNothing;
  if (view.delay != 0) {
    const uint64_t due = view.needed_last + view.delay;
    return view.now >= due ? kAllNow : TrimDecision{TrimAction::kLater, 0, due, false};
  }
  if (view.quiet) return kAllNow;
  if (view.now - view.asked < kPatience * view.idle_delay) {
    return {TrimAction::kLater, 0, view.now + view.idle_delay, false};
  }
  // Busy without end: it keeps what it turned over meanwhile, and is looked at again, so that the rest comes
  // back too once it is quiet.
  const uint64_t again = view.now + kPatience * view.idle_delay;
  if (slack <= view.taken_bytes) return {TrimAction::kLater, 0, again, true};
  return {TrimAction::kNow, slack - view.taken_bytes, again, true};
}

}  // namespace ace
