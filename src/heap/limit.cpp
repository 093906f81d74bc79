#include "heap/limit.h"

#include <algorithm>

#include "heap/purge.h"
#include "wire/options.h"

namespace ace {
namespace {

// A heap that grows is looked at for dead pages each time that it has grown by so much, by that share, and by
// so many times what the last look gave back: a program that needs those pages again must not pay for them
// again and again.
constexpr uint64_t kLookStep = uint64_t{256} << 10;
constexpr uint64_t kLookShare = 16;
constexpr uint64_t kLookPatience = 4;

// Before a heap becomes larger than it ever was, the pages that it holds for nothing go back: those that one
// size has done with make room for another's.
void look_before_growth(Heap &heap, uint64_t resident) {
  if (heap.on_growth != nullptr) heap.on_growth();
  const uint64_t given = options().mode == Mode::kOff ? 0 : purge_pages(heap, SIZE_MAX);
  heap.next_look = resident + std::max({kLookStep, resident / kLookShare, given * kLookPatience});
}

}  // namespace

bool may_grow(Heap &heap, size_t bytes, LimitTalk &talk) {
  const size_t limit = heap.limit.load(std::memory_order_relaxed);
  const uint64_t resident = heap.counters.resident_bytes();
  if (resident + bytes > heap.next_look) [[unlikely]]
    look_before_growth(heap, resident);
  if (limit == 0 || (bytes <= limit && resident <= limit - bytes)) return true;
  if (heap.in_limit_callback) return false;
  const size_t missing = resident + bytes - limit, missing_pages = round_up(missing, kPage);
  switch (talk.next_) {
    case LimitTalk::Next::kTrim:
      talk.next_ = talk.asks_ && !heap.is_shrinking ? LimitTalk::Next::kAsk : LimitTalk::Next::kNothing;
      talk.changed_ = true;
      // Some more than is missing, so that a heap at its limit does not look for every page anew.
      trim_heap(heap, std::max(missing_pages, limit / 16));
      return false;
    case LimitTalk::Next::kAsk:
      talk.next_ = LimitTalk::Next::kNothing;
      if (heap.on_limit == nullptr) return false;
      talk.changed_ = true;
      heap.counters.limit_callbacks.add(1);
      heap.in_limit_callback = true;
      if (heap.on_limit(static_cast<ace_heap *>(&heap), missing, heap.on_limit_context) != 0) {
        // The host has made room, perhaps of free pages only: they may be given back once more.
        talk.next_ = LimitTalk::Next::kTrimAgain;
      }
      heap.in_limit_callback = false;
      return false;
    case LimitTalk::Next::kTrimAgain:
      talk.next_ = LimitTalk::Next::kNothing;
      talk.changed_ = true;
      trim_heap(heap, std::max(missing_pages, limit / 16));
      return false;
    case LimitTalk::Next::kNothing:
      break;
  }
  return false;
}

}  // namespace ace
