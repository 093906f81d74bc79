/* Frees that a thread gathers before it tells of them (src/heap/remote.h, "send"), and the holder's question whether a
 * block with a free one's tag is free (heap/slab_contents.cpp, is_tagged_free).
 *
 * Three blocks of the holder's: P and R in one word of the remote bitmap, Q in another one, at the same bit as P. A
 * thread frees some of them, in any order, and ends; the holder drains, and asks about P again and again.
 *
 * Holds: from the end of its free on P is found free, wherever it is by then; before the beginning it never is; at
 * the end all that was freed has come home.
 *
 * Broken on purpose, each must be found:
 *   CLEAR_FIRST   the batch is emptied before its bits are in the remote bitmap
 *   ASK_BIT_FIRST the holder looks at the remote bitmap before the batch
 *   ASK_ONCE      the batch is read but once, so that its word and its bits may be of two moments
 *   BITS_KEPT     the next word begins with the bits of the last one
 *   NOT_AT_END    a thread ends with its batch unsent
 */
#define P 0
#define Q 1
#define R 2
#define WORD(block) (block == Q)
#define BIT(block) (block == R -> 2 : 1)
#define NONE 2

byte word = NONE, bits;   /* the batch */
byte remote[2];           /* the remote bitmap */
byte home[2];             /* what the holder has taken over */
bool begun[3], over[3];   /* frees */
bool ended;

inline send() {
  if
  :: bits != 0 ->
#ifdef CLEAR_FIRST
    sent = bits;
    bits = 0;
    remote[word] = remote[word] | sent
#else
    d_step { assert(!(remote[word] & bits)); remote[word] = remote[word] | bits };
#ifndef BITS_KEPT
    bits = 0
#endif
#endif
  :: else
  fi
}

inline gather(block) {
  begun[block] = true;
  if
  :: word != WORD(block) -> send(); word = WORD(block)
  :: else
  fi;
  bits = bits | BIT(block);
  over[block] = true
}

proctype other() {
  byte sent;
  do
  :: !begun[P] -> gather(P)
  :: !begun[Q] -> gather(Q)
  :: !begun[R] -> gather(R)
  :: break
  od;
#ifndef NOT_AT_END
  send();
#endif
  ended = true
}

inline drain(w) {
  d_step { assert(!(home[w] & remote[w])); home[w] = home[w] | remote[w]; remote[w] = 0 }
}

inline ask_batch() {
  do
  :: seen = bits;
    at = word;
#ifdef ASK_ONCE
    break
#else
    if
    :: seen == bits -> break
    :: else
    fi
#endif
  od;
  found = found || (at == WORD(P) && (seen & BIT(P)))
}

inline ask() {
  was_over = over[P];
  found = home[WORD(P)] & BIT(P);
#ifdef ASK_BIT_FIRST
  found = found || (remote[WORD(P)] & BIT(P));
  ask_batch();
#else
  ask_batch();
  found = found || (remote[WORD(P)] & BIT(P));
#endif
  assert(found || !was_over);
  assert(begun[P] || !found)
}

proctype holder() {
  byte seen, at;
  bool found, was_over;
  do
  :: !ended -> drain(0)
  :: !ended -> drain(1)
  :: !ended -> ask()
  :: ended -> break
  od;
  drain(0);
  drain(1);
  ask();
  d_step {
    assert(!begun[P] || (home[0] & 1));
    assert(!begun[R] || (home[0] & 2));
    assert(!begun[Q] || (home[1] & 1))
  }
}

init { atomic { run other(); run holder() } }
