#include "mistakes.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { kSmall = 48, kSlab = 16000, kRun = 100000, kMapping = 3 << 20 };

static int g_global[64];
static char *volatile p; /* the block of most cases; volatile: the compiler shall not know what a mistake is */
static char *volatile q;

static char *take(size_t size) {
  char *block = get(size);
  if (block == NULL) abort();
  memset(block, 0x22, size);
  return block;
}

/* A byte behind or before a block, changed whatever it was. */
static void spoil(char *volatile block, ptrdiff_t at, size_t count) {
  for (size_t i = 0; i < count; ++i) block[at + (ptrdiff_t)i] ^= 0x5a;
}

/* ---- a second free */

static void immediately(void) { p = take(kSmall), drop(p), drop(p), go_on(kSmall); }
static void after_another(void) {
  p = take(kSmall), q = take(kSmall), drop(p), drop(q), drop(p), go_on(kSmall);
}
static void at_a_distance(void) {
  char *others[500];
  p = take(kSmall);
  for (int i = 0; i < 500; ++i) others[i] = take(kSmall);
  drop(p);
  for (int i = 0; i < 500; ++i) drop(others[i]);
  drop(p), go_on(kSmall);
}
static void after_a_trim(void) { p = take(kSmall), drop(p), ace_trim(heap, SIZE_MAX), drop(p), go_on(kSmall); }
static void of_a_large_slab_block(void) { p = take(kSlab), drop(p), drop(p), go_on(kSlab); }
static void of_a_run(void) { p = take(kRun), drop(p), drop(p), go_on(kRun); }
static void of_a_mapping(void) { p = take(kMapping), drop(p), drop(p), go_on(kMapping); }
static void of_an_aligned(void) { p = get_aligned(256, 300), drop(p), drop(p), go_on(300); }
static void of_an_empty(void) { p = get(0), drop(p), drop(p), go_on(1); }
static void own_then_elsewhere(void) { p = take(kSmall), drop(p), drop_elsewhere(p), go_on(kSmall); }
static void twice_elsewhere(void) { p = take(kSmall), drop_twice_elsewhere(p), go_on(kSmall); }
static void by_two_threads(void) { p = take(kSmall), drop_elsewhere(p), drop_elsewhere(p), go_on(kSmall); }
static void elsewhere_then_own(void) { p = take(kSmall), drop_elsewhere(p), drop(p), go_on(kSmall); }
static void run_elsewhere_then_own(void) { p = take(kRun), drop_elsewhere(p), drop(p), go_on(kRun); }
static void of_what_moved(void) { p = take(kSmall), q = resize(p, 5000), drop(p), go_on(kSmall); }
static void after_reuse(void) { p = take(kSmall), drop(p), q = take(kSmall), drop(p), drop(q), go_on(kSmall); }
static void after_much_reuse(void) { p = take(kSmall), drop(p), go_on(kSmall), drop(p), go_on(kSmall); }

/* ---- what is no block */

static void stack(void) {
  int local[16];
  drop(local);
}
static void global(void) { drop(g_global); }
static void literal(void) { drop((void *)(uintptr_t) "a text of the program"); }
static void code(void) { drop((void *)(uintptr_t)&literal); }
static void interior(void) { p = take(kSmall), drop(p + 16), go_on(kSmall); }
static void misaligned(void) { p = take(kSmall), drop(p + 1), go_on(kSmall); }
static void before_the_start(void) {
  p = take(kSmall), q = take(kSmall), drop((p > q ? p : q) - 8), go_on(kSmall); /* not of the slab's first */
}
static void in_a_run(void) { p = take(kRun), drop(p + 4096), go_on(kRun); }
static void in_a_mapping(void) { p = take(kMapping), drop(p + 4096), go_on(kMapping); }
static void far_in_a_mapping(void) { p = take(4 * kMapping), drop(p + 3 * kMapping), go_on(kMapping); }
static void in_a_free_block(void) { p = take(kSmall), drop(p), drop(p + 16), go_on(kSmall); }
static void never_allocated(void) { p = take(kSmall), drop(p + (1 << 20)), go_on(kSmall); }
static void unmapped(void) { drop((void *)0x100000); }
static void kernel(void) { drop((void *)0xffff888000000000u); }
static void not_canonical(void) { drop((void *)0x0123456789abcde0u); }
static void small_number(void) { drop((void *)16); }
static void head(void) { p = take(kSmall), drop((void *)((uintptr_t)p & ~(uintptr_t)0x1fffff)), go_on(kSmall); }
static void of_mmap(void) {
  drop((char *)mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + 16);
}
static void of_malloc(void) { drop(malloc(100)); }
static void elsewhere_interior(void) { p = take(kSmall), drop_elsewhere(p + 16), go_on(kSmall); }

/* ---- a heap that has ended */

static void block_of_ended(void) {
  ace_heap *other = other_heap();
  p = ace_heap_alloc(other, kSmall), ace_heap_destroy(other), drop(p);
}
static void alloc_from_ended(void) {
  ace_heap *other = other_heap();
  p = ace_heap_alloc(other, kSmall), ace_heap_destroy(other), p = ace_heap_alloc(other, kSmall);
}
static void large_from_ended(void) {
  ace_heap *other = other_heap();
  ace_heap_destroy(other), p = ace_heap_alloc(other, kRun);
}
static void end_of_ended(void) {
  ace_heap *other = other_heap();
  ace_heap_destroy(other), ace_heap_destroy(other);
}
static void free_into_ended(void) {
  ace_heap *other = other_heap();
  p = ace_heap_alloc(other, kSmall), ace_heap_destroy(other), ace_heap_free_sized(other, p, kSmall);
}
static void resize_in_ended(void) {
  ace_heap *other = other_heap();
  p = ace_heap_alloc(other, kSmall), ace_heap_destroy(other), p = ace_heap_realloc(other, p, kRun, 0);
}

/* ---- other calls */

static void resize_freed(void) { p = take(kSmall), drop(p), q = resize(p, 500), go_on(kSmall); }
static void resize_freed_run(void) { p = take(kRun), drop(p), q = resize(p, 2 * kRun), go_on(kRun); }
static void resize_interior(void) { p = take(kSmall), q = resize(p + 16, 500), go_on(kSmall); }
static void resize_foreign(void) { q = resize(g_global, 500), go_on(kSmall); }
static void usable_of_freed(void) { p = take(kSmall), drop(p), usable(p), go_on(kSmall); }
static void usable_of_interior(void) { p = take(kSmall), usable(p + 16), go_on(kSmall); }
static void sized_too_large(void) { p = take(kSmall), drop_sized(p, 4000), go_on(kSmall); }
static void sized_other_class(void) { p = take(4000), drop_sized(p, 16), go_on(4000); }
static void sized_off_by_one(void) { p = take(kSmall), drop_sized(p, kSmall - 1), go_on(kSmall); }
static void sized_run(void) { p = take(kRun), drop_sized(p, kRun / 2), go_on(kRun); }
static void sized_swept(void) { p = take(kSmall), ace_heap_free_swept(heap, p, 24), go_on(kSmall); }

/* ---- beyond a block's end, before its start */

static void by_one(void) { p = take(kSmall), spoil(p, kSmall, 1), drop(p), go_on(kSmall); }
static void by_a_zero(void) { p = take(kSmall), p[kSmall] = 0, drop(p), go_on(kSmall); }
static void by_one_of_odd(void) { p = take(41), spoil(p, 41, 1), drop(p), go_on(41); }
static void by_8(void) { p = take(kSmall), spoil(p, kSmall, 8), drop(p), go_on(kSmall); }
static void by_64(void) {
  q = take(kSmall), p = take(kSmall), spoil(p, kSmall, 64), drop(p), drop(q), go_on(kSmall);
}
static void of_nothing(void) { p = get(0), spoil(p, 0, 1), drop(p), go_on(1); }
static void of_aligned(void) { p = get_aligned(64, 100), spoil(p, 100, 1), drop(p), go_on(100); }
static void of_zeroed(void) { p = get_zeroed(kSmall), spoil(p, kSmall, 1), drop(p), go_on(kSmall); }
static void of_shrunk(void) { p = take(100), p = resize(p, 90), spoil(p, 90, 1), drop(p), go_on(100); }
static void of_grown(void) { p = take(90), p = resize(p, 3000), spoil(p, 3000, 1), drop(p), go_on(3000); }
static void of_slab_block(void) { p = take(kSlab), spoil(p, kSlab, 1), drop(p), go_on(kSlab); }
static void of_run(void) { p = take(kRun), spoil(p, kRun, 1), drop(p), go_on(kRun); }
static void of_mapping(void) { p = take(kMapping), spoil(p, kMapping, 1), drop(p), go_on(kMapping); }
static void far_off_mapping(void) {
  p = take(kMapping), spoil(p, kMapping, 3 * 4096), drop(p), go_on(kMapping);
}
static void into_next_head(void) {
  for (int i = 0; i < 200; ++i) p = take(kSlab);
  memset(p, 0x33, 5 << 20); /* from within a superslab to its end, and on */
  drop(p), go_on(kSlab);
}
static void seen_at_resize(void) { p = take(kSmall), spoil(p, kSmall, 1), p = resize(p, 1000), go_on(kSmall); }
static void seen_at_usable(void) { p = take(kSmall), spoil(p, kSmall, 1), usable(p), go_on(kSmall); }
static void seen_elsewhere(void) { p = take(kSmall), spoil(p, kSmall, 1), drop_elsewhere(p), go_on(kSmall); }

/* A block right behind another one, so that what is written to is that one's: what lies before the first block
 * of all a heap need not notice. */
static void underflow(size_t count) {
  char *blocks[64];
  for (int i = 0; i < 64; ++i) blocks[i] = take(kSmall);
  int behind = 32;
  while (behind < 63 &&
         (blocks[behind] < blocks[behind - 1] || blocks[behind] - blocks[behind - 1] > 2 * kSmall))
    ++behind;
  spoil(blocks[behind], -(ptrdiff_t)count, count);
  for (int i = 0; i < 64; ++i) drop(blocks[i]);
  go_on(kSmall);
}
static void under_by_one(void) { underflow(1); }
static void under_by_16(void) { underflow(16); }

/* ---- a write to a block after its free */

static void late_write(size_t size, size_t at, size_t count) {
  p = take(size), q = take(size), drop(p), spoil(p, (ptrdiff_t)at, count), go_on(size);
}
static void to_first_word(void) { late_write(kSmall, 0, 8); }
static void to_second_word(void) { late_write(kSmall, 8, 8); }
static void to_middle(void) { late_write(kSmall, 24, 4); }
static void to_last_word(void) { late_write(kSmall, kSmall - 8, 8); }
static void to_one_byte(void) { late_write(kSmall, 33, 1); }
static void to_slab_block(void) { late_write(kSlab, kSlab / 2, 8); }
static void to_run(void) { late_write(kRun, kRun / 2, 8); }
static void to_mapping(void) { late_write(kMapping, kMapping / 2, 8); }
static void after_elsewhere(void) {
  p = take(kSmall), q = take(kSmall), drop_elsewhere(p), spoil(p, 16, 8), go_on(kSmall);
}
static void after_trim(void) {
  p = take(kSlab), q = take(kSlab), drop(p), ace_trim(heap, SIZE_MAX), spoil(p, kSlab / 2, 8), go_on(kSlab);
}
static void after_reuse_write(void) {
  p = take(kSmall), drop(p), q = take(kSmall), spoil(p, 0, 8), go_on(kSmall);
}

/* What is free in the block is overwritten so that a list in it leads to the attacker's memory. */
static void poison(size_t size) {
  static char target[4096] __attribute__((aligned(64)));
  char *blocks[8];
  forbid(target, sizeof target);
  for (int i = 0; i < 8; ++i) blocks[i] = take(size);
  for (int i = 0; i < 8; ++i) drop(blocks[i]);
  for (int i = 0; i < 8; ++i) *(void *volatile *)blocks[i] = target + 64;
  go_on(size);
}
static void poison_small(void) { poison(kSmall); }
static void poison_larger(void) { poison(512); }

#define FREE "free already"
#define INSIDE "start of a block"
#define FOREIGN "not from this allocator"
#define NEVER "no block was ever"
#define SIZE "size given"
#define ENDED "heap was destroyed"
#define OVER "last byte was overwritten"
#define LATE "while it was free"

const struct mistake mistakes[] = {
    {"double-free", "a second free at once", FREE, FREE, true, immediately},
    {"double-free-after-another", "a second free after that of another block", FREE, FREE, true, after_another},
    {"double-free-at-a-distance", "a second free 500 frees later", FREE, FREE, true, at_a_distance},
    {"double-free-after-trim", "a second free after a trim", FREE, FREE, false, after_a_trim},
    {"double-free-16k", "a second free of 16 KB", FREE, FREE, true, of_a_large_slab_block},
    {"double-free-100k", "a second free of 100 KB", FREE, FREE, true, of_a_run},
    {"double-free-3m", "a second free of 3 MB", FOREIGN, FREE, true, of_a_mapping},
    {"double-free-aligned", "a second free of an aligned block", FREE, FREE, true, of_an_aligned},
    {"double-free-empty", "a second free of a block of no bytes", FREE, FREE, true, of_an_empty},
    {"double-free-own-elsewhere", "freed, then by another thread", FREE, FREE, true, own_then_elsewhere},
    {"double-free-elsewhere", "freed twice by another thread", FREE, FREE, true, twice_elsewhere},
    {"double-free-two-threads", "freed by two other threads", FREE, FREE, true, by_two_threads},
    {"double-free-elsewhere-own", "freed by another thread, then by its own", FREE, FREE, true,
     elsewhere_then_own},
    {"double-free-elsewhere-own-100k", "the same with 100 KB", FREE, FREE, true, run_elsewhere_then_own},
    {"double-free-moved", "a free of what a realloc has moved", FREE, FREE, true, of_what_moved},
    {"double-free-reused", "a second free after one allocation of that size", FREE, "", true, after_reuse},
    {"double-free-much-reused", "a second free after thousands of them", FREE, FREE, true, after_much_reuse},

    {"free-stack", "a free of a local variable", FOREIGN, FOREIGN, true, stack},
    {"free-global", "a free of a global variable", FOREIGN, FOREIGN, true, global},
    {"free-literal", "a free of a text of the program", FOREIGN, FOREIGN, true, literal},
    {"free-code", "a free of a function", FOREIGN, FOREIGN, true, code},
    {"free-interior", "a free of a block's 16th byte", INSIDE, INSIDE, true, interior},
    {"free-misaligned", "a free of a block's second byte", INSIDE, INSIDE, true, misaligned},
    {"free-before", "a free of 8 bytes before a block", INSIDE, INSIDE, true, before_the_start},
    {"free-interior-100k", "a free of the second page of 100 KB", INSIDE, INSIDE, true, in_a_run},
    {"free-interior-3m", "a free of the second page of 3 MB", INSIDE, INSIDE, true, in_a_mapping},
    {"free-interior-12m", "a free of the middle of 12 MB", INSIDE, INSIDE, true, far_in_a_mapping},
    {"free-interior-free", "a free of a free block's 16th byte", INSIDE, INSIDE, true, in_a_free_block},
    {"free-never-allocated", "a free of the heap's memory where no block was", NEVER, NEVER, false,
     never_allocated},
    {"free-unmapped", "a free of an address without memory", FOREIGN, FOREIGN, true, unmapped},
    {"free-kernel", "a free of an address of the kernel's", FOREIGN, FOREIGN, true, kernel},
    {"free-not-canonical", "a free of what is no address", FOREIGN, FOREIGN, true, not_canonical},
    {"free-small-number", "a free of the number 16", FOREIGN, FOREIGN, true, small_number},
    {"free-head", "a free of the allocator's own data", NEVER, NEVER, false, head},
    {"free-mmap", "a free of a mapping of the program's", FOREIGN, FOREIGN, true, of_mmap},
    {"free-malloc", "a free of another allocator's block", FOREIGN, FOREIGN, false, of_malloc},
    {"free-interior-elsewhere", "a free of a block's 16th byte by another thread", INSIDE, INSIDE, true,
     elsewhere_interior},

    {"ended-block", "a free of a destroyed heap's block", FOREIGN, FOREIGN, false, block_of_ended},
    {"ended-alloc", "an allocation from a destroyed heap", ENDED, ENDED, false, alloc_from_ended},
    {"ended-alloc-100k", "the same of 100 KB", ENDED, ENDED, false, large_from_ended},
    {"ended-twice", "a heap that is destroyed twice", ENDED, ENDED, false, end_of_ended},
    {"ended-free", "a free into a destroyed heap", FOREIGN, FOREIGN, false, free_into_ended},
    {"ended-realloc", "a realloc in a destroyed heap", FOREIGN, FOREIGN, false, resize_in_ended},

    {"realloc-freed", "a realloc of a freed block", FREE, FREE, true, resize_freed},
    {"realloc-freed-100k", "a realloc of freed 100 KB", FREE, FREE, true, resize_freed_run},
    {"realloc-interior", "a realloc of a block's 16th byte", INSIDE, INSIDE, true, resize_interior},
    {"realloc-foreign", "a realloc of a global variable", FOREIGN, FOREIGN, true, resize_foreign},
    {"usable-freed", "the usable size of a freed block", FREE, FREE, true, usable_of_freed},
    {"usable-interior", "the usable size of a block's 16th byte", INSIDE, INSIDE, true, usable_of_interior},
    {"sized-too-large", "48 bytes freed as 4000", SIZE, SIZE, false, sized_too_large},
    {"sized-other-class", "4000 bytes freed as 16", SIZE, "", false, sized_other_class},
    {"sized-off-by-one", "48 bytes freed as 47", SIZE, "", false, sized_off_by_one},
    {"sized-100k", "100 KB freed as 50 KB", SIZE, "", false, sized_run},
    {"sized-swept", "48 bytes swept as 24", SIZE, "", false, sized_swept},

    {"overflow-1", "one byte beyond the end", OVER, "", true, by_one},
    {"overflow-zero", "a zero beyond the end, as a text's", OVER, "", true, by_a_zero},
    {"overflow-odd", "one byte beyond the 41 asked for", OVER, "", true, by_one_of_odd},
    {"overflow-8", "8 bytes beyond the end", OVER, "", true, by_8},
    {"overflow-64", "64 bytes beyond the end, into the next block", OVER, "", true, by_64},
    {"overflow-empty", "one byte into a block of none", OVER, "", true, of_nothing},
    {"overflow-aligned", "one byte beyond an aligned block", OVER, "", true, of_aligned},
    {"overflow-zeroed", "one byte beyond a calloc", OVER, "", true, of_zeroed},
    {"overflow-shrunk", "one byte beyond a shrunk block", OVER, "", true, of_shrunk},
    {"overflow-grown", "one byte beyond a grown block", OVER, "", true, of_grown},
    {"overflow-16k", "one byte beyond 16 KB", OVER, "", true, of_slab_block},
    {"overflow-100k", "one byte beyond 100 KB", OVER, "", true, of_run},
    {"overflow-3m", "one byte beyond 3 MB", OVER, "", true, of_mapping},
    {"overflow-3m-pages", "three pages beyond 3 MB", "signal", "", true, far_off_mapping},
    {"overflow-next-head", "from a block over the allocator's data behind", "signal", "", true, into_next_head},
    {"overflow-realloc", "one byte beyond the end, then a realloc", OVER, "", true, seen_at_resize},
    {"overflow-usable", "one byte beyond the end, then a look at the size", OVER, "", true, seen_at_usable},
    {"overflow-elsewhere", "one byte beyond the end, freed by another thread", OVER, "", true, seen_elsewhere},
    {"underflow-1", "one byte before the start", OVER, "", true, under_by_one},
    {"underflow-16", "16 bytes before the start", OVER, "", true, under_by_16},

    {"late-first", "a write to a freed block's first word", LATE, "", true, to_first_word},
    {"late-second", "its second word", LATE, "", true, to_second_word},
    {"late-middle", "its middle", LATE, "", true, to_middle},
    {"late-last", "its last word", LATE, "", true, to_last_word},
    {"late-byte", "one byte of it", LATE, "", true, to_one_byte},
    {"late-16k", "the middle of freed 16 KB", LATE, "", true, to_slab_block},
    {"late-100k", "the middle of freed 100 KB", LATE, "", true, to_run},
    {"late-3m", "the middle of freed 3 MB", "signal", "", true, to_mapping},
    {"late-elsewhere", "a block that another thread has freed", LATE, "", true, after_elsewhere},
    {"late-trimmed", "a freed block, after a trim", LATE, "", false, after_trim},
    {"late-reused", "a freed block after one allocation of that size", LATE, "", true, after_reuse_write},
    {"list-48", "the list in freed blocks led to the attacker's memory", LATE, "", true, poison_small},
    {"list-512", "the same with 512 bytes", LATE, "", true, poison_larger},
    {NULL, NULL, NULL, NULL, false, NULL},
};
