/* Thread heaps (src/api/thread_heap.cpp): a thread that ends leaves its heap behind, or ends it where nothing of it
 * lives; a later thread takes it up. Meanwhile others free its blocks by the remote queue.
 *
 * One heap of two blocks, made by the first thread; a thread that frees both remotely, and two threads that begin
 * later, each of which takes up a heap that was left, or goes without.
 *
 * Holds: the heap has one holder at most; it is ended once, and not while somebody writes to it or a block of it
 * lives; each block is taken over once; in the end it is ended, or left behind with what is still announced.
 *
 * Broken on purpose, each must be found:
 *   ADOPT_UNLOCKED  the list of heaps left behind is read outside of its lock
 *   END_ANNOUNCED   a block counts as free once it is announced
 *   LEAVE_EARLY     the heap is left behind first, and looked through then
 */
#define BLOCKS 2

bool lock;                  /* g_abandoned_lock */
bool left_behind;           /* the list: the one heap is on it, or not */
bool ended;
byte count;                 /* of the slab's link */
bool queued;                /* the link is in the queue */
bool bits[BLOCKS];
byte used = BLOCKS;
byte holders;               /* for the assertions alone, as is the next */
byte writers = BLOCKS;      /* frees that are not over */

#define TAKE_LOCK atomic { !lock -> lock = true }
#define LEAVE_LOCK lock = false
#define WRITES assert(!ended)

/* As in remote.pml, in short: one slab, whose link is queued while its count is not 0. */
inline free_remotely(b) {
  d_step { WRITES; old = count; count++ };
  if
  :: old == 0 -> d_step { WRITES; assert(!queued); queued = true }
  :: else
  fi;
  d_step { WRITES; assert(!bits[b]); bits[b] = true; writers-- }
}

inline drain() {
  if
  :: d_step { queued -> queued = false };
    d_step { WRITES; taken = count; count = 0 };
    found = 0;
    b = 0;
    do
    :: b < BLOCKS ->
      d_step {
        if
        :: bits[b] -> bits[b] = false; found++
        :: else
        fi
      };
      b++
    :: else -> break
    od;
#ifdef END_ANNOUNCED
    used = used - taken;
#else
    used = used - found;
#endif
    if /* bits that are not there yet, or that came before their announcement */
    :: found < taken ->
      d_step { old = count; count = count + taken - found };
      if
      :: old == 0 -> d_step { assert(!queued); queued = true }
      :: else
      fi
    :: found > taken -> early = early + found - taken
    :: else
    fi;
    if /* those are announced by now, or will be */
    :: early != 0 && count != 0 -> d_step {
        old = (count < early -> count : early);
        count = count - old;
        early = early - old
      }
    :: else
    fi
  :: else
  fi
}

byte early;

inline leave() {
#ifdef LEAVE_EARLY
  TAKE_LOCK;
  left_behind = true;
  LEAVE_LOCK;
#endif
  drain();
  if
  :: used == 0 -> d_step { assert(!ended && writers == 0); ended = true; holders-- }
  :: else ->
#ifndef LEAVE_EARLY
    holders--;
    TAKE_LOCK;
    d_step { assert(!left_behind); left_behind = true };
    LEAVE_LOCK
#else
    holders--
#endif
  fi
}

proctype first_thread() {
  byte old, taken, found, b;
  d_step { holders++; assert(holders == 1) };
  leave()
}

proctype freer() {
  byte old;
  free_remotely(0);
  free_remotely(1)
}

proctype later_thread() {
  byte old, taken, found, b;
#ifdef ADOPT_UNLOCKED
  if
  :: left_behind -> skip
  :: !left_behind -> goto over
  fi;
  left_behind = false;
#else
  TAKE_LOCK;
  if
  :: left_behind -> left_behind = false; LEAVE_LOCK
  :: else -> LEAVE_LOCK; goto over
  fi;
#endif
  d_step { WRITES; holders++; assert(holders == 1) };
  drain(); /* taken up */
  leave();
over:
  skip
}

/* Nothing is lost: whoever comes next finds what is announced. */
proctype judge() {
  atomic {
    (_nr_pr == 2) ->
    assert(holders == 0);
    assert(ended || left_behind);
    assert(!ended || used == 0);
    assert(ended || used == 0 || queued || count != 0)
  }
}

init {
  atomic {
    run judge();
    run first_thread();
    run freer();
    run later_thread();
    run later_thread()
  }
}
