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

// Stands around the allocation for a block that moves. One that shrinks can stay where it is: its host is not
// asked for room, since it may be in the midst of the collection that would make some.
class Shrinking {
 public:
  Shrinking(Heap &heap, bool shrinks) : heap_(heap) { heap.is_shrinking = shrinks; }
  ~Shrinking() { heap_.is_shrinking = false; }
  Shrinking(const Shrinking &) = delete;
  Shrinking &operator=(const Shrinking &) = delete;

 private:
  Heap &heap_;
};

// May `bytes` more become resident? Where the limit says no it makes one try, says no, and talk.changed().
bool may_grow(Heap &heap, size_t bytes, LimitTalk &talk);

}  // namespace ace
