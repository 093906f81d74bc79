#include "trace.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "trace/live_blocks.h"
#include "trace/mapped_file.h"
#include "trace/reader.h"

namespace py = pybind11;
using namespace ace::trace;

namespace {

// What one walk over the whole file finds.
struct Totals {
  uint64_t events = 0, allocations = 0, frees = 0, reallocs = 0, hints = 0;
  uint64_t unknown = 0;  // frees of blocks whose allocation is not in the file
  uint64_t allocated_bytes = 0, live_bytes = 0, peak_live_bytes = 0, live_blocks = 0;
  uint32_t heaps = 0, threads = 1;
  uint64_t microseconds = 0;
  Status status = Status::kTruncated;
  size_t offset = 0;
};

using Moment = std::tuple<uint64_t, uint32_t, uint64_t>;          // microseconds, heap, live bytes
using Hint = std::tuple<uint64_t, uint32_t, uint32_t, uint64_t>;  // microseconds, heap, code, value

class Trace {
 public:
  explicit Trace(const std::string &path) : file_(path.c_str()) {
    if (file_.error() != 0) {
      errno = file_.error();
      PyErr_SetFromErrnoWithFilename(PyExc_OSError, path.c_str());
      throw py::error_already_set();
    }
    Reader reader(file_.data(), file_.size());
    const char *text;
    size_t length;
    if (!reader.read_header(text, length))
      throw py::value_error("it is no trace that this version reads: it does not begin like one");
    header_.assign(text, length);
    py::gil_scoped_release others;
    walk(reader);
  }

  const std::string &header() const { return header_; }
  const std::vector<Moment> &live() const { return live_; }
  const std::vector<Hint> &hints() const { return hints_; }

  py::dict totals() const {
    static constexpr const char *kStatus[] = {"", "whole", "truncated", "damaged"};
    py::dict d;
    d["status"] = kStatus[static_cast<int>(t_.status)];
    d["bytes"] = file_.size();
    d["bytes_read"] = t_.offset;
    d["microseconds"] = t_.microseconds;
    d["events"] = t_.events;
    d["allocations"] = t_.allocations;
    d["frees"] = t_.frees;
    d["reallocs"] = t_.reallocs;
    d["hints"] = t_.hints;
    d["unknown"] = t_.unknown;
    d["allocated_bytes"] = t_.allocated_bytes;
    d["live_bytes"] = t_.live_bytes;
    d["live_blocks"] = t_.live_blocks;
    d["peak_live_bytes"] = t_.peak_live_bytes;
    d["heaps"] = t_.heaps;
    d["threads"] = t_.threads;
    return d;
  }

 private:
  struct Block {
    uint64_t size = 0;
    uint32_t heap = 0;
  };
  struct HeapState {
    uint64_t live = 0, most = 0, told = 0, told_at = 0;
    bool has_jumped() const { return (live > told ? live - told : told - live) >= kJump; }
  };
  static constexpr uint64_t kMomentUs =
      1000;  // no two moments of a heap are closer, unless so much lies between
  static constexpr uint64_t kJump = 1 << 20;

  void walk(Reader &reader) {
    ChunkHeader header;
    const std::byte *payload;
    while ((t_.status = reader.next(header, payload)) == Status::kChunk) {
      t_.heaps = std::max(t_.heaps, header.heap + 1);
      if (heaps_.size() < t_.heaps) heaps_.resize(t_.heaps);
      if (!walk_chunk(header, payload)) {
        t_.status = Status::kDamaged;
        break;
      }
    }
    t_.offset = reader.offset();
    if (t_.status == Status::kEnd) t_.microseconds = std::max(t_.microseconds, header.microseconds);
    for (uint32_t heap = 0; heap < heaps_.size(); ++heap)
      live_.emplace_back(t_.microseconds, heap, heaps_[heap].live);
    const auto is_earlier = [](const Moment &a, const Moment &b) { return std::get<0>(a) < std::get<0>(b); };
    std::stable_sort(live_.begin(), live_.end(), is_earlier);
    std::stable_sort(hints_.begin(), hints_.end());
    t_.peak_live_bytes = most_live();
    t_.live_blocks = blocks_.size();
    blocks_ = {};
  }

  bool walk_chunk(const ChunkHeader &header, const std::byte *payload) {
    ChunkReader events(payload, header.bytes);
    uint64_t now = header.microseconds;
    note_moment(header.heap, now);
    Event event;
    while (!events.is_over()) {
      if (!events.next(event)) return false;
      ++t_.events;
      if (event.op == Op::kTime) {
        now += event.size;
        note_moment(header.heap, now);
      } else if (event.op == Op::kHint) {
        ++t_.hints;
        hints_.emplace_back(now, header.heap, event.code, event.size);
      } else {
        apply(header.heap, event);
        if (heaps_[header.heap].has_jumped()) note_moment(header.heap, now);
      }
    }
    t_.microseconds = std::max(t_.microseconds, now);
    return true;
  }

  void apply(uint32_t heap, const Event &event) {
    switch (event.op) {
      case Op::kAlloc:
      case Op::kZeroed:
        ++t_.allocations;
        add(heap, event.address, event.size);
        break;
      case Op::kFree:
        ++t_.frees;
        subtract(heap, event.address);
        break;
      case Op::kRealloc:
        ++t_.reallocs;
        subtract(heap, event.old_address);
        add(heap, event.address, event.size);
        break;
      case Op::kThread:
        t_.threads = std::max(t_.threads, event.code + 1);
        break;
      case Op::kHint:
      case Op::kTime:
        break;
    }
  }

  void add(uint32_t heap, uint64_t address, uint64_t size) {
    // Two heaps' chunks are not in one order: the free of the former block may come late.
    if (const Block *former = blocks_.get(address); former != nullptr) {
      late_frees_.emplace(former->heap, address);
      remove(*former, address);
    }
    blocks_.put(address, {size, heap});
    heaps_[heap].live += size;
    t_.live_bytes += size;
    t_.allocated_bytes += size;
    heaps_[heap].most = std::max(heaps_[heap].most, heaps_[heap].live);
  }

  void subtract(uint32_t heap, uint64_t address) {
    if (!late_frees_.empty() && late_frees_.erase({heap, address}) != 0) return;
    const Block *block = blocks_.get(address);
    if (block == nullptr) {
      ++t_.unknown;
      return;
    }
    remove(*block, address);
  }

  void remove(Block block, uint64_t address) {
    heaps_[block.heap].live -= block.size;
    t_.live_bytes -= block.size;
    blocks_.remove(address);
  }

  // Of all heaps together: from the moments, which are in order, where a heap's chunks may come late in the
  // file.
  uint64_t most_live() const {
    std::vector<uint64_t> lives(heaps_.size());
    uint64_t sum = 0, most = 0;
    for (const HeapState &heap : heaps_) most = std::max(most, heap.most);
    for (const auto &[at, heap, live] : live_) {
      sum += live - lives[heap];
      lives[heap] = live;
      most = std::max(most, sum);
    }
    return most;
  }

  void note_moment(uint32_t heap, uint64_t now) {
    HeapState &state = heaps_[heap];
    if (now < state.told_at + kMomentUs && state.told_at != 0 && !state.has_jumped()) return;
    state.told_at = now;
    state.told = state.live;
    live_.emplace_back(now, heap, state.live);
  }

  MappedFile file_;
  std::string header_;
  Totals t_;
  std::vector<Moment> live_;
  std::vector<Hint> hints_;
  std::vector<HeapState> heaps_;
  LiveBlocks<Block> blocks_;
  std::set<std::pair<uint32_t, uint64_t>> late_frees_;  // heaps, and addresses that are others' by now
};

}  // namespace

void acepy::bind_trace(py::module_ &module) {
  py::class_<Trace>(module, "_Trace", "A recorded run, read whole; see acealloc.Trace.")
      .def(py::init<const std::string &>(), py::arg("path"))
      .def_property_readonly("header", &Trace::header)
      .def("totals", &Trace::totals)
      .def("live", &Trace::live)
      .def("hints", &Trace::hints);
}
