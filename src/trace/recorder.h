// Records what a host asks of its allocators, whichever they are, into the file that option `record` names.
// Hosts' bindings call it around their own functions; a process that records nothing pays nothing.
//
// Each heap has a stream, written to by whoever may use the heap, and so without a lock, unless it is opened as
// shared. A free is noted before it is done, an allocation after it.
#pragma once
#include "os/lock.h"
#include "trace/format.h"

namespace ace::trace {

class Stream {
 public:
  void note_allocation(unsigned kind, bool zeroed, const void *p, size_t size) {
    begin_event(size >= kHeavy);
    put(zeroed ? Op::kZeroed : Op::kAlloc, uint64_t{size} * kKinds + kind);
    at_ = put_number(at_, distance_to(p));
  }
  void note_free(const void *p) {
    begin_event(is_page(p));
    put(Op::kFree, distance_to(p));
  }
  void note_realloc(const void *old, const void *p, size_t size) {
    begin_event(size >= kHeavy || is_page(old));
    put(Op::kRealloc, distance_to(old));
    at_ = put_number(at_, size);
    at_ = put_number(at_, distance_to(p));
  }
  void note_hint(uint32_t code, uint64_t value);

  // Taken around a call and its note, where several threads may be inside the heap at once.
  Lock &lock() { return lock_; }

 private:
  friend class Recorder;

  static constexpr size_t kHeavy = size_t{64} << 10;
  // As a large block begins, and one small one in some hundred.
  static bool is_page(const void *p) { return reinterpret_cast<uintptr_t>(p) % 4096 == 0; }

  void put(Op op, uint64_t payload) {
    at_ = put_number(at_, payload << 3 | static_cast<uint64_t>(op));
    ++events_;
  }
  uint64_t distance_to(const void *p) {
    const auto address = static_cast<int64_t>(reinterpret_cast<uintptr_t>(p) >> kAddressShift);
    const uint64_t distance = from_signed(address - last_address_);
    last_address_ = address;
    return distance;
  }
  // `weighs`: by what the event takes or gives, the time before it matters, as much may be held for long
  // between a few events.
  void begin_event(bool weighs = false) {
    if (weighs || --until_look_ == 0) [[unlikely]]
      look();
    if (thread_number() != thread_) [[unlikely]]
      put(Op::kThread, thread_ = thread_number());
  }
  static uint32_t thread_number() {
    if (t_thread == 0) [[unlikely]]
      name_thread();
    return t_thread - 1;
  }
  static void name_thread();
  void look();  // at the clock and at the room that is left
  void note_time();
  void begin_chunk();

  static inline thread_local uint32_t t_thread;  // its number and one; 0: it has none yet

  std::byte *at_;
  int64_t last_address_;
  uint32_t until_look_, events_, thread_;
  uint32_t events_between_looks_;
  uint64_t began_, last_time_;  // of the chunk; of the clock
  uint32_t heap_;
  const void *owner_;
  Stream *next_;
  Lock lock_;
  std::byte payload_[kChunkMax];
};

// Opens a stream for a heap, and the file with the first of them; `host` says who records ("CPython 3.11.2").
// nullptr where nothing is to be recorded, or it cannot be, which is said on standard error. A process that
// does not come first gets a file of its own, with its number at the end (FILE.PID, and FILE.PID.2 for the
// second program that it is); so does the child of a fork, in which older blocks are not known.
Stream *open_stream(const char *host, const void *heap, bool shared);
// Writes what is left of it: the heap ends.
void close_stream(Stream *stream);

bool is_recording();
// What ace_hint was told, by the holder; of heaps without a stream nothing is noted.
void pass_hint_on(const void *heap, uint32_t code, uint64_t value);

// Writes what is left, and that the run ended in order. Other threads may go on: in shared streams what they
// note comes before the end or is left out.
void end_recording();

// Around fork.
void lock_recording();
void unlock_recording();
void record_anew_in_child();  // under the lock

}  // namespace ace::trace
