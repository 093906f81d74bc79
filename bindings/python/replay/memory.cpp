#include "memory.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <stdexcept>

namespace ace::replay {
namespace {

const size_t kPage = static_cast<size_t>(sysconf(_SC_PAGESIZE));

// Calls f(from, to) for each private, writable mapping without a file, but for stacks.
template <class Function>
void for_each_area(Function &&f) {
  const int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (file < 0) throw std::runtime_error("/proc/self/maps cannot be read");
  static char text[size_t{1} << 16];
  size_t held = 0;
  for (ssize_t more; (more = read(file, text + held, sizeof text - 1 - held)) > 0;) {
    held += static_cast<size_t>(more);
    char *line = text;
    for (char *end; (end = static_cast<char *>(memchr(line, '\n', held - static_cast<size_t>(line - text))));
         line = end + 1) {
      *end = '\0';
      unsigned long from, to, inode;
      char rights[5], name[16] = "";
      if (sscanf(line, "%lx-%lx %4s %*x %*s %lu %15s", &from, &to, rights, &inode, name) < 4) continue;
      if (inode == 0 && rights[1] == 'w' && rights[3] == 'p' && strcmp(name, "[stack]") != 0) f(from, to);
    }
    held -= static_cast<size_t>(line - text);
    memmove(text, line, held);
  }
  close(file);
}

// Calls f(page's address) for each resident page of [from, to).
template <class Function>
void for_each_resident(int pagemap, uintptr_t from, uintptr_t to, Function &&f) {
  static uint64_t entries[4096];
  while (from < to) {
    const size_t count = std::min<size_t>((to - from) / kPage, 4096);
    const ssize_t got =
        pread(pagemap, entries, count * sizeof *entries, static_cast<off_t>(from / kPage * sizeof *entries));
    if (got <= 0) return;
    for (size_t i = 0; i < static_cast<size_t>(got) / sizeof *entries; ++i, from += kPage) {
      if (entries[i] >> 63 != 0) f(from);
    }
  }
}

int open_pagemap() {
  const int file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (file < 0) throw std::runtime_error("/proc/self/pagemap cannot be read");
  return file;
}

}  // namespace

Resident resident_bytes() {
  static const int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  char text[128];
  const ssize_t length = pread(file, text, sizeof text - 1, 0);
  if (length <= 0) return {};
  text[length] = '\0';
  unsigned long resident, shared;
  if (sscanf(text, "%*u %lu %lu", &resident, &shared) != 2) return {};
  return {resident * kPage, (resident - shared) * kPage};
}

bool PagesOfBefore::has(uintptr_t page) const { return std::binary_search(&pages[0], &pages[0] + count, page); }

void note_resident_pages_of_before(PagesOfBefore &before) {
  const int pagemap = open_pagemap();
  for_each_area([&](uintptr_t from, uintptr_t to) {
    for_each_resident(pagemap, from, to, [&](uintptr_t page) {
      if (before.count < PagesOfBefore::kMost) before.pages[before.count++] = page;
    });
  });
  close(pagemap);
}

void PageMap::begin() {
  for_each_area([&](uintptr_t from, uintptr_t to) {
    if (area_count_ == kAreas) throw std::runtime_error("there are more mappings than can be looked at");
    areas_[area_count_++] = {from, to, page_count_};
    page_count_ += (to - from) / kPage;
  });
  void *memory =
      mmap(nullptr, page_count_ * sizeof *live_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  live_ = static_cast<uint32_t *>(memory);
}

const PageMap::Area *PageMap::area_of(uintptr_t address) const {
  const Area *begin = &areas_[0], *end = begin + area_count_;
  const Area *after =
      std::upper_bound(begin, end, address, [](uintptr_t a, const Area &b) { return a < b.from; });
  return after != begin && address < after[-1].to ? after - 1 : nullptr;
}

void PageMap::add(const std::byte *block, size_t size) {
  uintptr_t at = reinterpret_cast<uintptr_t>(block);
  const uintptr_t end = at + std::max<size_t>(size, 1);
  // It may lie in several mappings: what is advised about a part of its memory (huge pages) divides them.
  for (const Area *area; at < end && (area = area_of(at)) != nullptr;) {
    for (const uintptr_t stop = std::min(end, area->to); at < stop;) {
      const uintptr_t next = std::min((at / kPage + 1) * kPage, stop);
      live_[area->first + (at - area->from) / kPage] += static_cast<uint32_t>(next - at);
      at = next;
    }
  }
}

void PageMap::end(const PagesOfBefore &before) {
  const int pagemap = open_pagemap();
  for (size_t i = 0; i < area_count_; ++i) {
    const Area &area = areas_[i];
    for_each_resident(pagemap, area.from, area.to, [&](uintptr_t page) {
      const size_t live = live_[area.first + (page - area.from) / kPage];
      if ((live == 0 && before.has(page)) || fill_count_ == kPages) return;
      fill_[fill_count_++] = static_cast<uint8_t>(std::min<size_t>(live * 255 / kPage, 255));
    });
  }
  close(pagemap);
  munmap(live_, page_count_ * sizeof *live_);
}

void PageMap::write(FILE *file) const {
  for (size_t i = 0; i < fill_count_; ++i) fprintf(file, "%02x", fill_[i]);
}

}  // namespace ace::replay
