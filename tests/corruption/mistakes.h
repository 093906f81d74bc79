/* The list of mistakes (mistakes.c), and what it is written in terms of (corruption.c). */
#ifndef MISTAKES_H
#define MISTAKES_H

#include <ace/ace.h>
#include <stdbool.h>
#include <stddef.h>

struct mistake {
  const char *name, *title;
  /* What ACE must say, a part of its message; "signal": a page that nobody may touch; "": it need not notice.
   */
  const char *hardened, *plain;
  bool in_malloc; /* has a meaning for any malloc */
  void (*make)(void);
};
extern const struct mistake mistakes[]; /* the last has no name */

extern ace_heap *heap;
extern bool is_ace;
void *get(size_t size);
void *get_aligned(size_t alignment, size_t size);
void *get_zeroed(size_t size);
void *resize(void *p, size_t size);
void drop(void *p);
void drop_sized(void *p, size_t size); /* in ACE's heap alone */
size_t usable(void *p);
void drop_elsewhere(void *p); /* by a thread without a heap of its own */
void drop_twice_elsewhere(void *p);
ace_heap *other_heap(void);
void forbid(void *p, size_t size); /* whoever is handed an address of these has been attacked */
void go_on(size_t size);           /* allocates and frees blocks of that size, as any program would */

#endif
