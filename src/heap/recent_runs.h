// The page runs that were freed last, a few of each small length: where an allocation looks first, since what
// was freed just now is resident and perhaps still in the processor's cache. These are hints: the bitmaps of
// its superslab say whether a run is still free. The holder's.
#pragma once
#include <cstddef>
#include <cstdint>

namespace ace {

class RecentRuns {
 public:
  // Longer runs take so long to fill that the search for them does not count.
  static constexpr unsigned kLongest = 8;

  void push(std::byte *run, unsigned pages) {
    if (pages > kLongest) return;
    Stack &stack = stacks_[pages - 1];
    stack.runs[stack.top++ % kDepth] = run;  // over the oldest
  }
  // The latest of that length; nullptr where there is none.
  std::byte *pop(unsigned pages) {
    if (pages > kLongest) return nullptr;
    Stack &stack = stacks_[pages - 1];
    std::byte *&latest = stack.runs[(stack.top - 1) % kDepth];
    std::byte *run = latest;
    if (run == nullptr) return nullptr;
    latest = nullptr;
    --stack.top;
    return run;
  }
  // Before a superslab goes that they may lie in.
  void clear() { *this = RecentRuns(); }

 private:
  static constexpr unsigned kDepth = 8;
  struct Stack {
    std::byte *runs[kDepth];
    uint32_t top;
  };
  Stack stacks_[kLongest] = {};
};

}  // namespace ace
