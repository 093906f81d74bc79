// May a heap grow? What is free goes back first, and at the limit its host is asked.
#pragma once
#include <utility>

#include "heap/heap.h"

namespace ace {

// What one allocation has tried at the limit: to give free pages back, to ask the host, and, where that made
// room, to give back once more.
class LimitTalk {
 public:
  enum class With { kHost, kNobody };
  explicit LimitTalk(With with = With::kHost) : asks_(with == With::kHost) {}

  // True once after each try: whatever was read of the heap before may have changed, so start over.
  bool changed() { return std::exchange(changed_, false); }

 private:
  friend bool may_grow(Heap &heap, size_t bytes, LimitTalk &talk);
  enum class Next : uint8_t { kTrim, kAsk, kTrimAgain, kNothing } next_ = Next::kTrim;
  bool changed_ = false;
  const bool asks_;
};

// May `bytes` more become resident? Where the limit says no it makes one try, says no, and talk.changed().
bool may_grow(Heap &heap, size_t bytes, LimitTalk &talk);

}  // namespace ace
