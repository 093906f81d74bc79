// A recorded run: a file header, chunks of events, an end. Described for readers in docs/trace.md.
//
// Each heap of the process is a stream of events of its own, cut into chunks; a chunk can be read by itself. An
// event begins with a number of seven bits a byte, the low ones first, whose lowest three bits are the Op and
// whose rest is its payload. Addresses are told by their distance from the last one of the chunk (in units of 8
// bytes, 0, -1, 1, -2, ... as 0, 1, 2, 3, ...; at a chunk's begin the last is 0), so that an event takes some
// four bytes.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ace::trace {

enum class Op : uint8_t {
  kAlloc,    // payload: size x 4 + kind; then the address
  kZeroed,   // the same, for memory that reads as zero
  kFree,     // payload: the address
  kRealloc,  // payload: the old address; then the new size, then the new address
  kHint,     // payload: an ace_hint_code; then its value
  kThread,   // payload: a number; what follows is that thread's. At a chunk's begin it is thread 0
  kTime,     // payload: microseconds since the last such event, or since the chunk's begin
};

inline constexpr char kMagic[8] = {'A', 'C', 'E', 't', 'r', 'a', 'c', 'e'};
inline constexpr uint32_t kVersion = 1;
inline constexpr unsigned kKinds = 4;
inline constexpr uint32_t kHeapsMax = 1u << 22;  // of a recording

// Numbers are little-endian. After it comes `text_bytes` of JSON, which says what was recorded.
struct FileHeader {
  char magic[8];
  uint32_t version;
  uint32_t text_bytes;
};

inline constexpr uint32_t kChunk = 0x4b434541;  // "AECK"
inline constexpr uint32_t kEnd = 0x444e4541;    // "AEND": no payload; the process ended in order
inline constexpr size_t kChunkMax = size_t{1} << 18;

struct ChunkHeader {
  uint32_t mark;
  uint32_t bytes;         // of the payload that follows
  uint32_t events;        // in it
  uint32_t checksum;      // of it: the CRC-32 of zlib
  uint32_t heap;          // 0, 1, ...
  uint32_t reserved;      // 0
  uint64_t microseconds;  // since the recording began
};
static_assert(sizeof(ChunkHeader) == 32);

inline constexpr size_t kNumberMax = 10;  // bytes of a number
inline constexpr unsigned kAddressShift = 3;

inline std::byte *put_number(std::byte *to, uint64_t number) {
  for (; number >= 0x80; number >>= 7) *to++ = static_cast<std::byte>(number | 0x80);
  *to++ = static_cast<std::byte>(number);
  return to;
}

// False where it does not end before `end`, or is too long for a number.
inline bool get_number(const std::byte *&from, const std::byte *end, uint64_t &number) {
  number = 0;
  for (unsigned shift = 0; shift < 7 * kNumberMax && from != end; shift += 7) {
    const auto byte = static_cast<uint64_t>(*from++);
    if (shift == 63 && byte > 1) return false;
    number |= (byte & 0x7f) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

inline uint64_t from_signed(int64_t n) {
  return static_cast<uint64_t>(n) << 1 ^ static_cast<uint64_t>(n >> 63);
}
inline int64_t to_signed(uint64_t n) { return static_cast<int64_t>(n >> 1 ^ (~(n & 1) + 1)); }

// Eight bytes a step, by tables.
inline constexpr auto kCrcTables = [] {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c & 1) != 0 ? 0xedb88320u ^ (c >> 1) : c >> 1;
    tables[0][i] = c;
  }
  for (unsigned t = 1; t < 8; ++t) {
    for (uint32_t i = 0; i < 256; ++i)
      tables[t][i] = tables[0][tables[t - 1][i] & 0xff] ^ (tables[t - 1][i] >> 8);
  }
  return tables;
}();

inline uint32_t checksum(const std::byte *data, size_t size) {
  const auto &t = kCrcTables;
  uint32_t c = ~uint32_t{0};
  for (; size >= 8; data += 8, size -= 8) {
    uint32_t low, high;
    memcpy(&low, data, 4);
    memcpy(&high, data + 4, 4);
    low ^= c;
    c = t[7][low & 0xff] ^ t[6][low >> 8 & 0xff] ^ t[5][low >> 16 & 0xff] ^ t[4][low >> 24] ^
        t[3][high & 0xff] ^ t[2][high >> 8 & 0xff] ^ t[1][high >> 16 & 0xff] ^ t[0][high >> 24];
  }
  for (; size != 0; ++data, --size) c = t[0][(c ^ static_cast<uint32_t>(*data)) & 0xff] ^ (c >> 8);
  return ~c;
}

}  // namespace ace::trace
