// The numbers that the whole allocator agrees on.
#pragma once
#include <cstddef>
#include <cstdint>

#include "base/experiment.h"

namespace ace {

// A granule is the unit of alignment and of the free bitmap: one bit says whether the block that starts
// there is free.
inline constexpr size_t kGranule = 16;

// Memory is given back in pages of this size, or of the system's where that is larger.
inline constexpr size_t kPage = 4096;

inline constexpr size_t kSlabSize = size_t{64} << 10;
inline constexpr size_t kSuperslabSize = size_t{2} << 20;

inline constexpr unsigned kSlabsPerSuperslab = kSuperslabSize / kSlabSize;
inline constexpr unsigned kPagesPerSlab = kSlabSize / kPage;
inline constexpr unsigned kPagesPerSuperslab = kSuperslabSize / kPage;
inline constexpr unsigned kGranulesPerPage = kPage / kGranule;
inline constexpr unsigned kWordsPerPage = kGranulesPerPage / 64;
inline constexpr unsigned kWordsPerSlab = kWordsPerPage * kPagesPerSlab;

// Requests up to here live in slabs, up to kMidMax in page runs, above in mappings of their own.
inline constexpr size_t kTinyMax = 16384;
inline constexpr size_t kMidMax = kRoutes == Routes::tiny_only ? kTinyMax : size_t{512} << 10;

// A larger request cannot be met and could overflow when it is rounded up.
inline constexpr size_t kRequestMax = PTRDIFF_MAX - 2 * kSuperslabSize;

// User addresses on x86-64 (4-level paging), and not all of them on aarch64; LuaJIT needs blocks below it, too.
inline constexpr unsigned kAddressBits = 47;

inline constexpr unsigned kKindGroups = 4;

}  // namespace ace
