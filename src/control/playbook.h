// The playbook's file: read when the first loop begins, written at the end. Option `playbook`;
// decide/playbook.h has its text.
#pragma once
#include "control/decision_log.h"
#include "decide/playbook.h"

namespace ace {

// A loop begins: with the playbook's weights, where there are some. Logged. Any thread.
void start_loop(const LoopName &loop, Learner &learner);

// Keeps what a loop has learned, for the file that is written at the process's end. Any thread.
void add_to_playbook(const Learner &learner);

// Writes the file, where the option names one and something was learned, by ended loops and by those that are
// there: whole or not at all. Done at the process's end as well. Of several processes with one file the last
// one wins. False where it cannot be written, which is said. Any thread.
bool write_playbook();

// What guards it guards what the loops have learned, too. Locked around fork as well.
void lock_playbook();
void unlock_playbook();

}  // namespace ace
