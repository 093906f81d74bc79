// The set of pages against a plain array of bools.
#include "heap/page_set.h"

#include <random>

#include <gtest/gtest.h>

namespace ace {
namespace {

class PageSetModel : public testing::Test {
 protected:
  void change(unsigned from, unsigned to, bool present) {
    present ? set.add(from, to) : set.remove(from, to);
    for (unsigned page = from; page < to; ++page) pages[page] = present;
  }
  void compare() {
    for (unsigned page = 0; page < kPagesPerSuperslab; ++page) ASSERT_EQ(set.has(page), pages[page]) << page;
    for (unsigned page = 0; page <= kPagesPerSuperslab; ++page) {
      unsigned in = page, out = page;
      while (in < kPagesPerSuperslab && !pages[in]) ++in;
      while (out < kPagesPerSuperslab && pages[out]) ++out;
      ASSERT_EQ(set.find(page), in);
      ASSERT_EQ(set.find_absent(page), out);
      unsigned before = page;
      while (before > 0 && !pages[before - 1]) --before;
      ASSERT_EQ(find_page_before(page, [this](unsigned w) { return set.word(w); }), before);
    }
  }
  unsigned count(unsigned from, unsigned to) const {
    unsigned n = 0;
    for (unsigned page = from; page < to; ++page) n += pages[page];
    return n;
  }

  PageSet set;
  bool pages[kPagesPerSuperslab] = {};
};

TEST_F(PageSetModel, WordEdges) {
  compare();
  for (auto [from, to] : {std::pair{0u, 1u}, {63u, 65u}, {128u, 192u}, {300u, 300u}, {511u, 512u}}) {
    change(from, to, true);
    compare();
  }
  change(0, kPagesPerSuperslab, true);
  compare();
  change(64, 128, false);
  compare();
}

TEST_F(PageSetModel, RandomRuns) {
  std::mt19937 random(7);
  for (int i = 0; i < 200; ++i) {
    unsigned from = random() % kPagesPerSuperslab, to = from + random() % (kPagesPerSuperslab - from + 1);
    change(from, to, random() % 2 != 0);
    compare();
    ASSERT_EQ(set.count(from, to), count(from, to));
    ASSERT_EQ(set.count(0, to), count(0, to));
  }
}

TEST_F(PageSetModel, SlabsArePartsOfIt) {
  set.add_slab(5, 0x8001);
  for (unsigned page = 0; page < kPagesPerSuperslab; ++page) {
    EXPECT_EQ(set.has(page), page == 5 * kPagesPerSlab || page == 5 * kPagesPerSlab + 15);
  }
  for (unsigned i = 0; i < kSlabsPerSuperslab; ++i) EXPECT_EQ(set.slab(i), i == 5 ? 0x8001 : 0);
}

TEST_F(PageSetModel, LoadsFromABitmap) {
  BitmapWord words[kPagesPerSuperslab / 64]{};
  words[3] = uint64_t{1} << 9;
  set = PageSet::load(words);
  pages[3 * 64 + 9] = true;
  compare();
}

}  // namespace
}  // namespace ace
