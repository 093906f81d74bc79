#include "lua/call_site.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

namespace ace::lua {

#if defined(__x86_64__)
namespace {

constexpr unsigned char kCall = 0xe8;  // call, by a signed 32-bit distance from its end
constexpr size_t kCallSize = 5;
constexpr uintptr_t kReach = uintptr_t{1} << 31;

uintptr_t address_of(const void *p) { return reinterpret_cast<uintptr_t>(p); }

bool reaches(const char *site, const void *target) {
  intptr_t distance = static_cast<intptr_t>(address_of(target) - address_of(site + kCallSize));
  return distance == static_cast<int32_t>(distance);
}

// Any five bytes may look like a call, but hardly like one of just this function: 1 in 2^32.
const char *find_call(const char *caller, size_t size, const void *callee) {
  for (size_t i = 0; i + kCallSize <= size; ++i) {
    const char *site = caller + i;
    int32_t distance;
    if (static_cast<unsigned char>(*site) != kCall) continue;
    memcpy(&distance, site + 1, sizeof distance);
    if (address_of(site + kCallSize) + static_cast<intptr_t>(distance) == address_of(callee)) return site;
  }
  return nullptr;
}

// A free page within reach of `site`: programs and libraries lie terabytes apart.
void *map_near(const char *site, size_t page) {
  constexpr uintptr_t kStep = uintptr_t{1} << 20;
  const uintptr_t around = address_of(site) & ~(kStep - 1);
  for (uintptr_t away = kStep; away < kReach - kStep; away += kStep) {
    const uintptr_t candidates[] = {around - away, around + away};
    for (uintptr_t at : candidates) {
      if (at >= uintptr_t{1} << 47 || at < kStep) continue;
      void *p = mmap(reinterpret_cast<void *>(at), page, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
      if (p == MAP_FAILED) continue;
      if (reaches(site, p)) return p;
      munmap(p, page);  // a kernel older than MAP_FIXED_NOREPLACE takes the address for advice
    }
  }
  return nullptr;
}

// Code that jumps to `target`, within reach of `site`.
const void *jump_near(const char *site, const void *target, size_t page) {
  void *p = map_near(site, page);
  if (p == nullptr) return nullptr;
  constexpr unsigned char kJump[6] = {0xff, 0x25, 0, 0, 0, 0};  // jmp *0(%rip): to the address that follows
  memcpy(p, kJump, sizeof kJump);
  memcpy(static_cast<char *>(p) + sizeof kJump, &target, sizeof target);
  if (mprotect(p, page, PROT_READ | PROT_EXEC) == 0) return p;
  munmap(p, page);
  return nullptr;
}

}  // namespace

const char *redirect_call(const char *caller, size_t size, const void *callee, const void *target) {
  const char *site = find_call(caller, size, callee);
  if (site == nullptr) return "its luaL_newstate does not call its lua_newstate, so that there is no way in";
  const size_t page = static_cast<size_t>(getpagesize());
  if (!reaches(site, target)) target = jump_near(site, target, page);
  if (target == nullptr) return "no executable memory may be mapped within reach of the program's code";

  const int32_t distance = static_cast<int32_t>(address_of(target) - address_of(site + kCallSize));
  const uintptr_t first = address_of(site) & ~(page - 1);
  const size_t length = ((address_of(site) + kCallSize + page - 1) & ~(page - 1)) - first;
  void *pages = reinterpret_cast<void *>(first);
  // A copy takes the place of the pages, changed and executable already: so nothing has changed where the
  // system forbids such code, and there is no moment without the code.
  void *copy = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (copy == MAP_FAILED) return "there is no memory for a copy of the program's code";
  memcpy(copy, pages, length);
  memcpy(static_cast<char *>(copy) + (address_of(site) - first) + 1, &distance, sizeof distance);
  if (mprotect(copy, length, PROT_READ | PROT_EXEC) == 0 &&
      mremap(copy, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, pages) != MAP_FAILED)
    return nullptr;
  munmap(copy, length);
  return "the system forbids to change the program's code";
}
#else
const char *redirect_call(const char *, size_t, const void *, const void *) {
  return "programs that hold their Lua themselves can be entered on x86-64 only; link against liblua*.so "
         "instead";
}
#endif

}  // namespace ace::lua
