// Which share of the operations went which way through ACE. Counting takes time, so another library does it, in
// a run of its own before the timed one.
#pragma once
#include <optional>
#include <string>
#include <vector>

namespace micro {

struct Shares {
  double hot, warm, cold;
};

// Runs this program with these words on libace-counting.so, and keeps what it prints for the process that this
// one becomes (see restart_with). Nothing is kept where that library was not built.
void count_shares(const std::vector<std::string> &words);

// What count_shares kept.
std::optional<Shares> counted_shares();

}  // namespace micro
