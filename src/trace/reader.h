// Reads a recorded run that lies in memory, chunk by chunk, up to its end or to where it is damaged.
#pragma once
#include "trace/format.h"

namespace ace::trace {

struct Event {
  Op op;
  uint32_t code;         // kHint; kAlloc, kZeroed: the kind; kThread: its number
  uint64_t size;         // kAlloc, kZeroed, kRealloc; kHint: its value; kTime: microseconds
  uint64_t address;      // kAlloc, kZeroed, kFree; kRealloc: the new one
  uint64_t old_address;  // kRealloc
};

// The events of one chunk, whose checksum is right.
class ChunkReader {
 public:
  ChunkReader(const std::byte *payload, size_t bytes) : at_(payload), end_(payload + bytes) {}

  bool is_over() const { return at_ == end_; }

  // False where it is no event: the chunk was not written by us.
  bool next(Event &event) {
    uint64_t first;
    if (!get_number(at_, end_, first)) return false;
    event.op = static_cast<Op>(first & 7);
    const uint64_t payload = first >> 3;
    switch (event.op) {
      case Op::kAlloc:
      case Op::kZeroed:
        event.code = static_cast<uint32_t>(payload % kKinds);
        event.size = payload / kKinds;
        return take_address(event.address);
      case Op::kFree:
        event.address = move_by(payload);
        return true;
      case Op::kRealloc:
        event.old_address = move_by(payload);
        return get_number(at_, end_, event.size) && take_address(event.address);
      case Op::kHint:
        event.code = static_cast<uint32_t>(payload);
        return get_number(at_, end_, event.size);
      case Op::kThread:
        event.code = static_cast<uint32_t>(payload);
        return true;
      case Op::kTime:
        event.size = payload;
        return true;
    }
    return false;
  }

 private:
  uint64_t move_by(uint64_t distance) {
    address_ += static_cast<uint64_t>(to_signed(distance));
    return address_ << kAddressShift;
  }
  bool take_address(uint64_t &address) {
    uint64_t distance;
    if (!get_number(at_, end_, distance)) return false;
    address = move_by(distance);
    return true;
  }

  const std::byte *at_, *end_;
  uint64_t address_ = 0;
};

enum class Status {
  kChunk,      // there is one
  kEnd,        // the file is whole
  kTruncated,  // it ends without saying so: what came before counts
  kDamaged     // what follows cannot be read
};

// The chunks of a file.
class Reader {
 public:
  Reader(const std::byte *data, size_t size) : begin_(data), at_(data), end_(data + size) {}

  // The JSON that says what was recorded; false where it is no trace of this version. Before anything else.
  bool read_header(const char *&text, size_t &length) {
    FileHeader header;
    if (size_left() < sizeof header) return false;
    memcpy(&header, at_, sizeof header);
    if (memcmp(header.magic, kMagic, sizeof kMagic) != 0 || header.version != kVersion) return false;
    if (header.text_bytes > size_left() - sizeof header) return false;
    text = reinterpret_cast<const char *>(at_ + sizeof header);
    length = header.text_bytes;
    at_ += sizeof header + length;
    return true;
  }

  Status next(ChunkHeader &header, const std::byte *&payload) {
    if (size_left() < sizeof header) return Status::kTruncated;
    memcpy(&header, at_, sizeof header);
    if (header.mark == kEnd) {
      at_ += sizeof header;
      return Status::kEnd;
    }
    if (header.mark != kChunk || header.bytes > kChunkMax || header.heap >= kHeapsMax) return Status::kDamaged;
    if (header.bytes > size_left() - sizeof header) return Status::kTruncated;
    payload = at_ + sizeof header;
    if (checksum(payload, header.bytes) != header.checksum) return Status::kDamaged;
    at_ = payload + header.bytes;
    return Status::kChunk;
  }

  // How far what was read whole reaches.
  size_t offset() const { return static_cast<size_t>(at_ - begin_); }

 private:
  size_t size_left() const { return static_cast<size_t>(end_ - at_); }
  const std::byte *begin_, *at_, *end_;
};

}  // namespace ace::trace
