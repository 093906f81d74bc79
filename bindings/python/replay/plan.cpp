#include "plan.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <queue>
#include <set>
#include <stdexcept>
#include <utility>
#include <vector>

#include "ace/ace.h"
#include "trace/live_blocks.h"
#include "trace/reader.h"

namespace ace::replay {
namespace {

using trace::ChunkHeader;
using trace::ChunkReader;
using trace::Event;
using trace::Op;

[[noreturn]] void fail(const std::string &path, const char *why) {
  throw std::runtime_error(path + ": " + why);
}

void require_content(const trace::MappedFile &file, const std::string &path) {
  if (file.error() != 0) fail(path, strerror(file.error()));
  if (file.size() == 0) fail(path, "is empty");
}

// The chunks of one heap, read from one time to the next.
class HeapCursor {
 public:
  void add(const ChunkHeader &header, const std::byte *payload) { chunks_.push_back({header, payload}); }

  // False where there is none any more.
  bool open_next_chunk() {
    if (next_ == chunks_.size()) return false;
    const Chunk &chunk = chunks_[next_++];
    events_ = ChunkReader(chunk.payload, chunk.header.bytes);
    now_ = std::max(now_, chunk.header.microseconds);
    return true;
  }
  uint64_t now() const { return now_; }
  void pass(uint64_t microseconds) { now_ += microseconds; }
  ChunkReader &events() { return events_; }

 private:
  struct Chunk {
    ChunkHeader header;
    const std::byte *payload;
  };
  std::vector<Chunk> chunks_;
  size_t next_ = 0;
  ChunkReader events_{nullptr, 0};
  uint64_t now_ = 0;
};

class StepFile {
 public:
  explicit StepFile(const std::string &path) : path_(path), file_(fopen(path.c_str(), "wb")) {
    if (file_ == nullptr) fail(path, strerror(errno));
    write(&empty_, sizeof empty_);
  }
  ~StepFile() {
    if (file_ != nullptr) fclose(file_);
  }
  StepFile(const StepFile &) = delete;
  StepFile &operator=(const StepFile &) = delete;

  uint64_t count() const { return count_; }
  void put(StepType type, uint32_t number, uint64_t size = 0, unsigned kind = 0) {
    if (const auto high = static_cast<uint32_t>(size >> 32); high != 0) put_step({StepType::kHigh, 0, high});
    put_step({type, number, static_cast<uint32_t>(size), kind});
  }
  void finish(const PlanHeader &header) {
    if (fseek(file_, 0, SEEK_SET) != 0) fail(path_, strerror(errno));
    write(&header, sizeof header);
    if (fclose(std::exchange(file_, nullptr)) != 0) fail(path_, strerror(errno));
  }

 private:
  void put_step(Step step) {
    write(&step, sizeof step);
    ++count_;
  }
  void write(const void *data, size_t size) {
    if (fwrite(data, 1, size, file_) != size) fail(path_, strerror(errno));
  }
  static constexpr PlanHeader empty_{};
  std::string path_;
  FILE *file_;
  uint64_t count_ = 0;
};

class Planner {
 public:
  Planner(const std::string &trace, const std::string &plan)
      : trace_(trace), file_(trace.c_str()), steps_(plan) {
    require_content(file_, trace);
    read_chunks();
  }

  void run() {
    using Turn = std::pair<uint64_t, uint32_t>;  // whose time is the earliest comes next
    std::priority_queue<Turn, std::vector<Turn>, std::greater<>> turns;
    for (uint32_t heap = 0; heap < heaps_.size(); ++heap) {
      if (heaps_[heap].cursor.open_next_chunk()) turns.push({heaps_[heap].cursor.now(), heap});
    }
    began_ = now_ = turns.empty() ? 0 : turns.top().first;
    while (!turns.empty()) {
      const uint32_t heap = turns.top().second;
      turns.pop();
      if (take_turn(heap)) turns.push({heaps_[heap].cursor.now(), heap});
    }
    finish();
  }

 private:
  struct Block {
    uint32_t slot, heap;
    uint64_t size;
  };
  struct Heap {
    HeapCursor cursor;
    uint64_t blocks = 0;
  };
  struct Fall {
    uint64_t bytes = 0, before = 0, after = 0;
    uint64_t live = 0, time = 0;  // at its end
  };
  // Less is no time worth a step.
  static constexpr uint64_t kTimeStepUs = 20;
  // After a collection memory may go back a little later: what is looked at is what is left after so long, or
  // when the program has taken a part of what was freed again.
  static constexpr uint64_t kAfterwardsUs = 1'000'000, kTakenShare = 50;

  void read_chunks() {
    trace::Reader reader(file_.data(), file_.size());
    const char *text;
    size_t length;
    if (!reader.read_header(text, length)) fail(trace_, "is no trace that this version reads");
    ChunkHeader header;
    const std::byte *payload;
    while (reader.next(header, payload) == trace::Status::kChunk) {
      if (header.heap > Step::kNumberMax) fail(trace_, "has more heaps than can be replayed");
      if (heaps_.size() <= header.heap) heaps_.resize(header.heap + 1);
      heaps_[header.heap].cursor.add(header, payload);
    }
  }

  // Until the heap's next time; false where it is over.
  bool take_turn(uint32_t index) {
    Heap &heap = heaps_[index];
    pass_time_to(heap.cursor.now());
    for (;;) {
      ChunkReader &events = heap.cursor.events();
      if (events.is_over()) {
        if (heap.cursor.open_next_chunk()) return true;
        if (heap.blocks == 0) {
          switch_to(index);
          steps_.put(StepType::kEndHeap, index);
        }
        return false;
      }
      Event event;
      if (!events.next(event)) return false;  // damaged: what came before counts
      // Of nothing hosts want a block, too, where malloc and realloc may have none.
      if (makes_block(event.op)) event.size = std::max<uint64_t>(event.size, 1);
      if (event.op == Op::kTime) {
        heap.cursor.pass(event.size);
        return true;
      }
      if (event.op != Op::kThread) {
        switch_to(index);
        apply(index, event);
      }
    }
  }

  static bool makes_block(Op op) { return op == Op::kAlloc || op == Op::kZeroed || op == Op::kRealloc; }

  void pass_time_to(uint64_t time) {
    if (time < now_ + kTimeStepUs) return;
    steps_.put(StepType::kTime, 0, time - now_);
    now_ = time;
    if (collected_.after != 0 && !is_over_) {
      is_over_ =
          now_ > collected_.time + kAfterwardsUs || live_ > collected_.live + collected_.bytes / kTakenShare;
      if (!is_over_) collected_.after = steps_.count();
    }
  }

  void switch_to(uint32_t heap) {
    if (heap == present_) return;
    steps_.put(StepType::kHeap, heap);
    present_ = heap;
  }

  void apply(uint32_t heap, const Event &event) {
    switch (event.op) {
      case Op::kAlloc:
      case Op::kZeroed:
        allocate(heap, event, event.op == Op::kAlloc ? StepType::kAlloc : StepType::kZeroed);
        break;
      case Op::kFree:
        if (!was_done_early(heap, event.address)) release(event.address);
        break;
      case Op::kRealloc:
        resize(heap, event);
        break;
      case Op::kHint:
        if (event.code > Step::kNumberMax) break;  // none of ours
        steps_.put(StepType::kHint, event.code, event.size);
        note_hint(event.code);
        break;
      case Op::kThread:
      case Op::kTime:
        break;
    }
  }

  void allocate(uint32_t heap, const Event &event, StepType type) {
    make_room(heap, event.address);
    was_done_early(heap, event.address);  // of a block whose own end never came: this one's will
    const uint32_t slot = take_slot();
    blocks_.put(event.address, {slot, heap, event.size});
    ++heaps_[heap].blocks;
    steps_.put(type, slot, event.size, event.code);
    add_live(event.size);
  }

  // Two heaps' rows are put together by times that are not exact: what a block's own heap does with it last may
  // come after another heap has its address, and is done before that.
  void make_room(uint32_t heap, uint64_t address) {
    const Block *former = blocks_.get(address);
    if (former == nullptr) return;
    if (former->heap != heap) done_early_.emplace(former->heap, address);
    switch_to(former->heap);
    release(address);
    switch_to(heap);
  }
  bool was_done_early(uint32_t heap, uint64_t address) {
    return !done_early_.empty() && done_early_.erase({heap, address}) != 0;
  }

  void release(uint64_t address) {
    const Block *block = blocks_.get(address);
    if (block == nullptr) return;  // from before the recording
    steps_.put(StepType::kFree, block->slot);
    free_slots_.push_back(block->slot);
    --heaps_[block->heap].blocks;
    subtract_live(block->size);
    blocks_.remove(address);
  }

  void resize(uint32_t heap, const Event &event) {
    const bool is_gone = was_done_early(heap, event.old_address);
    const Block *old = is_gone ? nullptr : blocks_.get(event.old_address);
    if (old == nullptr) {
      Event fresh = event;
      fresh.code = 0;
      return allocate(heap, fresh, StepType::kAlloc);
    }
    Block block = *old;
    blocks_.remove(event.old_address);
    make_room(heap, event.address);
    subtract_live(block.size);
    add_live(event.size);
    block.size = event.size;
    blocks_.put(event.address, block);
    steps_.put(StepType::kRealloc, block.slot, event.size);
  }

  uint32_t take_slot() {
    if (!free_slots_.empty()) {
      const uint32_t slot = free_slots_.back();
      free_slots_.pop_back();
      return slot;
    }
    if (slots_ > Step::kNumberMax) fail(trace_, "has more live blocks than can be replayed");
    return slots_++;
  }

  void add_live(uint64_t size) {
    live_ += size;
    if (live_ > fall_from_.bytes) fall_from_ = {live_, steps_.count()};
  }
  void subtract_live(uint64_t size) {
    live_ -= size;
    if (const uint64_t fallen = fall_from_.bytes - live_; fallen > plain_fall_.bytes)
      plain_fall_ = {fallen, fall_from_.before, steps_.count()};
  }
  void note_hint(uint32_t code) {
    if (code == ACE_HINT_COLLECT_BEGIN) collection_ = {live_, steps_.count()};
    if (code != ACE_HINT_COLLECT_END || live_ >= collection_.bytes) return;
    if (const uint64_t freed = collection_.bytes - live_; freed > collected_.bytes) {
      collected_ = {freed, collection_.before, steps_.count(), live_, now_};
      is_over_ = false;
    }
    collection_.bytes = 0;
  }

  void finish() {
    const Fall &fall = collected_.bytes != 0 ? collected_ : plain_fall_;
    PlanHeader header{};
    header.mark = PlanHeader::kMark;
    header.steps = steps_.count();
    header.slots = slots_;
    header.heaps = heaps_.size();
    header.microseconds = now_ - began_;
    header.before_step = fall.before;
    header.after_step = fall.after;
    steps_.finish(header);
  }

  std::string trace_;
  trace::MappedFile file_;
  StepFile steps_;
  std::vector<Heap> heaps_;
  trace::LiveBlocks<Block> blocks_;
  std::set<std::pair<uint32_t, uint64_t>> done_early_;  // heaps, and addresses that are others' by now
  std::vector<uint32_t> free_slots_;
  uint32_t slots_ = 0, present_ = UINT32_MAX;
  uint64_t began_ = 0, now_ = 0, live_ = 0;
  Fall fall_from_, plain_fall_, collection_, collected_;
  bool is_over_ = false;  // the time after collected_
};

}  // namespace

void write_plan(const std::string &trace, const std::string &plan) { Planner(trace, plan).run(); }

Plan::Plan(const std::string &path) : file_(path.c_str()) {
  require_content(file_, path);
  if (file_.size() < sizeof header_) fail(path, "is no plan");
  memcpy(&header_, file_.data(), sizeof header_);
  if (header_.mark != PlanHeader::kMark || file_.size() != sizeof header_ + header_.steps * sizeof(Step))
    fail(path, "is no plan, or not whole");
  steps_ = reinterpret_cast<const Step *>(file_.data() + sizeof header_);
}

}  // namespace ace::replay
