// Each invariant of the audit is broken on purpose and must be found, by the very line that states it.
#include "heap/audit.h"

#include "heap/address_map.h"
#include "heap/large.h"
#include "heap/mid.h"
#include "heap/slab.h"
#include "unit/heap_test.h"

namespace ace {
namespace {

using test::HeapTest;

constexpr size_t kSize = 64;
constexpr unsigned kGranules = kSize / kGranule;
const unsigned kClass = class_of(kSize);
const unsigned kBlocks = blocks_per_slab(kClass);

// A heap with a slab in every state: `full` (of which some blocks are free), `partial`, `emptied`, `current`
// with a list, one never assigned; a sparse one is made from the full one where needed.
class Audit : public HeapTest {
 protected:
  Audit() {
    keep_what_is_free();
    full_blocks = fill(kBlocks, kSize);
    partial_blocks = fill(kBlocks, kSize);
    auto emptied_blocks = fill(kBlocks, kSize);
    current_blocks = fill(20, kSize);
    full = row_of(full_blocks[0]);
    partial = row_of(partial_blocks[0]);
    emptied = row_of(emptied_blocks[0]);
    current = row_of(current_blocks[0]);
    ace_heap_free(heap, full_blocks[1]);
    for (unsigned i = 0; i < kBlocks / 2; ++i) ace_heap_free(heap, partial_blocks[i]);
    free_all(emptied_blocks);
    for (unsigned i : {4u, 5u, 6u}) ace_heap_free(heap, current_blocks[i]);
    superslab = superslab_of(full);
    never = &superslab->row(kSlabsPerSuperslab - 1);
    bin = &heap->bins[kClass];
    slabs = &heap->slabs[kClass];
    mid = fill(1, 5 * kPage)[0];
    large = fill(1, 3'000'000)[0];
  }

  static SlabRow *row_of(const void *p) { return &superslab_of(p)->row(slab_index_of(p)); }
  BitmapWord &free_word(SlabRow *row, unsigned granule) {
    return superslab->free_bits[row->prefix.index][granule / 64];
  }

  // Every invariant holds, then `text` is found after `change`, then every one holds again after `restore`.
  template <typename Change, typename Restore>
  void expect_found(const std::string &text, Change change, Restore restore) {
    EXPECT_EQ(test::audit(heap), "");
    change();
    EXPECT_THAT(test::audit(heap), testing::HasSubstr(text));
    restore();
    EXPECT_EQ(test::audit(heap), "");
  }
  // The same for a field that is given another value.
  template <typename Field, typename Value>
  void expect_found_in(const std::string &text, Field &field, Value broken) {
    const auto whole = static_cast<Value>(field);
    expect_found(
        text, [&] { field = broken; }, [&] { field = whole; });
  }

  std::vector<void *> full_blocks, partial_blocks, current_blocks;
  SlabRow *full, *partial, *emptied, *current, *never;
  Superslab *superslab;
  Bin *bin;
  BinSlabs *slabs;
  void *mid, *large;
};

TEST_F(Audit, StatesAreAsIntended) {
  EXPECT_EQ(full->prefix.state, SlabState::kFull);
  EXPECT_EQ(partial->prefix.state, SlabState::kPartial);
  EXPECT_EQ(emptied->prefix.state, SlabState::kFree);
  EXPECT_EQ(current->prefix.state, SlabState::kCurrent);
  EXPECT_EQ(never->prefix.pool, Pool::kNone);
}

TEST_F(Audit, NoRoomForAMessage) {
  EXPECT_EQ(ace_heap_audit(heap, nullptr, 0), 0);
  bin->base += kSize;
  full->prefix.used += 1;
  char text[8] = "zzzzzzz";
  EXPECT_EQ(ace_heap_audit(heap, nullptr, 100), 1);
  EXPECT_EQ(ace_heap_audit(heap, text, 0), 1);
  EXPECT_STREQ(text, "zzzzzzz");
  EXPECT_EQ(ace_heap_audit(heap, text, 4), 1);
  EXPECT_EQ(strlen(text), 3u);
  full->prefix.used -= 1;
  bin->base -= kSize;
}

// ---- allocation lists and windows

TEST_F(Audit, ListedBlockOutsideTheWindow) {
  auto *block = static_cast<Block *>(full_blocks[0]);
  expect_found(
      "starts no block of its window", [&] { block->next = std::exchange(bin->list, block); },
      [&] { bin->list = block->next; });
}

TEST_F(Audit, WindowOutsideItsSlab) {
  const uintptr_t slab = address_of(slab_of(*current));
  for (uintptr_t base : {slab - kSlabSize, slab + kSlabSize, slab + kSlabSize - kSize}) {
    expect_found_in("lies outside it", bin->base, base);
  }
  expect_found_in("lies outside it", bin->base, bin->base + kGranule);
  expect_found_in("lies outside it", bin->limit, (kSlabSize / kSize + 1) * kWideReciprocal[kClass].excess);
  expect_found_in("lies outside it", slabs->window_end, static_cast<uint32_t>(kSlabSize + kGranule));
}

TEST_F(Audit, ListedBlockInTheBitmap) {
  const unsigned granule = offset_in_slab(bin->list) / kGranule;
  BitmapWord &word = free_word(current, granule),
             &remote = superslab->remote_bits[current->prefix.index][granule / 64];
  const uint64_t bit = uint64_t{1} << granule % 64;
  expect_found(
      "is free inside the window",
      [&] {
        word |= bit, remote |= bit;
        current->prefix.used -= 1;
      },
      [&] {
        word &= ~bit, remote &= ~bit;
        current->prefix.used += 1;
      });
}

TEST_F(Audit, ListedPointerThatStartsNoBlock) {
  auto *block = reinterpret_cast<Block *>(static_cast<std::byte *>(current_blocks[0]) + kGranule);
  expect_found(
      "starts no block of its window",
      [&] {
        block->tag = bin;
        block->next = std::exchange(bin->list, block);
      },
      [&] { bin->list = block->next; });
}

TEST_F(Audit, ListedBlockWithoutItsTag) {
  expect_found_in("lost its tag", bin->list->tag, static_cast<const void *>(nullptr));
}

TEST_F(Audit, AListThatGoesInACircle) {
  expect_found_in("longer than its used blocks", bin->list->next, bin->list);
}

TEST_F(Audit, FreeInsideTheWindow) {
  const unsigned granule = offset_in_slab(current_blocks[0]) / kGranule;
  BitmapWord &word = free_word(current, granule);
  expect_found(
      "is free inside the window",
      [&] {
        word |= uint64_t{1} << granule % 64;
        current->prefix.used -= 1;
      },
      [&] {
        word &= ~(uint64_t{1} << granule % 64);
        current->prefix.used += 1;
      });
}

TEST_F(Audit, AListWithoutACurrentSlab) {
  Bin &other = heap->bins[kClass + 1];
  Block block{nullptr, &other};
  expect_found_in("has a list and no current slab", other.list, &block);
  expect_found_in("has a list and no current slab", other.limit, uint64_t{16});
  expect_found_in("has a list and no current slab", heap->slabs[kClass + 1].window_end, 1024u);
}

// ---- slabs

TEST_F(Audit, StateAgainstHead) {
  expect_found_in("its state and its head disagree", superslab->head.free_slabs,
                  superslab->head.free_slabs ^ (1u << full->prefix.index));
}

TEST_F(Audit, SlabIndex) { expect_found_in("wrong index", never->prefix.index, uint8_t{1}); }

TEST_F(Audit, NeverAssignedAndYetResident) {
  expect_found_in("was used, but never assigned", never->present, uint16_t{1});
}

TEST_F(Audit, UsedAndFreeMakeTheCapacity) {
  expect_found_in("used + free blocks of a slab", full->prefix.used,
                  static_cast<uint16_t>(full->prefix.used + 1));
  BitmapWord &word = free_word(full, 0);
  expect_found_in("used + free blocks of a slab", word, word | 1);
}

TEST_F(Audit, FreeBitWhereNoBlockStarts) {
  BitmapWord &word = free_word(full, 0);
  expect_found(
      "a free bit where no block starts",
      [&] {
        word |= 2;
        full->prefix.used -= 1;
      },
      [&] {
        word &= ~uint64_t{2};
        full->prefix.used += 1;
      });
}

TEST_F(Audit, RemoteBitWhereNoBlockStarts) {
  expect_found_in("a remote bit where no block starts", superslab->remote_bits[full->prefix.index][0],
                  uint64_t{2});
}

TEST_F(Audit, UsedBlockInAnAbsentPage) {
  expect_found_in("a used block lies in an absent page", full->present,
                  static_cast<uint16_t>(full->present & ~2));
}

TEST_F(Audit, SlabOwner) { expect_found_in("wrong owner", full->prefix.owner, static_cast<Heap *>(nullptr)); }

TEST_F(Audit, StateAgainstBin) {
  expect_found_in("its state and its bin disagree", current->prefix.state, SlabState::kFull);
  expect_found_in("its state and its bin disagree", full->prefix.state, SlabState::kCurrent);
}

TEST_F(Audit, ClaimAgainstState) {
  expect_found(
      "its claim does not fit its state", [&] { ASSERT_TRUE(full->claim.try_take()); },
      [&] { full->claim.release(); });
  expect_found(
      "its claim does not fit its state", [&] { current->claim.release(); },
      [&] { ASSERT_TRUE(current->claim.try_take()); });
}

TEST_F(Audit, FreeSlabWithUsedBlocks) {
  BitmapWord &word = free_word(emptied, 0);
  expect_found(
      "has used blocks",
      [&] {
        word &= ~uint64_t{1};
        emptied->prefix.used = 1;
      },
      [&] {
        word |= 1;
        emptied->prefix.used = 0;
      });
}

TEST_F(Audit, ListedSlabsThatAreEmpty) {
  const uint32_t bit = uint32_t{1} << emptied->prefix.index;
  for (auto [state, text] : {std::pair{SlabState::kPartial, "partial slab"},
                             {SlabState::kSparse, "sparse slab"},
                             {SlabState::kFull, "full slab"}}) {
    expect_found(
        text,
        [&] {
          emptied->prefix.state = state;
          superslab->head.free_slabs &= ~bit;
        },
        [&] {
          emptied->prefix.state = SlabState::kFree;
          superslab->head.free_slabs |= bit;
        });
  }
}

TEST_F(Audit, FullSlabThatShouldBeOffered) {
  expect_found_in("should be offered", full->prefix.due, uint16_t{0});
  expect_found_in("should be offered", full->prefix.due, static_cast<uint16_t>(full->prefix.used + 1));
}

TEST_F(Audit, PartialSlabThatIsDueTooEarly) {
  expect_found_in("due before it is empty", partial->prefix.due, uint16_t{1});
}

// ---- superslabs

TEST_F(Audit, SuperslabInTheAddressMap) {
  expect_found(
      "is not in the address map", [&] { leave_address(superslab); }, [&] { enter_address(superslab); });
}

TEST_F(Audit, SuperslabOwner) {
  expect_found_in("wrong owner", superslab->head.prefix.owner, static_cast<Heap *>(nullptr));
}

TEST_F(Audit, SuperslabPinned) { expect_found_in("is pinned", superslab->head.pins, 1u); }

TEST_F(Audit, SuperslabTier) {
  expect_found_in("its tier does not fit its slabs", superslab->head.tier, Tier::kFree);
}

TEST_F(Audit, OpenLists) {
  ASSERT_EQ(heap->open[0], superslab);
  expect_found(
      "in another tier's list", [&] { std::swap(heap->open[0], heap->open[1]); },
      [&] { std::swap(heap->open[0], heap->open[1]); });
  expect_found_in("the open superslabs are not linked both ways", superslab->head.open_previous, superslab);
  expect_found_in("open superslabs: counted 0", heap->open[0], static_cast<Superslab *>(nullptr));
}

TEST_F(Audit, OpenSuperslabWithoutAFreeSlab) {
  auto blocks = fill(31 * kBlocks, kSize);  // now another superslab is open, and the first has no free slab
  ASSERT_EQ(superslab->head.free_slabs, 0u);
  Superslab *open = heap->open[0];
  expect_found(
      "an open superslab has no free slab",
      [&] {
        superslab->head.open_next = open;
        superslab->head.open_previous = nullptr;
        heap->open[0] = superslab;
      },
      [&] { heap->open[0] = open; });
}

TEST_F(Audit, SlabLists) {
  SlabList &list = heap->slabs[kClass].partial;
  ASSERT_EQ(list.first, partial);
  expect_found_in("in a list that does not fit its state", heap->slabs[kClass].sparse.first, partial);
  expect_found_in("in another bin's list", heap->slabs[kClass + 1].partial.first, partial);
  expect_found_in("is not linked both ways", partial->previous, full);
}

// ---- the mid pool

TEST_F(Audit, MidRuns) {
  Superslab *place = superslab_of(mid);
  MidBody &body = place->mid();
  const unsigned page = page_index_of(mid);
  expect_found_in("a run beyond its end", body.run_pages[kPagesPerSuperslab - 1], uint16_t{2});
  expect_found_in("runs overlap", body.run_pages[page + 2], uint16_t{1});
  BitmapWord &present = body.present[page / 64];
  expect_found_in("present pages of a run", present, present & ~(uint64_t{1} << page % 64));
  BitmapWord &free = body.free[page / 64];
  expect_found_in("is lost or counted twice", free, free | uint64_t{1} << page % 64);
  expect_found_in("is lost or counted twice", body.free[3], uint64_t{0});
  expect_found(
      "is claimed", [&] { ASSERT_TRUE(place->head.claim.try_take()); }, [&] { place->head.claim.release(); });
}

TEST_F(Audit, LargeInTheAddressMap) {
  expect_found(
      "large block", [&] { leave_address(superslab_of(large)); }, [&] { enter_address(superslab_of(large)); });
}

// ---- totals

TEST_F(Audit, UsedBlocksOfABin) {
  Counter &used = heap->slabs[kClass].used_blocks;
  expect_found(
      "used blocks of a bin", [&] { used.add(1); }, [&] { used.subtract(1); });
}

TEST_F(Audit, EveryCounterThatAddsUp) {
  const struct {
    Counter Counters::*counter;
    const char *text;
  } totals[] = {{&Counters::faulted_bytes, "faulted bytes"},
                {&Counters::mapped_bytes, "mapped bytes"},
                {&Counters::slabs_in_use, "slabs in use"},
                {&Counters::superslabs_hot, "HOT superslabs"},
                {&Counters::superslabs_draining, "DRAINING superslabs"},
                {&Counters::superslabs_free, "FREE superslabs"},
                {&Counters::mid_live_blocks, "page runs"},
                {&Counters::mid_live_bytes, "bytes in page runs"},
                {&Counters::large_live_blocks, "large blocks"},
                {&Counters::large_live_bytes, "bytes in large blocks"}};
  for (const auto &[counter, text] : totals) {
    Counter &c = heap->counters.*counter;
    expect_found(
        text + std::string(": counted"), [&] { c.add(1); }, [&] { c.subtract(1); });
  }
  PeakCounter &metadata = heap->counters.metadata_bytes;
  expect_found(
      "metadata bytes: counted", [&] { metadata.add(1); }, [&] { metadata.subtract(1); });
  for (Counter Counters::*given : {&Counters::returned_bytes, &Counters::released_bytes}) {
    Counter &c = heap->counters.*given;
    expect_found(
        "faulted bytes: counted", [&] { c.add(1); }, [&] { c.subtract(1); });
  }
}

}  // namespace
}  // namespace ace
