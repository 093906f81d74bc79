/* Loads libace.so in ways that hosts do, and uses it from threads meanwhile:
 *
 *   loading copies A B          two copies of the library in one process, each with its own heaps
 *   loading close A             it is closed while threads are at work with it
 *   loading after A LIBRARY...  loaded after libraries that take much thread-local storage; those that the
 * system refuses are counted
 *
 * The last line says "ok". */
#define _GNU_SOURCE
#include <ace/ace.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 4

struct ace {
  void *library;
  void *(*alloc)(size_t);
  void (*free)(void *);
  ace_heap *(*heap_create)(const ace_heap_config *);
  void (*heap_destroy)(ace_heap *);
  void *(*heap_alloc)(ace_heap *, size_t);
  void (*set_error_handler)(ace_error_fn, void *);
  ace_heap *(*thread_heap)(void);
  int (*heap_audit)(ace_heap *, char *, size_t);
};

static void fail(const char *what) {
  const char *why = dlerror();
  fprintf(stderr, "%s: %s\n", what, why != NULL ? why : "");
  exit(1);
}

static void *symbol(void *library, const char *name) {
  void *found = dlsym(library, name);
  if (found == NULL) fail(name);
  return found;
}

static struct ace load(const char *path) {
  struct ace ace;
  ace.library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (ace.library == NULL) fail(path);
  *(void **)&ace.alloc = symbol(ace.library, "ace_alloc");
  *(void **)&ace.free = symbol(ace.library, "ace_free");
  *(void **)&ace.heap_create = symbol(ace.library, "ace_heap_create");
  *(void **)&ace.heap_destroy = symbol(ace.library, "ace_heap_destroy");
  *(void **)&ace.heap_alloc = symbol(ace.library, "ace_heap_alloc");
  *(void **)&ace.set_error_handler = symbol(ace.library, "ace_set_error_handler");
  *(void **)&ace.thread_heap = symbol(ace.library, "ace_thread_heap");
  *(void **)&ace.heap_audit = symbol(ace.library, "ace_heap_audit");
  return ace;
}

static struct ace libraries[2];
static int library_count = 1;
static atomic_int ready, go_on, reports;

static void work(int rounds) {
  for (int i = 0; i < rounds; ++i) {
    for (int which = 0; which < library_count; ++which) {
      const struct ace *ace = &libraries[which];
      const size_t size = 16 + (size_t)i * 37 % 20000;
      char *p = ace->alloc(size), *q = ace->alloc(64);
      if (p == NULL || q == NULL) abort();
      memset(p, which + 1, size);
      memset(q, 9, 64);
      ace->free(q);
      if (p[0] != which + 1 || p[size - 1] != which + 1) abort();
      ace->free(p);
    }
  }
}

static void *run(void *unused) {
  work(2000);
  ++ready;
  while (!go_on) usleep(1000);
  work(2000);
  for (int which = 0; which < library_count; ++which) {
    if (libraries[which].heap_audit(libraries[which].thread_heap(), NULL, 0) != 0) abort();
  }
  return unused;
}

static void note(const ace_error *error, void *context) {
  (void)context;
  if (error->code == ACE_ERROR_FOREIGN) ++reports;
}

/* A block of one copy is none of the other's, and a child has both. */
static void confuse(void) {
  for (int which = 0; which < 2; ++which) {
    const struct ace *mine = &libraries[which], *other = &libraries[1 - which];
    mine->set_error_handler(note, NULL);
    char *p = other->alloc(100);
    memset(p, 7, 100);
    const int before = reports;
    mine->free(p);
    if (reports != before + 1 || p[99] != 7) abort();
    other->free(p);
    ace_heap *heap = mine->heap_create(NULL);
    if (mine->heap_alloc(heap, 1 << 20) == NULL) abort();
    mine->heap_destroy(heap);
  }
  const pid_t child = fork();
  if (child == 0) {
    alarm(30);
    work(1000);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) fail("the child");
}

int main(int count, char **words) {
  if (count < 3) return 2;
  const char *way = words[1];
  int refused = 0, loaded = 0;
  if (strcmp(way, "after") == 0) {
    for (int i = 3; i < count; ++i) {
      void *library = dlopen(words[i], RTLD_NOW | RTLD_LOCAL);
      if (library == NULL) {
        ++refused;
        continue;
      }
      ++loaded;
      char *(*touch)(void);
      *(void **)&touch = symbol(library, "touch");
      memset(touch(), 1, 1000);
    }
    printf("%d loaded, %d refused\n", loaded, refused);
  }
  libraries[0] = load(words[2]);
  if (strcmp(way, "copies") == 0) {
    libraries[1] = load(words[3]);
    library_count = 2;
    if (libraries[0].alloc == libraries[1].alloc) fail("the copies are one");
  }
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; ++i) {
    if (pthread_create(&threads[i], NULL, run, NULL) != 0) fail("a thread");
  }
  while (ready != THREADS) usleep(1000);
  if (strcmp(way, "close") == 0 && dlclose(libraries[0].library) != 0) fail("dlclose");
  if (library_count == 2) confuse();
  go_on = 1;
  for (int i = 0; i < THREADS; ++i) pthread_join(threads[i], NULL);
  work(100);
  puts("ok");
  return 0;
}
