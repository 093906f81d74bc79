/* Remote frees (src/heap/remote.h): threads free blocks of slabs that they do not hold, the holder drains.
 *
 * One superslab with two slabs, of three blocks and of two, the first two of each in one word of the remote bitmap;
 * and a large block. Two threads free all of them; the holder drains, and releases the superslab when all of it is
 * free, by itself or in a trim. The large block goes back to the system, or is kept and given out once more. One
 * block is freed twice, by its holder after another thread's free is over. A mid superslab is one slab here. One
 * step is one atomic operation there, in one order for all: what weaker orders may do is not modelled.
 *
 * Holds: each block is found once and none is lost; a link is in the queue once; a superslab is not released while
 * a link of it is in the queue or a freeing thread still reads or writes in it; bits that are announced are there; at
 * the end nothing is announced, and all is released.
 *
 * Broken on purpose, each must be found:
 *   ANNOUNCE_FIRST   a word is announced before its bit is set
 *   ANNOUNCE_EACH    each bit announces its word, not only the first one
 *   PUBLISH_EACH     each announcement publishes the link, not only the first one
 *   BITS_BEFORE      the drain takes the bits first, and the announcements then
 *   ALL_WORDS        the drain takes bits of words that are not announced, too
 *   NEXT_LATE        the drain reads the next link after it took the announcements
 *   RELEASE_UNASKED  a superslab goes whose links are not looked at
 *   KEPT_MARKED      a kept large block is given out as it was left
 */
#define NONE 255
#define LARGE 2           /* links 0 and 1 are the slabs' */
#define LINKS 3
#define WORDS 2           /* of a slab */
#define HOME(link) (link / 2)
#define AT(slab, word) (slab * WORDS + word)

byte first = NONE;        /* the queue */
byte next_of[LINKS];
byte words[LINKS];        /* the announced ones */
byte bits[4];             /* the remote bitmap, two bits a word */
byte free[4];             /* the free bitmap */
byte used[2];             /* blocks of a slab */
bool released[2];         /* the superslab; the large block's mapping */
bool handed;              /* the large block was kept, and is live again */
bool twice;               /* the block that is freed twice was so by the other thread */
byte done;
bool in_queue[LINKS];     /* for the assertions alone, as are the next two */
byte found[4];
byte large_frees;

#define TOUCHES(link) assert(!released[HOME(link)])

inline push_link(l) {
  seen = first;
  do
  :: d_step { TOUCHES(l); assert(!in_queue[l]); next_of[l] = seen };
    if
    :: d_step { first == seen -> assert(!in_queue[l]); first = l; in_queue[l] = true }; break
    :: d_step { first != seen -> seen = first }
    fi
  od
}

inline announce(l, word) {
  d_step {
    TOUCHES(l);
    before = words[l];
    assert(l == LARGE || !(words[l] & (1 << word))); /* so that it may be added */
    words[l] = words[l] | (1 << word);
#ifndef ANNOUNCE_FIRST
    assert(l == LARGE || bits[AT(l, word)] != 0)
#endif
  };
  if
#ifdef PUBLISH_EACH
  :: true -> push_link(l)
#else
  :: before == 0 -> push_link(l)
  :: else
#endif
  fi
}

inline set_bit(s, b) {
  d_step {
    TOUCHES(s);
    before = bits[AT(s, b / 2)];
    assert(!(before & (1 << b % 2)));
    bits[AT(s, b / 2)] = before | (1 << b % 2)
  }
}

inline free_tiny(s, b) {
#ifdef ANNOUNCE_FIRST
  announce(s, b / 2);
  set_bit(s, b)
#else
  set_bit(s, b);
  if
#ifdef ANNOUNCE_EACH
  :: true -> announce(s, b / 2)
#else
  :: before == 0 -> announce(s, b / 2)
  :: else
#endif
  fi
#endif
}

inline free_large() {
  d_step { TOUCHES(LARGE); before = words[LARGE]; words[LARGE] = 1; large_frees++ };
  assert(before == 0); /* it is not free to whoever frees it */
  push_link(LARGE)
}

proctype freer(byte who) {
  byte before, seen;
  if
  :: who == 0 -> free_tiny(0, 0); free_tiny(1, 0); free_tiny(0, 2)
  :: who == 1 ->
    free_large();
    free_tiny(1, 1);
    twice = true;
    free_tiny(0, 1);
    if
    :: handed -> free_large()
    :: released[1]
    fi
  fi;
  done++
}

/* The bits of one word, which are moved to the free bitmap; counted are those that were not there. */
inline take_word(s, word) {
  d_step {
    assert(!released[0]);
    freed = bits[AT(s, word)];
    bits[AT(s, word)] = 0;
    assert(!(found[AT(s, word)] & freed));
    found[AT(s, word)] = found[AT(s, word)] | freed;
    freed = freed & (3 - free[AT(s, word)]);
    free[AT(s, word)] = free[AT(s, word)] | freed;
    count = count + (freed + 1) / 2; /* of 0, 1, 2 and 3: 0, 1, 1 and 2 */
    freed = 0
  }
}

/* All of its slabs are free, and nothing in them is announced, which is looked at one by one. */
inline release_superslab() {
  if
  :: !released[0] && used[0] == 0 && used[1] == 0 ->
#ifndef RELEASE_UNASKED
    if
    :: words[0] == 0 ->
      if
      :: words[1] == 0 ->
#endif
        d_step { assert(!in_queue[0] && !in_queue[1]); released[0] = true }
#ifndef RELEASE_UNASKED
      :: else
      fi
    :: else
    fi
#endif
  :: else
  fi
}

inline drain_tiny() {
  count = 0;
#ifdef BITS_BEFORE
  announced = words[l];
#else
  d_step { announced = words[l]; words[l] = 0 };
#endif
#ifdef ALL_WORDS
  announced = 3;
#endif
#ifdef NEXT_LATE
  link = next_of[l];
#endif
  if
  :: announced & 1 -> take_word(l, 0)
  :: else
  fi;
  if
  :: announced & 2 -> take_word(l, 1)
  :: else
  fi;
#ifdef BITS_BEFORE
  words[l] = 0;
#endif
  if
  :: count != 0 -> used[l] = used[l] - count; release_superslab()
  :: else
  fi
}

/* A freed block stays marked while it is kept. */
inline drain_large() {
  d_step { assert(!released[1] && words[LARGE] == 1 && large_frees > 0); large_frees-- };
  if
  :: released[1] = true
  :: !handed ->
#ifndef KEPT_MARKED
    words[LARGE] = 0;
#endif
    handed = true
  fi
}

inline drain() {
  d_step {
    link = first;
    first = NONE;
    l = link;
    do
    :: l != NONE -> in_queue[l] = false; l = next_of[l]
    :: else -> break
    od
  };
  do
  :: link == NONE -> break
  :: else ->
    l = link;
    TOUCHES(l);
#ifdef NEXT_LATE
    if
    :: l == LARGE -> link = next_of[l]
    :: else
    fi;
#else
    link = next_of[l];
#endif
    if
    :: l == LARGE -> drain_large()
    :: else -> drain_tiny()
    fi
  od
}

proctype holder() {
  byte link, l, announced, freed, count;
  do
  :: first != NONE -> drain()
  :: twice && !released[0] && !(free[AT(1, 0)] & 2) -> /* its second free, by the holder */
    free[AT(1, 0)] = free[AT(1, 0)] | 2;
    used[1]--;
    release_superslab()
  :: !released[0] && used[0] == 0 && used[1] == 0 && words[0] == 0 && words[1] == 0 -> release_superslab() /* a trim */
  :: done == 2 && first == NONE -> break
  od;
  release_superslab();
  d_step {
    assert(released[0] && released[1] && large_frees == 0);
    assert(words[0] == 0 && words[1] == 0 && !bits[0] && !bits[1] && !bits[2]);
    assert(found[0] == 3 && found[1] == 1 && found[2] == 3)
  }
}

init {
  atomic {
    used[0] = 3; used[1] = 2;
    run holder();
    run freer(0);
    run freer(1)
  }
}
