// The reader of recorded runs, on any bytes: as a file, and, behind a right header and checksum, as a chunk.
#include <cstdlib>
#include <memory>
#include <vector>

#include "fuzz/bytes.h"
#include "trace/reader.h"

namespace ace::trace {
namespace {

// Copied, so that the address sanitizer sees a byte beyond the end.
std::unique_ptr<std::byte[]> copy_of(const std::byte *data, size_t size) {
  std::unique_ptr<std::byte[]> copy(new std::byte[size]);
  if (size != 0) memcpy(copy.get(), data, size);
  return copy;
}

size_t read_chunk(const std::byte *payload, size_t bytes) {
  auto copy = copy_of(payload, bytes);
  ChunkReader events(copy.get(), bytes);
  size_t count = 0;
  Event event;
  while (!events.is_over() && events.next(event)) {
    if (++count > bytes) abort();  // an event takes a byte at least
    if ((event.op == Op::kAlloc || event.op == Op::kZeroed) && event.code >= kKinds) abort();
  }
  return count;
}

// How many chunks it has; the reader's place never leaves the file, and goes on with each of them.
size_t read_file(const std::byte *data, size_t size) {
  auto copy = copy_of(data, size);
  Reader reader(copy.get(), size);
  const char *text;
  size_t length, chunks = 0;
  if (!reader.read_header(text, length)) return 0;
  if (reinterpret_cast<const std::byte *>(text) + length > copy.get() + size) abort();
  for (;; ++chunks) {
    ChunkHeader header;
    const std::byte *payload;
    const size_t before = reader.offset();
    const Status status = reader.next(header, payload);
    if (reader.offset() > size) abort();
    if (status != Status::kChunk) return chunks;
    if (reader.offset() != before + sizeof header + header.bytes) abort();
    read_chunk(payload, header.bytes);
  }
}

template <typename T>
void append(std::vector<std::byte> &file, const T &value) {
  const auto *bytes = reinterpret_cast<const std::byte *>(&value);
  file.insert(file.end(), bytes, bytes + sizeof value);
}

void read_as_chunk(const std::byte *data, size_t size) {
  FileHeader file_header{{}, kVersion, 2};
  memcpy(file_header.magic, kMagic, sizeof kMagic);
  std::vector<std::byte> file;
  append(file, file_header);
  append(file, uint16_t{0x7d7b});  // {}
  append(file, ChunkHeader{kChunk, static_cast<uint32_t>(size), 0, checksum(data, size), 0, 0, 0});
  file.insert(file.end(), data, data + size);
  append(file, ChunkHeader{kEnd, 0, 0, 0, 0, 0, 0});
  if (read_file(file.data(), file.size()) != (size <= kChunkMax ? 1 : 0)) abort();
}

}  // namespace
}  // namespace ace::trace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  using namespace ace::trace;
  ace::test::Bytes bytes(data, size);
  const bool is_chunk = bytes.byte() % 2 != 0;
  const auto *rest = reinterpret_cast<const std::byte *>(bytes.rest());
  if (is_chunk) {
    read_as_chunk(rest, bytes.left());
  } else {
    read_file(rest, bytes.left());
  }
  return 0;
}
