// The decision log: with what each loop began, and a line for each of its steps, so that it can be replayed and
// explained. Option `log`.
#pragma once
#include "decide/loop.h"

namespace ace {

// A loop, as the log names it.
struct LoopName {
  unsigned id;
  const char *heap;
  Prices prices;
};

// Writes with what a loop begins, where a log is wanted: its prices, and the playbook's text, of at most
// kPlaybookMax bytes, or "". Any thread.
void log_start(const LoopName &loop, const char *playbook);

// Writes the step's line, where a log is wanted. The first line that cannot be written is told on standard
// error, and nothing more is logged. Any thread.
void log_step(unsigned id, const char *heap, const LoopView &view, const LoopStep &step);

// Around fork.
void lock_decision_log();
void unlock_decision_log();

}  // namespace ace
