// The loop of one heap: what is seen at an occasion, and what is decided. Modes observe and learn.
//
// An interval opens when memory falls free (a collection ends, the program begins to wait) and is over when
// half of it was needed again; or when a quarter of it is free once more after it was given back, so that it
// was needed meanwhile. Only then is it known what each delay would have cost. An occasion that comes before
// leaves it open: the memory has been free since its beginning.
//
// Pure: from the same views come the same steps, which is what a log is replayed by.
#pragma once
#include "decide/learn.h"
#include "decide/trim.h"

namespace ace {

struct LoopView {
  uint64_t now;
  Occasion occasion;
  bool may_defer;  // somebody can come back later
  bool is_short;   // of memory, around the process: what is free goes back at once
  uint64_t slack;  // resident bytes beyond those in live blocks, but for what the last trim could not give back
  uint64_t whole;  // of it in superslabs that are empty
  uint64_t live;   // bytes
  uint64_t taken;  // bytes that were ever taken into use: for the log alone
  uint64_t reused_at;  // when half of the open interval's memory was live again; 0: not yet
  // Until then, or until now: the longest time for which no sixteenth of it was needed, and when that began.
  uint64_t quiet, quiet_at;
};

struct LoopStep {
  bool closed;  // the open interval is over, and was learned from
  Interval interval;
  uint64_t cost;        // what was chosen for it, ...
  uint64_t prior_cost;  // ... what the prior would have, ...
  uint64_t least_cost;  // ... and the least possible

  bool opened;  // a new one has begun
  uint16_t context, chosen;
  TrimAction action;
  uint64_t due;     // for kLater: unless something was needed by then
  uint64_t delay;   // so long nothing must have been needed
  uint64_t awaits;  // an interval that opened is over when so many bytes more are live
};

class Loop {
 public:
  LoopStep at(const Prices &prices, const LoopView &view);

  Learner &learner() { return learner_; }
  const Learner &learner() const { return learner_; }

 private:
  bool was_given_back(const LoopView &view) const;
  void close(const Prices &prices, const LoopView &view, LoopStep &step);
  void open(const Prices &prices, const LoopView &view, LoopStep &step);

  Learner learner_;
  Interval interval_{};
  bool is_open_ = false;
  Occasion occasion_ = Occasion::kFull;
  uint64_t begin_ = 0, live_before_ = 0;
  uint64_t delay_ = 0;  // after which its memory goes back; UINT64_MAX: never
};

// "nothing", "now" or "later".
const char *action_name(TrimAction action);

// A line of the decision log: JSON, with its end of line. `id` tells heaps of one name apart. Returns its
// length; 0 where it does not fit.
size_t format_step(char *line, size_t size, int process, unsigned id, const char *heap, const LoopView &view,
                   const LoopStep &step);

}  // namespace ace
