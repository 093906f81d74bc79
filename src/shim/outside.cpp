#include "shim/outside.h"

#include <algorithm>
#include <atomic>

#include "base/bits.h"
#include "base/config.h"
#include "front/misuse.h"
#include "heap/superslab_pool.h"
#include "os/lock.h"
#include "os/os.h"

namespace ace::shim {
namespace {

// ---- early memory: a row of blocks, each behind its size

struct EarlyHead {
  size_t size;
  size_t unused;
};
static_assert(sizeof(EarlyHead) == kGranule);

constexpr size_t kEarlySize = size_t{64} << 10;
alignas(kGranule) std::byte g_early[kEarlySize];
std::atomic<size_t> g_early_used;

bool is_early_block(const void *p) { return address_of(p) - address_of(g_early) < kEarlySize; }
EarlyHead &early_head(const void *p) {
  return *reinterpret_cast<EarlyHead *>(reinterpret_cast<uintptr_t>(p) - sizeof(EarlyHead));
}

// The last one makes room for the next; the others stay.
void free_early(void *p) {
  const size_t begin = address_of(p) - address_of(g_early);
  size_t end = begin + early_head(p).size;
  g_early_used.compare_exchange_strong(end, begin - sizeof(EarlyHead), std::memory_order_relaxed);
}

// ---- far alignments: the page before a block says of what it is

struct FarHead {
  FarHead *next;
  std::byte *block;
  size_t size;
  void *mapping;
  size_t mapped;
};
static_assert(sizeof(FarHead) <= kPage);

// By their addresses in rows, which stay short even where there are 100,000 blocks.
constexpr unsigned kFarRowBits = 12;
Lock g_far_lock;
FarHead *g_far[1 << kFarRowBits];  // under the lock
std::atomic<size_t> g_far_count;   // most processes have none, and never lock

// Their lower bits are zero, the more of them the larger the alignment: the product's upper bits tell them
// apart.
FarHead *&far_row(const void *p) { return g_far[address_of(p) * 0x9e3779b97f4a7c15u >> (64 - kFarRowBits)]; }

std::atomic<size_t> g_foreign_frees;

// Where its row points to the block's head; nullptr where it is none. The lock is held.
FarHead **find_far(const void *p) {
  FarHead **link = &far_row(p);
  while (*link != nullptr && (*link)->block != p) link = &(*link)->next;
  return *link != nullptr ? link : nullptr;
}

// What is known of a far block that the pointer lies in; its size is 0 where that is none.
Route far_route(const void *p) {
  Route way{ACE_ERROR_INTERIOR, Pool::kNone, nullptr, nullptr, 0, 0, nullptr, nullptr};
  if (g_far_count.load(std::memory_order_relaxed) == 0) return way;
  Locked locked(g_far_lock);
  for (const FarHead *row : g_far) {
    for (const FarHead *head = row; head != nullptr; head = head->next) {
      if (address_of(p) - address_of(head->block) < head->size) way.size = head->size;
    }
  }
  return way;
}

bool free_far(void *p) {
  if (g_far_count.load(std::memory_order_relaxed) == 0) return false;
  FarHead *head = nullptr;
  {
    Locked locked(g_far_lock);
    if (FarHead **link = find_far(p); link != nullptr) {
      head = *link;
      *link = head->next;
      g_far_count.fetch_sub(1, std::memory_order_relaxed);
    }
  }
  if (head == nullptr) return false;
  end_mapping(head->mapping, head->mapped);
  return true;
}

}  // namespace

void *allocate_early(size_t alignment, size_t size) {
  if (size > kEarlySize || alignment > kPage) return nullptr;
  const size_t bytes = round_up(std::max(size, kGranule), kGranule);
  size_t used = g_early_used.load(std::memory_order_relaxed), begin;
  do {
    const uintptr_t block =
        round_up(address_of(g_early) + used + sizeof(EarlyHead), std::max(alignment, kGranule));
    begin = block - address_of(g_early);
    if (begin + bytes > kEarlySize) return nullptr;
  } while (!g_early_used.compare_exchange_weak(used, begin + bytes, std::memory_order_relaxed));
  early_head(g_early + begin).size = bytes;
  return g_early + begin;
}

void *allocate_far_aligned(size_t alignment, size_t size) {
  const size_t page = os().page_size;
  if (size > kRequestMax - alignment) return nullptr;
  // The block at the second multiple of the alignment, the head's page before it; what lies before that is
  // never touched.
  const size_t mapped = alignment + round_up(std::max(size, size_t{1}), page);
  auto *mapping = static_cast<std::byte *>(os().map(mapped, alignment));
  if (mapping == nullptr) return nullptr;
  std::byte *block = mapping + alignment;
  auto *head = reinterpret_cast<FarHead *>(block - page);
  *head = FarHead{nullptr, block, mapped - alignment, mapping, mapped};
  Locked locked(g_far_lock);
  head->next = far_row(block);
  far_row(block) = head;
  g_far_count.fetch_add(1, std::memory_order_relaxed);
  return block;
}

bool report_interior(const char *function, const void *p) {
  const Route far = far_route(p), way = far.size != 0 ? far : route(p);
  if (way.fault != ACE_ERROR_INTERIOR) return false;
  report_misuse(ACE_ERROR_INTERIOR, function, p, way);
  return true;
}

void free_outside(void *p) {
  if (is_early_block(p)) return free_early(p);
  if (free_far(p) || report_interior("free", p)) return;
  g_foreign_frees.fetch_add(1, std::memory_order_relaxed);
}

size_t usable_outside(const void *p) {
  if (is_early_block(p)) return early_head(p).size;
  if (g_far_count.load(std::memory_order_relaxed) == 0) return 0;
  Locked locked(g_far_lock);
  FarHead **link = find_far(p);
  return link != nullptr ? (*link)->size : 0;
}

size_t foreign_frees() { return g_foreign_frees.load(std::memory_order_relaxed); }

void lock_outside() { g_far_lock.lock(); }
void unlock_outside() { g_far_lock.unlock(); }

}  // namespace ace::shim
