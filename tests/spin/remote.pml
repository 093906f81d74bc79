/* Remote frees (src/heap/remote.h): threads free blocks of slabs that they do not hold, the holder drains.
 *
 * Two slabs, of three blocks and of two, the first two of each in one word of the remote bitmap; every slab is a
 * superslab by itself, which is released when all its blocks are free. One step here is one atomic operation there,
 * in one order for all: what weaker orders may do is not modelled.
 *
 * Holds: each block is found once and none is lost; a link is in the queue once; a superslab is not released while
 * a freeing thread still writes to it; once all frees are over a look at all words finds what was announced; at
 * the end nothing is announced, and nothing owed.
 *
 * Broken on purpose, each must be found:
 *   BIT_FIRST     the bit is set before it is announced
 *   NO_ANNOUNCE   announced bits that are not there yet are forgotten
 *   NO_BALANCE    bits found before their announcement are forgotten
 *   NEXT_LATE     the next link is read after the count was taken
 *   RELEASE_EARLY an announcement that is pending does not keep a superslab
 */
#define SLABS 2
#define BLOCKS 3
#define FREERS 2
#define NONE 255
#define WORD_OF(b) (b / 2)

byte first = NONE;        /* the queue */
byte next_of[SLABS];
byte hint[SLABS];         /* RemoteLink::word: 1 + the word, 0 any */
byte count[SLABS];
short balance[SLABS];
bool bits[6];             /* slab * BLOCKS + block */
byte used[SLABS];
bool released[SLABS];
bool in_queue[SLABS];     /* for the assertions alone, as are the next two */
byte found_times[6];
byte writers[SLABS];      /* freeing threads that will still write */
byte done;

#define WRITES(s) assert(!released[s])

/* Raises the count; who raises it from 0 pushes the link. */
inline announce(s, more, word) {
  d_step { WRITES(s); old = count[s]; count[s] = count[s] + more }
  if
  :: old != 0
  :: else ->
    hint[s] = word;
    do
    :: seen = first;
      d_step { WRITES(s); next_of[s] = seen }
      if
      :: d_step { first == seen -> assert(!in_queue[s]); first = s; in_queue[s] = true }; break
      :: else
      fi
    od
  fi
}

inline set_bit(s, b) {
  d_step {
    WRITES(s);
    assert(!bits[s * BLOCKS + b]);
    bits[s * BLOCKS + b] = true;
#ifndef BIT_FIRST
    writers[s]--
#endif
  }
}

inline free_block(s, b) {
#ifdef BIT_FIRST
  set_bit(s, b);
  announce(s, 1, WORD_OF(b) + 1);
  atomic { WRITES(s); writers[s]-- }
#else
  announce(s, 1, WORD_OF(b) + 1);
  set_bit(s, b)
#endif
}

/* Each freeing thread has blocks of both slabs. */
proctype freer(byte who) {
  byte old, seen;
  if
  :: who == 0 -> free_block(0, 0); free_block(1, 1); free_block(0, 2)
  :: who == 1 -> free_block(1, 0); free_block(0, 1)
  fi;
  done++
}

/* The words of a slab from one on, up to `to`, until as many bits were found as are expected. */
inline take_words(s, from, to, expected) {
  found = 0;
  w = from;
  do
  :: w < to && found < expected ->
    d_step { /* the exchange of one word */
      b = w * 2;
      do
      :: b < BLOCKS && b < w * 2 + 2 ->
        if
        :: bits[s * BLOCKS + b] ->
          bits[s * BLOCKS + b] = false;
          found_times[s * BLOCKS + b]++;
          assert(found_times[s * BLOCKS + b] == 1);
          found++
        :: else
        fi;
        b++
      :: else -> break
      od
    };
    w++
  :: else -> break
  od
}

inline drain() {
  d_step {
    over = (done == FREERS);
    link = first;
    first = NONE;
    s = link;
    do
    :: s != NONE -> in_queue[s] = false; s = next_of[s]
    :: else -> break
    od
  };
  do
  :: link == NONE -> break
  :: else ->
    s = link;
#ifndef NEXT_LATE
    link = next_of[s];
#endif
    word = hint[s];
    d_step { taken = count[s]; count[s] = 0 };
#ifdef NEXT_LATE
    link = next_of[s];
#endif
    from = 0; to = 2;
    if
    :: taken == 1 && balance[s] == 0 && word != 0 -> from = word - 1; to = word
    :: else
    fi;
    expected = balance[s] + taken;
    take_words(s, from, to, expected);
    missing = expected - found;
    /* Nobody frees any more: what was announced is there, if not where the hint says. It can say wrong where the
     * bit that it tells of was taken for another one before; the next look finds all. */
    assert(!over || missing <= 0 || (to - from == 1 && word != 0));
#ifdef NO_BALANCE
    balance[s] = 0;
#else
    balance[s] = (missing < 0 -> missing : 0);
#endif
#ifndef NO_ANNOUNCE
    if
    :: missing > 0 -> announce(s, missing, 0)
    :: else
    fi;
#endif
    used[s] = used[s] - found;
    release(s)
  od
}

/* Empty, and nothing of it is announced. */
#ifdef RELEASE_EARLY
#define MAY_GO(s) (used[s] == 0 && !released[s])
#else
#define MAY_GO(s) (used[s] == 0 && !released[s] && count[s] == 0)
#endif

inline release(s) {
  if
  :: MAY_GO(s) -> d_step { assert(writers[s] == 0 && !in_queue[s]); released[s] = true }
  :: else
  fi
}

proctype holder() {
  byte link, s, word, taken, from, to, w, b, old, seen, found;
  bool over;
  short expected, missing;
  do
  :: first != NONE -> drain()
  :: done == FREERS && first == NONE -> break
  od;
  /* A trim looks again at what was empty but announced. */
  s = 0;
  do
  :: s < SLABS -> release(s); s++
  :: else -> break
  od;
  atomic {
    s = 0;
    do
    :: s < SLABS -> assert(released[s] && count[s] == 0 && balance[s] == 0); s++
    :: else -> break
    od;
    b = 0;
    do
    :: b < SLABS * BLOCKS -> assert(found_times[b] == 1 && !bits[b]); b++
    :: else -> break
    od
  }
}

init {
  atomic {
    used[0] = 3; writers[0] = 3;
    used[1] = 2; writers[1] = 2;
    found_times[5] = 1; /* there is no such block */
    run holder();
    run freer(0);
    run freer(1)
  }
}
