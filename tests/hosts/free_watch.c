/* A second preloaded library, for tests only: stands before libc's free and realloc and counts the blocks of
 * ACE that arrive there. Such a block is "leaked": it went to an allocator that does not know it. It is not
 * passed on, so that the count reaches the end of the process instead of an abort in libc.
 *
 * At exit one JSON line is appended to the file that FREE_WATCH names. Build: cc -shared -fPIC. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* libc's own; dlsym cannot be asked for them inside free, as it allocates. */
extern void __libc_free(void *p);
extern void *__libc_realloc(void *p, size_t size);

/* Set once the dynamic linker is done; libc is used before that, ACE is not. */
static void *(*owner_of)(const void *p);
static atomic_ulong seen, leaked;

static int is_leaked(const void *p) {
  if (owner_of == NULL || p == NULL) return 0;
  atomic_fetch_add(&seen, 1);
  if (owner_of(p) == NULL) return 0;
  atomic_fetch_add(&leaked, 1);
  return 1;
}

void free(void *p) {
  if (!is_leaked(p)) __libc_free(p);
}

void *realloc(void *p, size_t size) { return is_leaked(p) ? NULL : __libc_realloc(p, size); }

__attribute__((constructor)) static void start(void) {
  *(void **)&owner_of = dlsym(RTLD_DEFAULT, "ace_owner_of");
}

__attribute__((destructor)) static void finish(void) {
  const char *path = getenv("FREE_WATCH");
  int fd = path == NULL ? -1 : open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return;
  dprintf(fd, "{\"pid\":%d,\"knows_ace\":%s,\"seen\":%lu,\"leaked\":%lu}\n", getpid(),
          owner_of != NULL ? "true" : "false", atomic_load(&seen), atomic_load(&leaked));
  close(fd);
}
