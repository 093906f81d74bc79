// A recorded run as it is replayed: a row of small steps in one file, which the replayer maps and never writes
// to.
//
// The blocks of a trace have addresses, those of a plan have slots: a small number that is used again as soon
// as its block is freed, so that finding a block costs the replayer next to nothing. What the heaps of the
// trace did is one row, put in order by time.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "trace/mapped_file.h"

namespace ace::replay {

enum class StepType : uint8_t {
  kAlloc,    // number: the slot; size: bytes
  kZeroed,   // the same
  kFree,     // number: the slot
  kRealloc,  // number: the slot; size: the new one
  kHint,     // number: an ace_hint_code; size: its value
  kHeap,     // number: the heap that what follows belongs to
  kEndHeap,  // the present heap holds nothing any more, and nothing follows
  kTime,     // size: microseconds since the last such step
  kHigh      // size: the high half of the next step's size
};

class Step {
 public:
  static constexpr unsigned kNumberBits = 26;
  static constexpr uint32_t kNumberMax = (uint32_t{1} << kNumberBits) - 1;

  Step(StepType type, uint32_t number, uint32_t size, unsigned kind = 0)
      : bits_(static_cast<uint32_t>(type) << 28 | kind << kNumberBits | number), size_(size) {}

  StepType type() const { return static_cast<StepType>(bits_ >> 28); }
  unsigned kind() const { return bits_ >> kNumberBits & 3; }
  uint32_t number() const { return bits_ & kNumberMax; }
  uint32_t size() const { return size_; }

 private:
  uint32_t bits_, size_;
};
static_assert(sizeof(Step) == 8);

// At the file's begin; the steps follow.
struct PlanHeader {
  static constexpr uint64_t kMark = 0x314e414c50454341;  // "ACEPLAN1"
  uint64_t mark;
  uint64_t steps, slots, heaps;
  uint64_t microseconds;  // from the first event to the end
  // Around what freed most: the collection, or where none was told of, the fall of what was live.
  uint64_t before_step, after_step;
};

// Writes the plan of a trace. Throws std::runtime_error, with what to do, where the trace is none or there is
// no room; a plan that could not be written whole is no plan.
void write_plan(const std::string &trace, const std::string &plan);

class Plan {
 public:
  explicit Plan(const std::string &path);
  const PlanHeader &header() const { return header_; }
  const Step *begin() const { return steps_; }
  const Step *end() const { return steps_ + header_.steps; }

 private:
  trace::MappedFile file_;
  PlanHeader header_;
  const Step *steps_;
};

}  // namespace ace::replay
