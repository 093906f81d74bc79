#include "heap/remote.h"

#include <bit>

#include "heap/all_heaps.h"
#include "heap/large.h"
#include "heap/mid.h"
#include "heap/scatter.h"
#include "heap/slab.h"

namespace ace {
namespace {

void push_link(Heap &owner, RemoteLink &link) {
  RemoteLink *first = owner.remote.first.load(std::memory_order_relaxed);
  do {
    link.next = first;
  } while (!owner.remote.first.compare_exchange_weak(first, &link, std::memory_order_release,
                                                     std::memory_order_relaxed));
}

// Says that the word has bits; the link is in the queue afterwards.
void announce(Heap &owner, RemoteLink &link, unsigned word) {
  // The bit is not set: the word had none since it was taken, and only what was announced is taken.
  // So it can be added, which takes one instruction and no loop.
  if (link.words.fetch_add(uint64_t{1} << word, std::memory_order_acq_rel) == 0) push_link(owner, link);
}

bool mark(Superslab *superslab, RemoteLink &link, BitmapWord *words, unsigned n) {
  const uint64_t bit = uint64_t{1} << n % 64;
  const uint64_t before = words[n / 64].fetch_or(bit, std::memory_order_acq_rel);
  if (before == 0) announce(*superslab->head.prefix.owner, link, n / 64);
  return (before & bit) == 0;
}

// Takes the bits out of the announced words, and calls found(word, bits) for each. Returns how many it took.
template <typename Found>
unsigned take_words(BitmapWord *words, uint64_t announced, Found found) {
  unsigned count = 0;
  for (; announced != 0; announced &= announced - 1) {
    const auto w = static_cast<unsigned>(std::countr_zero(announced));
    const uint64_t bits = words[w].exchange(0, std::memory_order_acq_rel);  // whoever finds none announces anew
    count += static_cast<unsigned>(std::popcount(bits));
    found(w, bits);
  }
  return count;
}

// Those of the freed blocks that start in the bin's window go onto its list, as if the holder had freed them;
// the others are returned.
uint64_t list_those_in_window(Bin &bin, std::byte *first, uint64_t freed) {
  for (uint64_t rest = freed; rest != 0; rest &= rest - 1) {
    auto n = static_cast<unsigned>(std::countr_zero(rest));
    auto *block = reinterpret_cast<Block *>(first + n * kGranule);
    if (!bin.has(block)) continue;
    freed &= ~(uint64_t{1} << n);
    // Not on the list yet: whoever of the two freed it later found the tag of the first (free_remote_tiny).
    block->tag = &bin;
    block->next = bin.list;
    bin.list = block;
  }
  return freed;
}

// Those of the slab; says in `to_bitmap` how many went there.
unsigned take_blocks(Heap &heap, Superslab *superslab, unsigned index, uint64_t announced,
                     unsigned *to_bitmap) {
  SlabRow &row = superslab->row(index);
  Bin &bin = heap.bins[row.prefix.bin];
  const bool is_current = row.prefix.state == SlabState::kCurrent;
  const unsigned found = take_words(superslab->remote_bits[index], announced, [&](unsigned w, uint64_t freed) {
    if (is_current) freed = list_those_in_window(bin, superslab->slab(index) + w * 64 * kGranule, freed);
    BitmapWord &local = superslab->free_bits[index][w];
    const uint64_t waiting = is_current && heap.nature == Nature::kHardened
                                 ? scattered_at(bin, superslab->slab(index) + w * kBytesPerWord)
                                 : 0;
    const uint64_t bits = local.load(std::memory_order_relaxed) | waiting;
    for (uint64_t twice = freed & bits; twice != 0; twice &= twice - 1) {  // by their holder, too
      const auto granule = w * 64 + static_cast<unsigned>(std::countr_zero(twice));
      report_late(ACE_ERROR_DOUBLE_FREE, user_part(superslab->slab(index) + granule * kGranule));
    }
    *to_bitmap += static_cast<unsigned>(std::popcount(freed & ~bits));
    local.store((bits | freed) & ~waiting, std::memory_order_relaxed);
  });
  if (found != 0) count_bitmap_page(heap, superslab, index, Bitmap::kRemote);
  return found;
}

unsigned take_runs(Heap &heap, Superslab *superslab, uint64_t announced) {
  return take_words(superslab->mid().remote, announced, [&](unsigned w, uint64_t freed) {
    for (; freed != 0; freed &= freed - 1) {
      free_mid(heap, superslab, w * 64 + static_cast<unsigned>(std::countr_zero(freed)));
    }
  });
}

}  // namespace

bool free_remote_tiny(SlabRow &row, unsigned granule) {
  Superslab *superslab = superslab_of(&row);
  // As on a list, so that its holder's free of it is suspect. Before the bit is set: then it is the holder's.
  Heap &owner = *row.prefix.owner;
  if (owner.nature != Nature::kHardened)
    set_shared_tag(slab_of(row) + granule * kGranule, &owner.bins[row.prefix.bin]);
  return mark(superslab, row.remote, superslab->remote_bits[row.prefix.index], granule);
}

bool gather_remote_free(Heap &heap, SlabRow &row, void *block) {
  RemoteBatch &batch = heap.batch;
  BitmapWord *word = &remote_word(superslab_of(block), block);
  if (batch.word.load(std::memory_order_relaxed) != word) {
    send_remote_frees(heap);
    batch.word.store(word, std::memory_order_release);
  }
  const uint64_t bits = batch.bits.load(std::memory_order_relaxed);
  if ((bits & free_bit(block)) != 0) return false;
  set_shared_tag(block, &row.prefix.owner->bins[row.prefix.bin]);
  batch.bits.store(bits | free_bit(block), std::memory_order_release);
  return true;
}

void send_remote_frees(Heap &heap) {
  RemoteBatch &batch = heap.batch;
  const uint64_t bits = batch.bits.load(std::memory_order_relaxed);
  if (bits == 0) return;
  BitmapWord &word = *batch.word.load(std::memory_order_relaxed);
  Superslab *superslab = superslab_of(&word);
  const auto n = static_cast<unsigned>(&word - &superslab->remote_bits[0][0]);
  // Most often it has no bits: so its line, which the holder wrote last, is fetched once, and not for a look
  // first.
  uint64_t before = 0;
  if (!word.compare_exchange_strong(before, bits, std::memory_order_acq_rel))
    before = word.fetch_or(bits, std::memory_order_acq_rel);
  if (before == 0)
    announce(*superslab->head.prefix.owner, superslab->row(n / kWordsPerSlab).remote, n % kWordsPerSlab);
  batch.bits.store(0, std::memory_order_release);  // not before: who does not find them here finds them there
  for (uint64_t twice = before & bits; twice != 0; twice &= twice - 1) {
    const unsigned granule = n % kWordsPerSlab * 64 + static_cast<unsigned>(std::countr_zero(twice));
    report_late(ACE_ERROR_DOUBLE_FREE, superslab->slab(n / kWordsPerSlab) + granule * kGranule);
  }
}

bool has_gathered(const Heap &heap, const void *block) {
  return heap.batch.word.load(std::memory_order_relaxed) == &remote_word(superslab_of(block), block) &&
         (heap.batch.bits.load(std::memory_order_relaxed) & free_bit(block)) != 0;
}

bool is_being_sent(const void *block) {
  if constexpr (!kServesMalloc) return false;
  struct Sought {
    const BitmapWord *word;
    uint64_t bit;
    bool found;
  } sought{&remote_word(superslab_of(block), block), free_bit(block), false};
  visit_heaps(
      [](Heap &heap, void *context) {
        auto *s = static_cast<Sought *>(context);
        uint64_t bits;
        const BitmapWord *word;
        do {  // until both were of one moment
          bits = heap.batch.bits.load(std::memory_order_acquire);
          word = heap.batch.word.load(std::memory_order_acquire);
        } while (bits != heap.batch.bits.load(std::memory_order_acquire));
        s->found |= word == s->word && (bits & s->bit) != 0;
      },
      &sought);
  return sought.found;
}

bool free_remote_mid(Superslab *superslab, unsigned page) {
  return mark(superslab, superslab->head.remote, superslab->mid().remote, page);
}

// A large block is its superslab: to be in the queue is to be freed.
bool free_remote_large(Superslab *superslab) {
  RemoteLink &link = superslab->head.remote;
  if (link.words.fetch_or(1, std::memory_order_acq_rel) != 0) return false;
  push_link(*superslab->head.prefix.owner, link);
  return true;
}

void drain_remote_frees(Heap &heap) {
  RemoteLink *link = heap.remote.first.exchange(nullptr, std::memory_order_acquire);
  if (link == nullptr) return;
  heap.counters.remote_drains.add(1);
  uint64_t count = 0;
  for (RemoteLink *next; link != nullptr; link = next) {
    next = link->next;
    __builtin_prefetch(next);  // another thread has written there
    Superslab *superslab = superslab_of(link);
    if (superslab->head.prefix.pool == Pool::kLarge) {
      free_large(heap, superslab);
      ++count;
      continue;
    }
    const bool tiny = superslab->head.prefix.pool == Pool::kTiny;
    const uint64_t announced = link->words.exchange(0, std::memory_order_acq_rel);
    const auto index = kTailPrefix ? slab_index_of(link)  // 0 for a superslab's own
                                   : static_cast<unsigned>(offset_in_slab(link) / sizeof(SlabRow));
    unsigned to_bitmap = 0;
    count += tiny ? take_blocks(heap, superslab, index, announced, &to_bitmap)
                  : take_runs(heap, superslab, announced);
    if (to_bitmap != 0) {
      SlabRow &row = superslab->row(index);
      row.prefix.has_old_tags = heap.nature != Nature::kHardened;
      count_freed(heap, row, to_bitmap);
      if (row.prefix.due == 0) settle_freed(heap, row);  // last: an emptied superslab may be released
    }
  }
  heap.counters.remote_frees.add(count);
}

}  // namespace ace
