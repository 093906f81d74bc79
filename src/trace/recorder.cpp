#include "trace/recorder.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <new>

#include "base/bits.h"
#include "base/kept_errno.h"
#include "base/say.h"
#include "base/text.h"
#include "os/os.h"
#include "os/own_file.h"
#include "os/process.h"
#include "wire/options.h"

namespace ace::trace {
namespace {

// A clock costs as much as some events. Where there are few of them, they are put in order with those of other
// heaps by their times.
constexpr uint32_t kEventsBetweenLooks = 256, kEventsBetweenLooksIfShared = 8;
// What a process that is killed loses.
constexpr uint64_t kFlushNs = 1'000'000'000;
// The longest event, and a thread before it.
constexpr size_t kEventMax = 4 * kNumberMax;

std::atomic<bool> g_recording{false};
std::atomic<uint32_t> g_threads{0};

Lock g_lock;  // guards the rest
OwnFile g_file;
bool g_has_file;
bool g_awaits;  // the child of a fork: its file begins with its first chunk, as most only start a program
bool g_over;    // it has ended, or failed: this process records no more
Stream *g_streams;
uint32_t g_heaps;
uint64_t g_began;
char g_wanted[kOptionTextMax];  // what the option said when it began
char g_path[320], g_host[64];

// ---- the file; the lock is held

void leave_file() {
  g_file.close();
  g_has_file = false;
}

void give_up(const char *why) {
  leave_file();
  g_over = true;
  g_recording.store(false, std::memory_order_relaxed);
  say("ace: %s: %s; what came before is kept, what follows is not recorded\n", g_path, why);
}

bool write_bytes(const void *data, size_t size) {
  const KeptErrno kept;
  if ((g_file.is_open() || g_file.open_again(g_path)) && g_file.write(data, size)) return true;
  give_up(error_text(errno));
  return false;
}

// In seconds. Not by time(), which the loader finds anew in each process whether it is called or not.
time_t wall_time() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec;
}

bool write_header() {
  char line[8192];
  TextBuffer text(line, sizeof line);
  text.add("{\"host\":");
  text.add_json_string(g_host);
  text.add(",\"pid\":%d,\"page\":%zu,\"time\":%lld", getpid(), os().page_size,
           static_cast<long long>(wall_time()));
  add_command(text);
  text.add("}");
  FileHeader header{{}, kVersion, static_cast<uint32_t>(text.fits() ? text.length() : 0)};
  memcpy(header.magic, kMagic, sizeof kMagic);
  return write_bytes(&header, sizeof header) && write_bytes(line, header.text_bytes);
}

// The option's name, or with this process's number where another has that already; where the process was
// another program before, and that recorded too, with one more number.
bool open_file() {
  constexpr int kFlags = O_CREAT | O_EXCL, kPrograms = 1000;
  const KeptErrno kept;
  snprintf(g_path, sizeof g_path, "%s", g_wanted);
  g_has_file = g_file.open(g_path, kFlags);
  for (int program = 1; !g_has_file && errno == EEXIST && program < kPrograms; ++program) {
    const int length = snprintf(g_path, sizeof g_path, "%s.%d", g_wanted, getpid());
    if (program > 1) snprintf(g_path + length, sizeof g_path - static_cast<size_t>(length), ".%d", program);
    g_has_file = g_file.open(g_path, kFlags);
  }
  if (!g_has_file) return give_up(error_text(errno)), false;
  return write_header();
}

bool is_open() {
  if (g_awaits) {
    g_awaits = false;
    open_file();
  }
  return g_has_file;
}

}  // namespace

class Recorder {
 public:
  static Stream *open(const void *heap, bool shared) {
    if (g_heaps == kHeapsMax) {
      give_up("it has made more heaps than a trace can tell apart");
      return nullptr;
    }
    void *memory = os().map(round_up(sizeof(Stream), os().page_size), os().page_size);
    if (memory == nullptr) {
      give_up("there is no memory for a stream");
      return nullptr;
    }
    auto *stream = new (memory) Stream;
    stream->owner_ = heap;
    stream->heap_ = g_heaps++;
    stream->events_between_looks_ = shared ? kEventsBetweenLooksIfShared : kEventsBetweenLooks;
    stream->begin_chunk();
    stream->next_ = g_streams;
    g_streams = stream;
    return stream;
  }

  static void write(Stream &stream) {
    if (stream.events_ != 0 && is_open()) {
      const auto bytes = static_cast<uint32_t>(stream.at_ - stream.payload_);
      const ChunkHeader header{kChunk,
                               bytes,
                               stream.events_,
                               checksum(stream.payload_, bytes),
                               stream.heap_,
                               0,
                               (stream.began_ - g_began) / 1000};
      if (write_bytes(&header, sizeof header)) write_bytes(stream.payload_, bytes);
    }
    stream.begin_chunk();
  }

  static void write_all_streams() {
    for (Stream *stream = g_streams; stream != nullptr; stream = stream->next_) write(*stream);
  }

  static void begin_all_anew() {
    for (Stream *stream = g_streams; stream != nullptr; stream = stream->next_) {
      stream->lock_.reset();
      stream->begin_chunk();
    }
  }

  static void close(Stream *stream) {
    write(*stream);
    Stream **link = &g_streams;
    while (*link != stream) link = &(*link)->next_;
    *link = stream->next_;
    os().unmap(stream, round_up(sizeof(Stream), os().page_size));
  }

  static Stream *of(const void *heap) {
    Stream *stream = g_streams;
    while (stream != nullptr && stream->owner_ != heap) stream = stream->next_;
    return stream;
  }

  static bool is_shared(const Stream &stream) {
    return stream.events_between_looks_ == kEventsBetweenLooksIfShared;
  }

  // The next shared stream behind this one; nullptr: the first.
  static Stream *next_shared(Stream *stream) {
    for (stream = stream == nullptr ? g_streams : stream->next_; stream != nullptr; stream = stream->next_) {
      if (is_shared(*stream)) break;
    }
    return stream;
  }
};

// ---- streams

void Stream::name_thread() { t_thread = g_threads.fetch_add(1, std::memory_order_relaxed) + 1; }

void Stream::begin_chunk() {
  at_ = payload_;
  events_ = 0;
  last_address_ = 0;
  thread_ = 0;
  until_look_ = events_between_looks_;
  began_ = last_time_ = os().now();
}

void Stream::note_time() {
  const uint64_t passed = (os().now() - last_time_) / 1000;
  last_time_ += passed * 1000;
  put(Op::kTime, passed);
}

void Stream::look() {
  until_look_ = events_between_looks_;
  note_time();
  const size_t left = static_cast<size_t>(payload_ + kChunkMax - at_);
  if (left > (kEventsBetweenLooks + 2) * kEventMax && last_time_ - began_ < kFlushNs) return;
  Locked locked(g_lock);
  Recorder::write(*this);
}

void Stream::note_hint(uint32_t code, uint64_t value) {
  begin_event();
  note_time();
  put(Op::kHint, code);
  at_ = put_number(at_, value);
}

// ---- all of them

Stream *open_stream(const char *host, const void *heap, bool shared) {
  char wanted[kOptionTextMax];
  if (!copy_file_option("record", wanted)) return nullptr;
  Locked locked(g_lock);
  if (g_over) return nullptr;
  if (!g_has_file && !g_awaits) {
    strcpy(g_wanted, wanted);
    snprintf(g_host, sizeof g_host, "%s", host);
    g_began = os().now();
    if (!open_file()) return nullptr;
    g_recording.store(true, std::memory_order_relaxed);
  }
  return Recorder::open(heap, shared);
}

void close_stream(Stream *stream) {
  Locked locked(g_lock);
  Recorder::close(stream);
}

bool is_recording() { return g_recording.load(std::memory_order_relaxed); }

void pass_hint_on(const void *heap, uint32_t code, uint64_t value) {
  Stream *stream;
  {
    Locked locked(g_lock);
    stream = Recorder::of(heap);
  }
  if (stream == nullptr) return;
  Locked locked(stream->lock());
  stream->note_hint(code, value);
}

namespace {

// Holds all shared streams, which other threads write to until the very end. A stream's lock is taken before
// g_lock, and no shared one is ever closed.
class SharedStreams {
 public:
  SharedStreams() : first_(behind(nullptr)) {
    for (Stream *stream = first_; stream != nullptr; stream = behind(stream)) (last_ = stream)->lock().lock();
  }
  ~SharedStreams() {
    for (Stream *stream = first_; last_ != nullptr; stream = behind(stream)) {
      stream->lock().unlock();
      if (stream == last_) return;
    }
  }
  SharedStreams(const SharedStreams &) = delete;
  SharedStreams &operator=(const SharedStreams &) = delete;

 private:
  static Stream *behind(Stream *stream) {
    Locked locked(g_lock);
    return Recorder::next_shared(stream);
  }

  Stream *first_, *last_ = nullptr;  // a later one would come before the first
};

}  // namespace

void end_recording() {
  const SharedStreams held;
  Locked locked(g_lock);
  if (!is_recording()) return;
  Recorder::write_all_streams();
  g_recording.store(false, std::memory_order_relaxed);
  if (!g_has_file) return;
  const ChunkHeader header{kEnd, 0, 0, 0, 0, 0, (os().now() - g_began) / 1000};
  if (!write_bytes(&header, sizeof header)) return;
  leave_file();
  g_over = true;
}

void lock_recording() { g_lock.lock(); }
void unlock_recording() { g_lock.unlock(); }

void record_anew_in_child() {
  g_began = os().now();        // before the chunks
  Recorder::begin_all_anew();  // hosts take the streams' locks even when the recording has ended
  if (!is_recording()) return;
  leave_file();
  g_awaits = true;
}

}  // namespace ace::trace
