#include "lua/collector.h"

#include <string.h>

namespace ace::lua {
namespace {

constexpr Stage R = Stage::kRests, M = Stage::kMarks, S = Stage::kSweeps;

// All are of 64 bits. What stands between the ud and the state: LuaJIT: two sizes, the white; 5.1: the
// white; 5.3 and 5.4: four sizes, the string table (16 bytes), one or two values (16 each), the seed (4), the
// white; 5.5: six parameters before the white. Finalizers are called when there is nothing to sweep any more.
constexpr CollectorLayout kLayouts[] = {
    // pause, propagate, atomic, sweepstring, sweep, finalize
    {501, true, 17, 6, 0x21, false, {R, M, M, S, S, R}},
    // pause, propagate, sweepstring, sweep, finalize
    {501, false, 1, 5, 0x21, false, {R, M, S, S, R}},
    // propagate, atomic, sweep all, finobj, tobefnz, end, callfin, pause
    {503, false, 69, 8, 0x01, false, {M, M, S, S, S, S, R, R}},
    // propagate, enteratomic, atomic, sweep all, finobj, tobefnz, end, callfin, pause
    {504, false, 85, 9, 0x08, true, {M, M, M, S, S, S, S, R, R}},
    {505, false, 91, 9, 0x08, true, {M, M, M, S, S, S, S, R, R}},
};

}  // namespace

const uint8_t *find_collector(const void *block, size_t size, const void *ud, int version, bool is_luajit,
                              const CollectorLayout *&layout) {
  if (sizeof(void *) != 8) return nullptr;
  layout = nullptr;
  for (const CollectorLayout &one : kLayouts) {
    if (one.version == version && one.is_luajit == is_luajit) layout = &one;
  }
  if (layout == nullptr) return nullptr;
  const auto *bytes = static_cast<const uint8_t *>(block);
  for (size_t at = sizeof ud; at + sizeof ud + layout->offset + 2u <= size; at += sizeof ud) {
    if (memcmp(bytes + at, &ud, sizeof ud) != 0) continue;
    const uint8_t *collector = bytes + at + sizeof ud + layout->offset;
    Stage stage;
    const bool fits = collector[-1] == layout->white && stage_of(*layout, collector, stage) && stage == R;
    return fits ? collector : nullptr;
  }
  return nullptr;
}

bool stage_of(const CollectorLayout &layout, const uint8_t *collector, Stage &stage) {
  if (*collector >= layout.states) return false;
  stage = layout.stages[*collector];
  if (stage == M && layout.has_mode && collector[1] == 1) stage = R;
  return true;
}

}  // namespace ace::lua
