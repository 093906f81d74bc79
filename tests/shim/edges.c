/* What a malloc must withstand in whole programs, a case a run: edges CASE. Exit status 0 where it did. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPECT(condition)                                                            \
  do {                                                                               \
    if (!(condition)) {                                                              \
      fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
      _exit(1);                                                                      \
    }                                                                                \
  } while (0)

/* Not to be seen through by the compiler. */
static void *volatile sink;
static volatile size_t huge = SIZE_MAX;
static void *keep(void *p) { return sink = p; }

static void *early;
__attribute__((constructor(101))) static void before_all(void) { early = malloc(1000); }
__attribute__((destructor(101))) static void after_all(void) {
  free(early);
  for (int i = 0; i < 1000; ++i) free(keep(malloc(i)));
}

static int is_filled(const unsigned char *p, size_t size, int with) {
  for (size_t i = 0; i < size; ++i)
    if (p[i] != with) return 0;
  return 1;
}

static void family(void) {
  for (size_t size = 0; size < 3000000; size = size * 5 / 4 + 1) {
    unsigned char *p = malloc(size);
    EXPECT(p != NULL && (uintptr_t)p % 16 == 0 && malloc_usable_size(p) >= size);
    memset(p, 0xaa, malloc_usable_size(p));
    free(p);
    p = calloc(1, size);
    EXPECT(p != NULL && is_filled(p, size, 0));
    memset(p, 0x55, size);
    p = realloc(p, size * 2 + 1);
    EXPECT(p != NULL && is_filled(p, size, 0x55));
    p = realloc(p, size / 2 + 1);
    EXPECT(p != NULL && is_filled(p, size / 2, 0x55));
    free(p);
  }
  void *a = malloc(0), *b = malloc(0);
  EXPECT(a != NULL && b != NULL && a != b);
  EXPECT(realloc(a, 0) == NULL);
  free(b);
  free(NULL);
  EXPECT(malloc_usable_size(NULL) == 0);
  char *text = strdup("text"), *line = NULL;
  EXPECT(asprintf(&line, "%s %d", text, 1) == 6 && strcmp(line, "text 1") == 0);
  free(text);
  free(line);
}

static void failures(void) {
  errno = 0;
  EXPECT(malloc(huge) == NULL && errno == ENOMEM);
  errno = 0;
  EXPECT(malloc((size_t)PTRDIFF_MAX + huge % 2) == NULL && errno == ENOMEM);
  errno = 0;
  EXPECT(calloc(huge / 2, 3) == NULL && errno == ENOMEM);
  void *p = malloc(10);
  errno = 0;
  EXPECT(realloc(p, huge) == NULL && errno == ENOMEM);
  EXPECT(reallocarray(p, huge / 2, 3) == NULL);
  void *untouched = p;
  EXPECT(posix_memalign(&untouched, 3, 10) == EINVAL && untouched == p);
  EXPECT(posix_memalign(&untouched, 4, 10) == EINVAL && untouched == p);
  errno = 0;
  EXPECT(posix_memalign(&untouched, 64, huge) == ENOMEM && untouched == p && errno == 0);
  EXPECT(keep(aligned_alloc(24, 48)) == NULL && errno == EINVAL);
  errno = 0;
  EXPECT(keep(memalign(huge, 1)) == NULL && errno == EINVAL);
  errno = 0;
  EXPECT(keep(memalign((size_t)4 << 20, huge - 100)) == NULL && errno == ENOMEM);
  errno = 0;
  EXPECT(keep(pvalloc(huge - 100)) == NULL && errno == ENOMEM);
  errno = 77;
  free(p);
  free(keep(malloc(5000000)));
  EXPECT(errno == 77);
}

static void alignments(void) {
  const size_t sizes[] = {1, 100, 5000, 100000, 1000000, 5000000};
  for (size_t alignment = sizeof(void *); alignment <= (size_t)64 << 20; alignment *= 2) {
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; ++i) {
      unsigned char *p = NULL;
      EXPECT(posix_memalign((void **)&p, alignment, sizes[i]) == 0);
      EXPECT((uintptr_t)p % alignment == 0 && malloc_usable_size(p) >= sizes[i]);
      memset(p, 7, sizes[i]);
      p = realloc(p, sizes[i] * 2);
      EXPECT(is_filled(p, sizes[i], 7));
      free(p);
      EXPECT((uintptr_t)(p = memalign(alignment, sizes[i])) % alignment == 0);
      memset(p, 7, sizes[i]);
      p = realloc(p, 50); /* also of a block that is outside all heaps */
      EXPECT(is_filled(p, sizes[i] < 50 ? sizes[i] : 50, 7));
      free(p);
    }
  }
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  void *p = valloc(10), *q = pvalloc(10);
  EXPECT((uintptr_t)p % page == 0 && (uintptr_t)q % page == 0 && malloc_usable_size(q) >= page);
  free(p);
  free(q);
  p = memalign(48, 10); /* no power of two: 64 */
  EXPECT(p != NULL && (uintptr_t)p % 64 == 0);
  free(p);
}

/* Pointers that the allocator has never handed out: left alone, and what they point to is not even read. */
static void foreign(void) {
  static char data[64];
  char stack[64];
  char *wall = mmap(NULL, 1 << 16, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(wall != MAP_FAILED);
  void *pointers[] = {data, stack, data + 16, wall, wall + 4096, (void *)16, (void *)(UINTPTR_MAX - 15)};
  for (unsigned i = 0; i < sizeof pointers / sizeof *pointers; ++i) {
    void *p = keep(pointers[i]);
    EXPECT(malloc_usable_size(p) == 0);
    EXPECT(realloc(p, 100) == NULL);
    free(p);
  }
}

/* A library of another namespace has another libc, and that one its own malloc. */
static void namespaces(void) {
  void *other = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW);
  EXPECT(other != NULL);
  char *(*theirs)(const char *) = (char *(*)(const char *))dlsym(other, "strdup");
  void (*their_free)(void *) = (void (*)(void *))dlsym(other, "free");
  for (int i = 0; i < 100; ++i) {
    char *p = theirs("theirs"), *q = strdup("ours");
    EXPECT(strcmp(p, "theirs") == 0);
    free(i % 2 ? q : p);
    if (i % 2)
      their_free(p);
    else
      free(q);
  }
}

static void *churn(void *stop) {
  void *blocks[256] = {0};
  for (unsigned i = 1; !*(volatile int *)stop; i = i * 1103515245 + 12345) {
    void **at = &blocks[i / 7 % 256];
    free(*at);
    *at = malloc(i % 97 == 0 ? i % 2000000 : i % 3000);
    if (*at != NULL) memset(*at, 1, 1);
  }
  for (int i = 0; i < 256; ++i) free(blocks[i]);
  return NULL;
}

enum { kThreads = 4 };
static volatile int stop;
static pthread_t threads[kThreads];
static void start(void *(*run)(void *)) {
  for (int i = 0; i < kThreads; ++i) EXPECT(pthread_create(&threads[i], NULL, run, (void *)&stop) == 0);
}
static void finish(void) {
  stop = 1;
  for (int i = 0; i < kThreads; ++i) pthread_join(threads[i], NULL);
}

static int ended_well(pid_t child) {
  int status = -1;
  return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static void forks(void) {
  start(churn);
  for (int i = 0; i < 40; ++i) {
    pid_t child = fork();
    if (child == 0) {
      for (int j = 0; j < 2000; ++j) free(keep(malloc((size_t)j * 13 % 60000)));
      stop = 0;
      pthread_t thread;
      if (i % 4 == 0) {
        int stopped = 1;
        pthread_create(&thread, NULL, churn, &stopped);
        pthread_join(thread, NULL);
        exit(0);
      }
      _exit(0);
    }
    EXPECT(ended_well(child));
  }
  finish();
}

extern char **environ;
static void spawns(void) {
  start(churn);
  for (int i = 0; i < 20; ++i) {
    pid_t child;
    char *words[] = {"true", NULL};
    EXPECT(posix_spawnp(&child, "true", NULL, NULL, words, environ) == 0 && ended_well(child));
    child = vfork();
    if (child == 0) {
      execlp("true", "true", (char *)NULL);
      _exit(1);
    }
    EXPECT(ended_well(child));
  }
  finish();
}

static void *in_thread(void *unused) {
  (void)unused;
  void *other = dlopen("libutil.so.1", RTLD_NOW);
  for (int i = 0; i < 100; ++i) {
    void *library = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
    EXPECT(library != NULL);
    free(keep(malloc(300)));
    dlclose(library);
    dlerror();
    dlopen("no-such-library.so", RTLD_NOW);
  }
  if (other != NULL) dlclose(other);
  return NULL;
}
static void dlopens(void) {
  start(in_thread);
  finish();
}

/* Destructors of a thread's variables, which come in no particular order and again where they set them anew. */
static pthread_key_t first_key, last_key;
static void at_end(void *value) {
  size_t rounds = *(size_t *)value;
  free(value);
  for (int i = 0; i < 100; ++i) free(keep(malloc((size_t)i * 50)));
  if (rounds == 0) return;
  size_t *next = malloc(sizeof *next);
  *next = rounds - 1;
  pthread_setspecific(rounds % 2 ? first_key : last_key, next);
}
static void *left_block;
static void *short_lived(void *unused) {
  (void)unused;
  size_t *value = malloc(sizeof *value);
  *value = 6; /* more rounds than there are */
  pthread_setspecific(first_key, value);
  value = malloc(sizeof *value);
  *value = 3;
  pthread_setspecific(last_key, value);
  free(left_block);
  left_block = malloc(1000);
  memset(left_block, 5, 1000);
  return NULL;
}
static void thread_ends(void) {
  pthread_key_create(&first_key, at_end);
  for (int i = 0; i < 40; ++i) keep(malloc(10)); /* the heap, and its own key, come between */
  pthread_key_create(&last_key, at_end);
  for (int i = 0; i < 200; ++i) {
    pthread_t thread;
    EXPECT(pthread_create(&thread, NULL, short_lived, NULL) == 0);
    pthread_join(thread, NULL);
    EXPECT(is_filled(left_block, 1000, 5));
  }
  free(left_block);
}

static void *for_ever(void *stop) { return churn(stop); }
static void late(void) {
  for (int i = 0; i < 1000; ++i) free(keep(malloc((size_t)i)));
}
/* The process ends while its threads go on. */
static void ends(void) {
  atexit(late);
  start(for_ever);
  usleep(20000);
  exit(0);
}

static void limits(void) {
  struct rlimit limit = {(rlim_t)400 << 20, (rlim_t)400 << 20};
  EXPECT(setrlimit(RLIMIT_AS, &limit) == 0);
  static void *blocks[100000];
  const size_t sizes[] = {100000, 3000000, 10000};
  for (int round = 0; round < 6; ++round) {
    int n = 0;
    errno = 0;
    while (n < 100000 && (blocks[n] = malloc(sizes[round % 3])) != NULL) ++n;
    EXPECT(errno == ENOMEM && n > 20);
    while (n > 0) free(blocks[--n]);
    EXPECT((sink = malloc(1000)) != NULL);
    free(sink);
  }
}

/* Mappings of their own, each. */
static void far_blocks(void) {
  enum { kBlocks = 2000, kAlignment = 2 << 20 };
  static char *blocks[kBlocks];
  for (int i = 0; i < kBlocks; ++i) {
    blocks[i] = memalign(kAlignment, 100);
    EXPECT(blocks[i] != NULL && (uintptr_t)blocks[i] % kAlignment == 0);
    blocks[i][0] = 1;
  }
  for (int i = 0; i < kBlocks; i += 2)
    EXPECT((blocks[i] = realloc(blocks[i], 200)) != NULL && blocks[i][0] == 1);
  for (int i = 0; i < kBlocks; ++i) free(blocks[i]);
}

/* What is free goes back where a far alignment needs it. */
static void far_room(void) {
  struct rlimit limit = {(rlim_t)400 << 20, (rlim_t)400 << 20};
  EXPECT(setrlimit(RLIMIT_AS, &limit) == 0);
  static void *blocks[25000];
  for (int i = 0; i < 25000; ++i) EXPECT((blocks[i] = malloc(10000)) != NULL);
  for (int i = 0; i < 25000; ++i) free(blocks[i]);
  void *p = keep(memalign((size_t)2 << 20, (size_t)200 << 20));
  EXPECT(p != NULL);
  free(p);
  for (int i = 0; i < 100; ++i) { /* and all of it each time */
    EXPECT((p = keep(memalign((size_t)2 << 20, (size_t)20 << 20))) != NULL);
    free(p);
  }
}

/* And where one large block does, new or resized. */
static void room(void) {
  struct rlimit limit = {(rlim_t)400 << 20, (rlim_t)400 << 20};
  EXPECT(setrlimit(RLIMIT_AS, &limit) == 0);
  static void *blocks[25000];
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 25000; ++i) EXPECT((blocks[i] = malloc(10000)) != NULL);
    void *p = round == 0 ? NULL : malloc(1000);
    for (int i = 0; i < 25000; ++i) free(blocks[i]);
    EXPECT((p = keep(realloc(p, (size_t)310 << 20))) != NULL);
    free(p);
  }
}

/* Whatever was allocated and freed, the process has the threads that it started. */
static void one_thread(void) {
  static void *blocks[20000];
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 20000; ++i) blocks[i] = malloc(4000);
    for (int i = 0; i < 20000; ++i) free(blocks[i]);
  }
  malloc_trim(0);
  int tasks = 0;
  DIR *folder = opendir("/proc/self/task");
  EXPECT(folder != NULL);
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) tasks += entry->d_name[0] != '.';
  closedir(folder);
  EXPECT(tasks == 1);
}

static void *allocate_much(void *unused) {
  for (int i = 0; i < 400000; ++i) free(keep(malloc(64)));
  return unused;
}

/* Where its allocations are recorded, the file takes no more in the midst of them; the limit stands for a disk.
 */
static void full_disk(void) {
  const struct rlimit most = {1 << 16, 1 << 16};
  signal(SIGXFSZ, SIG_IGN);
  EXPECT(setrlimit(RLIMIT_FSIZE, &most) == 0);
  alarm(50);
  pthread_t threads[2];
  for (int i = 0; i < 2; ++i) EXPECT(pthread_create(&threads[i], NULL, allocate_much, NULL) == 0);
  for (int i = 0; i < 100; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(10);
      for (int n = 0; n < 10; ++n) free(keep(malloc(50)));
      _exit(0);
    }
    int status = -1;
    EXPECT(waitpid(child, &status, 0) == child && status == 0);
  }
  for (int i = 0; i < 2; ++i) EXPECT(pthread_join(threads[i], NULL) == 0);
}

/* Locked memory cannot go back to the system, which says so. */
static void keeps_errno(void) {
  static void *blocks[40000];
  if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) return; /* may not be allowed */
  for (int i = 0; i < 40000; ++i) blocks[i] = malloc(200);
  errno = 0;
  for (int i = 0; i < 40000; ++i) free(blocks[i]);
  for (int i = 0; i < 10; ++i) free(keep(malloc(30 << 20)));
  EXPECT(errno == 0);
  munlockall();
}

static void information(void) {
  static void *blocks[1000];
  const struct mallinfo2 before = mallinfo2();
  for (int i = 0; i < 1000; ++i) memset(blocks[i] = malloc(10000), 1, 10000);
  const struct mallinfo2 full = mallinfo2();
  EXPECT(full.uordblks - before.uordblks >= 10000000 && full.uordblks - before.uordblks < 14000000);
  EXPECT(full.fordblks < full.uordblks && full.keepcost == full.fordblks && full.arena >= full.uordblks);
  for (int i = 0; i < 1000; i += 2) free(blocks[i]);
  EXPECT(malloc_trim(0) == 1);
  const struct mallinfo2 trimmed = mallinfo2();
  EXPECT(full.uordblks - trimmed.uordblks >= 5000000);
  for (int i = 1; i < 1000; i += 2) free(blocks[i]);
  const struct mallinfo2 old = mallinfo2();
  void *large = malloc(5000000);
  const struct mallinfo2 now = mallinfo2();
  EXPECT(now.hblks == old.hblks + 1 && now.hblkhd - old.hblkhd >= 5000000 && now.arena < old.arena + 1000000);
  const struct mallinfo narrow = mallinfo();
  EXPECT((size_t)narrow.hblks == now.hblks && (size_t)narrow.hblkhd == now.hblkhd);
  EXPECT((size_t)narrow.arena == now.arena && (size_t)narrow.uordblks == now.uordblks);
  EXPECT((size_t)narrow.fordblks == now.fordblks && (size_t)narrow.keepcost == now.keepcost);
  free(large);
  large = malloc((size_t)3 << 30);
  EXPECT(large == NULL || mallinfo().hblkhd == INT_MAX);
  free(large);
  EXPECT(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1 && mallopt(4711, 1) == 0);
  char *text = NULL;
  size_t length = 0;
  FILE *file = open_memstream(&text, &length);
  EXPECT(malloc_info(0, file) == 0 && malloc_info(1, file) == -1);
  fclose(file);
  EXPECT(strncmp(text, "<malloc version=", 16) == 0);
  free(text);
  malloc_stats();
}

/* What one thread has freed, and what it holds, as another one is told. */
static pthread_barrier_t barrier;
static void *holds(void *unused) {
  static void *blocks[1000];
  void *large = malloc(5000000);
  for (int i = 0; i < 1000; ++i) memset(blocks[i] = malloc(10000), 1, 10000);
  for (int i = 0; i < 999; ++i) free(blocks[i]);
  pthread_barrier_wait(&barrier);
  pthread_barrier_wait(&barrier);
  free(large);
  free(blocks[999]);
  return unused;
}
static void of_others(void) {
  void *large = malloc(5000000);
  pthread_t thread;
  pthread_barrier_init(&barrier, NULL, 2);
  EXPECT(pthread_create(&thread, NULL, holds, NULL) == 0);
  pthread_barrier_wait(&barrier);
  const struct mallinfo2 before = mallinfo2();
  EXPECT(before.hblks == 2 && before.hblkhd >= 10000000 && before.fordblks >= 6000000);
  EXPECT(malloc_trim(0) == 1 && mallinfo2().fordblks < 3000000);
  pthread_barrier_wait(&barrier);
  pthread_join(thread, NULL);
  free(large);
}

/* No call is a cancellation point: this one acts only on the last line. */
static volatile int went_on;
static void *cancels_itself(void *unused) {
  pthread_cancel(pthread_self());
  for (size_t i = 0; i < 200000; ++i) free(keep(malloc(i % 3000)));
  went_on = 1;
  pthread_testcancel();
  return unused;
}
static void cancelled(void) {
  alarm(50);
  pthread_t thread;
  void *result = NULL;
  EXPECT(pthread_create(&thread, NULL, cancels_itself, NULL) == 0 && pthread_join(thread, &result) == 0);
  EXPECT(result == PTHREAD_CANCELED && went_on);
  free(keep(malloc(100)));
}

static const struct {
  const char *name;
  void (*run)(void);
} cases[] = {{"family", family},       {"failures", failures},       {"alignments", alignments},
             {"foreign", foreign},     {"namespaces", namespaces},   {"forks", forks},
             {"spawns", spawns},       {"dlopens", dlopens},         {"thread_ends", thread_ends},
             {"ends", ends},           {"limits", limits},           {"far_blocks", far_blocks},
             {"far_room", far_room},   {"one_thread", one_thread},   {"information", information},
             {"full_disk", full_disk}, {"keeps_errno", keeps_errno}, {"cancelled", cancelled},
             {"room", room},           {"of_others", of_others}};

int main(int count, char **words) {
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; ++i) {
    if (count < 2) puts(cases[i].name);
    if (count > 1 && strcmp(words[1], cases[i].name) == 0) return cases[i].run(), 0;
  }
  return count < 2 ? 0 : 2;
}
