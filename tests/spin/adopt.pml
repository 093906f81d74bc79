/* Thread heaps (src/api/thread_heap.cpp): a thread that ends leaves its heap behind, also where nothing of it lives,
 * or trims it where too much is left; a later thread takes it up. Others free its blocks by the remote queue
 * meanwhile, and whoever needs memory trims heaps that were left and have such frees: one in which nothing lives
 * then ends.
 *
 * One heap of two blocks, made by the first thread; two threads that free a block each, a thread that begins later
 * and takes up a heap that was left, or goes without, and two that trim.
 *
 * Holds: the heap has one holder at most; it is ended once, and not while it is in the list, somebody writes to it
 * or a block of it lives; in the end it is ended, or left behind with what is still in its queue.
 *
 * Broken on purpose, each must be found:
 *   ADOPT_UNLOCKED  the list of heaps left behind is read outside of its lock
 *   TRIM_LISTED     a heap is trimmed where it is in the list
 *   END_MARKED      a block counts as free once its bit is set
 *   LEAVE_EARLY     the heap is left behind first, and drained then
 */
#define BLOCKS 2

bool lock;                  /* g_abandoned_lock */
bool left_behind;           /* the list: the one heap is in it, or not */
bool ended;
bool announced;             /* the word of the slab's link */
bool queued;                /* the link is in the queue */
byte bits;                  /* that word of the remote bitmap */
byte used = BLOCKS;
byte holders;               /* for the assertions alone */

#define TAKE_LOCK atomic { !lock -> lock = true }
#define LEAVE_LOCK lock = false
#define WRITES assert(!ended)

/* As in remote.pml, in short: one slab, and one word. */
proctype freer(byte b) {
  byte before;
  d_step { WRITES; before = bits; assert(!(before & (1 << b))); bits = before | (1 << b) };
  if
  :: before == 0 ->
    d_step { WRITES; assert(!announced); announced = true };
    d_step { WRITES; assert(!queued); queued = true }
  :: else
  fi
}

inline drain() {
  WRITES;
  if
  :: d_step { queued -> queued = false };
    d_step { WRITES; assert(announced); announced = false };
    d_step { used = used - (bits + 1) / 2; bits = 0 } /* 0, 1, 1 and 2 of them */
  :: else
  fi
}

inline leave_behind() {
  d_step { WRITES; holders-- };
  TAKE_LOCK;
  d_step { assert(!left_behind && !ended); left_behind = true };
  LEAVE_LOCK
}

#ifdef END_MARKED
#define NOTHING_LIVES (used - (bits + 1) / 2 == 0)
#else
#define NOTHING_LIVES (used == 0)
#endif

inline trim_left() {
  drain();
  if
  :: NOTHING_LIVES -> d_step { assert(!ended && !left_behind && !queued); ended = true; holders-- }
  :: else -> leave_behind()
  fi
}

/* Much may be left free in the heap, or not. */
inline abandon() {
#ifdef LEAVE_EARLY
  leave_behind();
  drain()
#else
  drain();
  if
  :: true -> leave_behind()
  :: true -> trim_left()
  fi
#endif
}

proctype first_thread() {
  d_step { holders++; assert(holders == 1) };
  abandon()
}

proctype later_thread() {
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
  drain();
  abandon();
over:
  skip
}

proctype trimmer() {
  TAKE_LOCK;
  if
  :: left_behind && queued ->
#ifndef TRIM_LISTED
    left_behind = false;
#endif
    LEAVE_LOCK
  :: else -> LEAVE_LOCK; goto over
  fi;
  d_step { WRITES; holders++; assert(holders == 1) };
  trim_left();
over:
  skip
}

/* Nothing is lost: whoever comes next finds what is in the queue. */
proctype judge() {
  atomic {
    (_nr_pr == 2) ->
    assert(holders == 0);
    assert(ended != left_behind);
    assert(!ended || used == 0);
    assert(ended || used == 0 || queued);
    assert(queued == announced && queued == (bits != 0))
  }
}

init {
  atomic {
    run judge();
    run first_thread();
    run freer(0);
    run freer(1);
    run later_thread();
    run trimmer();
    run trimmer()
  }
}
