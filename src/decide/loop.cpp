#include "decide/loop.h"

#include "base/text.h"

namespace ace {
namespace {

// A heap that rests so long has rested, whatever it will do: in break-even times.
constexpr uint64_t kRested = 4;

// A full collection says more of what follows than a partial one, and a program that waits says most.
bool says_more(Occasion occasion, Occasion than) {
  constexpr unsigned kSays[kOccasions] = {1, 0, 2};
  return kSays[static_cast<unsigned>(occasion)] > kSays[static_cast<unsigned>(than)];
}

}  // namespace

const char *action_name(TrimAction action) {
  return action == TrimAction::kNow ? "now" : action == TrimAction::kLater ? "later" : "nothing";
}

bool Loop::was_given_back(const LoopView &view) const { return delay_ == 0 || view.quiet > delay_; }

void Loop::close(const Prices &prices, const LoopView &view, LoopStep &step) {
  const uint64_t end = view.reused_at != 0 ? view.reused_at : view.now;
  const uint64_t grown = view.live > live_before_ ? view.live - live_before_ : 0;
  interval_.length = end > begin_ ? end - begin_ : 0;
  if (view.reused_at != 0) {
    // Whoever needs half of it so soon needs the rest too, in about the same time again: then `length` is how
    // long a byte of it was held on average, and all of it would have had to come back.
    interval_.reused = interval_.slack;
  } else {
    interval_.reused = std::min(interval_.slack, was_given_back(view) ? grown + view.slack : grown);
  }
  interval_.quiet = std::min(view.quiet, interval_.length);
  interval_.before_quiet = view.quiet_at > begin_ ? view.quiet_at - begin_ : 0;
  const auto cost = [&](uint16_t expert) {
    return cost_of(prices, interval_, delay_of(break_even_ns(prices, interval_), expert, interval_.may_defer));
  };
  step.closed = true;
  step.interval = interval_;
  step.cost = cost(interval_.chosen);
  step.prior_cost = cost(prior_of(interval_.context));
  step.least_cost = least_cost(prices, interval_);
  learner_.learn(prices, interval_);
  is_open_ = false;
}

void Loop::open(const Prices &prices, const LoopView &view, LoopStep &step) {
  is_open_ = true;
  occasion_ = view.occasion;
  begin_ = view.now;
  live_before_ = view.live;
  const uint16_t context = learner_.context_of(view.occasion, view.slack, view.live);
  const uint16_t chosen = view.is_short ? 0 : learner_.choose(context, view.may_defer);
  const uint64_t priced = priced_bytes(prices, view.slack, view.whole);
  interval_ = {context, chosen, view.may_defer, view.is_short, view.slack, priced, 0, 0, 0, 0};
  step.opened = true;
  step.context = context;
  step.chosen = chosen;
  step.awaits = view.slack / 2;
  delay_ = delay_of(break_even_ns(prices, interval_), chosen, view.may_defer);
  if (delay_ == 0) {
    step.action = TrimAction::kNow;
  } else if (view.may_defer) {
    step.action = TrimAction::kLater;
    step.delay = delay_;
    step.due = view.now + delay_;
  }
}

LoopStep Loop::at(const Prices &prices, const LoopView &view) {
  LoopStep step{};
  step.action = TrimAction::kNothing;
  const bool is_worth = is_worth_it(view.slack, view.live);
  if (is_open_) {
    const bool came_back = is_worth && was_given_back(view) && view.slack >= interval_.slack / 4;
    if (view.reused_at != 0 || came_back || view.now - begin_ >= kRested * break_even_ns(prices, interval_)) {
      close(prices, view, step);
    } else if (is_worth &&
               (view.is_short || view.slack > 2 * interval_.slack || says_more(view.occasion, occasion_))) {
      // Much more is free now, it is better known what follows, or memory is short: it is settled anew, and
      // nothing is known of what was open.
      is_open_ = false;
    }
  }
  if (!is_open_ && is_worth) open(prices, view, step);
  return step;
}

size_t format_step(char *text, size_t size, int process, unsigned id, const char *heap, const LoopView &view,
                   const LoopStep &step) {
  using Number = unsigned long long;
  TextBuffer line(text, size);
  line.add("{\"t\":%llu,\"pid\":%d,\"id\":%u,\"heap\":", Number{view.now}, process, id);
  line.add_json_string(heap);
  line.add(
      ",\"occasion\":\"%s\",\"defer\":%d,\"short\":%d,\"slack\":%llu,\"whole\":%llu,\"live\":%llu,"
      "\"taken\":%llu,\"reused_at\":%llu,\"quiet\":%llu,\"quiet_at\":%llu",
      kOccasionNames[static_cast<unsigned>(view.occasion)], int{view.may_defer}, int{view.is_short},
      Number{view.slack}, Number{view.whole}, Number{view.live}, Number{view.taken}, Number{view.reused_at},
      Number{view.quiet}, Number{view.quiet_at});
  if (step.closed) {
    const Interval &i = step.interval;
    line.add(
        ",\"closed\":{\"context\":\"%s\",\"chosen\":%u,\"defer\":%d,\"slack\":%llu,\"priced\":%llu,"
        "\"length\":%llu,\"reused\":%llu,\"quiet\":%llu,\"before_quiet\":%llu,\"cost\":%llu,\"prior\":%llu,"
        "\"least\":%llu}",
        name_of(i.context).text, unsigned{i.chosen}, int{i.may_defer}, Number{i.slack}, Number{i.priced},
        Number{i.length}, Number{i.reused}, Number{i.quiet}, Number{i.before_quiet}, Number{step.cost},
        Number{step.prior_cost}, Number{step.least_cost});
  }
  if (step.opened) {
    line.add(",\"opened\":{\"context\":\"%s\",\"chosen\":%u,\"action\":\"%s\",\"due\":%llu}",
             name_of(step.context).text, unsigned{step.chosen}, action_name(step.action), Number{step.due});
  }
  line.add("}\n");
  return line.fits() ? line.length() : 0;
}

}  // namespace ace
