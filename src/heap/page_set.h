// A set of a superslab's pages, for finding and counting runs.
#pragma once
#include <algorithm>
#include <array>
#include <bit>

#include "base/bits.h"
#include "base/config.h"
#include "heap/superslab.h"

namespace ace {

// The first page from `from` on whose bit is set; word_at(w) is the set's word w. kPagesPerSuperslab where
// there is none.
template <typename WordAt>
unsigned find_page(unsigned from, WordAt word_at) {
  while (from < kPagesPerSuperslab) {
    uint64_t rest = word_at(from / 64) >> from % 64;
    if (rest != 0) return from + static_cast<unsigned>(std::countr_zero(rest));
    from = from / 64 * 64 + 64;
  }
  return kPagesPerSuperslab;
}

// One more than the last page before `end` whose bit is set; 0 where there is none.
template <typename WordAt>
unsigned find_page_before(unsigned end, WordAt word_at) {
  while (end != 0) {
    unsigned last = end - 1;
    uint64_t rest = word_at(last / 64) << (63 - last % 64);
    if (rest != 0) return end - static_cast<unsigned>(std::countl_zero(rest));
    end = last / 64 * 64;
  }
  return 0;
}

class PageSet {
 public:
  static PageSet load(const BitmapWord *words) {
    PageSet set;
    for (unsigned w = 0; w < kWords; ++w) set.words_[w] = words[w].load(std::memory_order_relaxed);
    return set;
  }

  PageSet operator&(const PageSet &other) const {
    PageSet both;
    for (unsigned w = 0; w < kWords; ++w) both.words_[w] = words_[w] & other.words_[w];
    return both;
  }

  bool has(unsigned page) const { return words_[page / 64] >> page % 64 & 1; }
  void add_slab(unsigned index, uint16_t pages) {
    words_[index / 4] |= uint64_t{pages} << (index % 4 * kPagesPerSlab);
  }
  uint16_t slab(unsigned index) const {
    return static_cast<uint16_t>(words_[index / 4] >> (index % 4 * kPagesPerSlab));
  }
  uint64_t word(unsigned w) const { return words_[w]; }

  void add(unsigned from, unsigned to) {
    each_word(from, to, [this](unsigned w, uint64_t bits) { words_[w] |= bits; });
  }
  void remove(unsigned from, unsigned to) {
    each_word(from, to, [this](unsigned w, uint64_t bits) { words_[w] &= ~bits; });
  }
  unsigned count(unsigned from, unsigned to) const {
    unsigned n = 0;
    each_word(from, to,
              [&](unsigned w, uint64_t bits) { n += static_cast<unsigned>(std::popcount(words_[w] & bits)); });
    return n;
  }

  bool meets(const PageSet &other) const {
    for (unsigned w = 0; w < kWords; ++w) {
      if ((words_[w] & other.words_[w]) != 0) return true;
    }
    return false;
  }

  // The first page from `from` on that is in the set (that is not), kPagesPerSuperslab where there is none.
  unsigned find(unsigned from) const { return search(from, 0); }
  unsigned find_absent(unsigned from) const { return search(from, ~uint64_t{0}); }

  // Calls f(word, bits) for the words that [from, to) covers.
  template <typename F>
  static void each_word(unsigned from, unsigned to, F f) {
    while (from < to) {
      unsigned end = std::min(to, from / 64 * 64 + 64);
      f(from / 64, low_bits(end - from) << from % 64);
      from = end;
    }
  }

 private:
  static constexpr unsigned kWords = kPagesPerSuperslab / 64;

  unsigned search(unsigned from, uint64_t flip) const {
    return find_page(from, [&](unsigned w) { return words_[w] ^ flip; });
  }

  std::array<uint64_t, kWords> words_{};
};

}  // namespace ace
