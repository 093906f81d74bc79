// What a VM's collector is doing, read where the VM keeps it: a byte in its global state, which no header tells
// of. Its place is known for the VMs below; in others, and in a state that was made on another allocator, it is
// not.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace ace::lua {

enum class Stage : uint8_t { kRests, kMarks, kSweeps };

constexpr unsigned kCollectorStates = 9;  // at most, of any VM

struct CollectorLayout {
  int version;     // LUA_VERSION_NUM
  bool is_luajit;  // whose version is 501, too
  uint8_t offset;  // of the state, from behind the allocator and its ud
  uint8_t states;
  uint8_t white;  // the byte before it, in a state that was just made
  bool has_mode;  // the byte after it is 1 in generational mode, which rests where the other marks
  Stage stages[kCollectorStates];
};

// In the block of a state that was just made, whose lua_Alloc has `ud`; nullptr where it is not found.
const uint8_t *find_collector(const void *block, size_t size, const void *ud, int version, bool is_luajit,
                              const CollectorLayout *&layout);

// False where there is no such state: it is not what it was taken for.
bool stage_of(const CollectorLayout &layout, const uint8_t *collector, Stage &stage);

}  // namespace ace::lua
