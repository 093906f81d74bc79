/* Purgers against the holder of a heap (src/heap/purge.cpp, slab.cpp, superslab.h): a slab's claim, and the pins of
 * its superslab.
 *
 * One superslab with one slab of two pages, a block in each; one holder, who refills from the slab, frees into the
 * bitmap without a claim and releases the superslab when it is empty, and two purgers.
 *
 * Holds: no page goes back in which a block lives, and none of a released superslab; two never work on the slab at
 * once; a page counts as present where a block lives in it; each page that is given back is counted once.
 *
 * Broken on purpose, each must be found:
 *   REFILL_UNCLAIMED  the holder takes blocks without the claim
 *   PURGE_UNCLAIMED   purgers go on where somebody else has it
 *   RELEASE_PINNED    the holder does not look for pins
 *   PRESENT_LATE      a purger writes what is present after it let go of the claim
 */
#define PAGES 2

bool lock;               /* Heap::roster_lock */
bool linked = true, claim, released;
byte pins;
bool free_bit[PAGES] = true;
bool present[PAGES];
bool lives[PAGES];       /* the truth, for the assertions, as are the next two */
bool resident[PAGES];
byte inside;             /* who works on the slab with the claim */
byte given_back[PAGES], faulted[PAGES];

#define TAKE_LOCK atomic { !lock -> lock = true }
#define LEAVE_LOCK lock = false

inline touch(p) {
  d_step {
    assert(!released && !lives[p]);
    if
    :: !resident[p] -> resident[p] = true
    :: else
    fi;
    lives[p] = true
  }
}

/* A free block becomes live: the slab is made current, carved, and retired. */
inline refill() {
#ifdef REFILL_UNCLAIMED
  got = true;
#else
  d_step { got = !claim; claim = true };
#endif
  if
  :: got ->
    p = 0;
    do
    :: p < PAGES && !free_bit[p] -> p++
    :: else -> break
    od;
    if
    :: p < PAGES ->
      if
      :: !present[p] -> d_step { present[p] = true; faulted[p]++ }
      :: else
      fi;
      free_bit[p] = false;
      touch(p)
    :: else
    fi;
#ifndef REFILL_UNCLAIMED
    claim = false
#endif
  :: else
  fi
}

inline free_one(p) {
  if
  :: lives[p] -> lives[p] = false; free_bit[p] = true /* after that the holder writes nothing there */
  :: else
  fi
}

inline release_if_empty() {
  if
  :: free_bit[0] && free_bit[1] ->
    TAKE_LOCK;
    if
#ifdef RELEASE_PINNED
    :: true ->
#else
    :: pins == 0 ->
#endif
      d_step { linked = false; released = true; assert(inside == 0) };
    :: else
    fi;
    LEAVE_LOCK
  :: else
  fi
}

proctype holder() {
  byte p, rounds;
  bool got;
  do
  :: rounds < 4 && !released ->
    rounds++;
    if
    :: true -> refill()
    :: true -> free_one(0)
    :: true -> free_one(1)
    :: true -> release_if_empty()
    fi
  :: else -> break
  od
}

proctype purger() {
  byte p;
  bool got, dead[PAGES], was[PAGES];
  TAKE_LOCK;
  if
  :: linked -> pins++; LEAVE_LOCK
  :: else -> LEAVE_LOCK; goto over
  fi;
#ifdef PURGE_UNCLAIMED
  got = true;
#else
  d_step { assert(!released); got = !claim; claim = true };
#endif
  if
  :: got ->
    d_step { assert(!released && inside == 0); inside++ };
    p = 0;
    do
    :: p < PAGES -> was[p] = present[p]; dead[p] = free_bit[p]; p++
    :: else -> break
    od;
    p = 0;
    do
    :: p < PAGES ->
      if
      :: dead[p] && was[p] ->
        d_step { assert(!released && !lives[p] && resident[p]); resident[p] = false; given_back[p]++ };
        was[p] = false
      :: !was[p] -> /* a run goes on over absent pages */
        assert(!released && !lives[p] && !resident[p])
      :: else
      fi;
      p++
    :: else -> break
    od;
#ifdef PRESENT_LATE
    inside--;
    claim = false;
#endif
    p = 0;
    do
    :: p < PAGES -> d_step { assert(!released); present[p] = was[p]; assert(!lives[p] || present[p]) }; p++
    :: else -> break
    od;
#ifndef PRESENT_LATE
    inside--;
#ifndef PURGE_UNCLAIMED
    claim = false
#endif
#endif
  :: else
  fi;
  TAKE_LOCK;
  d_step { assert(!released); pins-- };
  LEAVE_LOCK;
over:
  skip
}

/* At rest what is counted is what is. */
proctype judge() {
  byte p;
  atomic {
    (_nr_pr == 2) ->
    if
    :: !released ->
      do
      :: p < PAGES ->
        assert(present[p] == resident[p] && faulted[p] == given_back[p] + present[p] && lives[p] == !free_bit[p]);
        p++
      :: else -> break
      od
    :: else
    fi
  }
}

init {
  atomic {
    run judge();
    run holder();
    run purger();
    run purger()
  }
}
