/* A host that keeps databases by SQLite, all of whose memory comes from one ACE heap with two limits.
 *
 *     sqlite_host [limit in MB]
 *
 * Three threads work in databases of their own. Then a database in a file grows to twice the limit, by a
 * connection that writes and one that reads, whose caches may both become large. At six tenths of the limit the
 * host is told, and takes the caches back when the transaction is over: the soft limit. A transaction that
 * wants more than the whole limit gets SQLITE_NOMEM, is rolled back, and the database goes on. The exit status
 * is 0 only where all of this was so.
 *
 *     cc sqlite_host.c $(pkg-config --cflags --libs ace sqlite3) -pthread -o sqlite_host
 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ace/ace.h"

enum { kThreads = 3, kThreadRows = 20000, kRows = 500, kRowBytes = 2000 };

/* Of the whole process: SQLite's allocation functions get no context. */
static ace_heap *heap;
static size_t hard_limit, soft_limit;
static int is_beyond_soft, is_beyond_hard; /* under heap_lock */
static int failures;

/* SQLite allocates in whichever thread calls it, and frees in another what one has allocated. An explicit heap
 * has no lock, but one limit and exact statistics for all of SQLite, so here it is guarded by a mutex. It takes
 * the place of SQLite's own, which only guards what SQLite counts and is off (SQLITE_CONFIG_MEMSTATUS): its
 * static mutexes are not for hosts, who could then neither hint nor set a limit. Where no common limit is
 * needed, ace_alloc and ace_free serve all threads without any lock, from a heap for each thread. */
static pthread_mutex_t heap_lock = PTHREAD_MUTEX_INITIALIZER;
static void lock_heap(void) { pthread_mutex_lock(&heap_lock); }
static void unlock_heap(void) { pthread_mutex_unlock(&heap_lock); }

static void *allocate(int size) {
  lock_heap();
  void *p = ace_heap_alloc(heap, (size_t)size);
  unlock_heap();
  return p;
}

static void *reallocate(void *p, int size) {
  lock_heap();
  void *moved = ace_heap_realloc(heap, p, (size_t)size, 0);
  unlock_heap();
  return moved;
}

static void release(void *p) {
  lock_heap();
  ace_heap_free(heap, p);
  unlock_heap();
}

/* Any thread may ask, without the lock. */
static int size_of(void *p) { return (int)ace_usable_size(p); }
/* A block is at least so large. ACE rounds further up, to its size classes, which SQLite learns by size_of. */
static int round_up(int size) { return (size + 15) & ~15; }
static int begin(void *context) { return context != NULL ? SQLITE_OK : SQLITE_ERROR; }
static void end(void *context) { (void)context; }

/* SQLite waits for the block and cannot be called now: all that the host can do is to let it have the rest, and
 * to remember. */
static int on_limit(ace_heap *full, size_t missing, void *context) {
  (void)missing, (void)context;
  if (is_beyond_soft) {
    is_beyond_hard = 1;
    return 0;
  }
  is_beyond_soft = 1;
  ace_heap_set_limit(full, hard_limit);
  return 1;
}

static ace_stats heap_stats(void) {
  ace_stats stats;
  lock_heap();
  ace_heap_stats(heap, &stats, sizeof stats);
  unlock_heap();
  return stats;
}

/* Between two transactions. Says whether the soft limit had been reached. */
static int relax(sqlite3 *writer, sqlite3 *reader) {
  lock_heap();
  const int was_beyond = is_beyond_soft;
  unlock_heap();
  if (!was_beyond) return 0;
  sqlite3_db_release_memory(writer);
  sqlite3_db_release_memory(reader);
  lock_heap();
  ace_hint(heap, ACE_HINT_PRESSURE, 0);
  ace_heap_set_limit(heap, soft_limit);
  is_beyond_soft = 0;
  unlock_heap();
  return 1;
}

static void check(int holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "not so: %s\n", what);
  ++failures;
}

static int execute(sqlite3 *db, const char *sql) { return sqlite3_exec(db, sql, NULL, NULL, NULL); }

/* The number that a query answers; -1 where it fails. */
static long long ask(sqlite3 *db, const char *sql) {
  sqlite3_stmt *query = NULL;
  long long answer = -1;
  if (sqlite3_prepare_v2(db, sql, -1, &query, NULL) == SQLITE_OK && sqlite3_step(query) == SQLITE_ROW)
    answer = sqlite3_column_int64(query, 0);
  sqlite3_finalize(query);
  return answer;
}

static void *work(void *answer) {
  static const char count_up[] =
      "CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT);"
      "WITH RECURSIVE up(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up WHERE n < 20000)"
      "INSERT INTO t SELECT n, 'row ' || n FROM up;"
      "CREATE INDEX by_text ON t (text);"
      "DELETE FROM t WHERE n % 2 = 0;";
  sqlite3 *db = NULL;
  if (sqlite3_open(":memory:", &db) == SQLITE_OK && execute(db, count_up) == SQLITE_OK)
    *(long long *)answer = ask(db, "SELECT sum(n) FROM t");
  sqlite3_close(db);
  return NULL;
}

static void run_threads(void) {
  pthread_t threads[kThreads];
  long long answers[kThreads] = {0};
  int started = 0;
  while (started < kThreads && pthread_create(&threads[started], NULL, work, &answers[started]) == 0) ++started;
  check(started == kThreads, "the threads start");
  for (int i = 0; i < started; ++i) {
    pthread_join(threads[i], NULL);
    check(answers[i] == (long long)kThreadRows * kThreadRows / 4, "the sum of the odd numbers");
  }
  printf("%d threads: %d rows in each\n", started, kThreadRows);
}

/* `rows` rows in one transaction; what SQLite said of the one that failed, and how many came before it. */
static int insert(sqlite3 *db, int rows, int *inserted) {
  sqlite3_stmt *statement = NULL;
  *inserted = 0;
  int status = execute(db, "BEGIN");
  if (status == SQLITE_OK)
    status = sqlite3_prepare_v2(db, "INSERT INTO t (data) VALUES (randomblob(?))", -1, &statement, NULL);
  while (status == SQLITE_OK && *inserted < rows) {
    sqlite3_bind_int(statement, 1, kRowBytes);
    status = sqlite3_step(statement) == SQLITE_DONE ? SQLITE_OK : sqlite3_errcode(db);
    sqlite3_reset(statement);
    *inserted += status == SQLITE_OK;
  }
  sqlite3_finalize(statement);
  if (status == SQLITE_OK) status = execute(db, "COMMIT");
  /* Some errors roll back by themselves. */
  if (status != SQLITE_OK && !sqlite3_get_autocommit(db)) execute(db, "ROLLBACK");
  return status;
}

static sqlite3 *connect(const char *path) {
  char cache[80];
  sqlite3 *db = NULL;
  /* Of the limit four tenths for each cache; what is not written yet stays in memory beyond that. */
  snprintf(cache, sizeof cache, "PRAGMA cache_size = -%zu; PRAGMA cache_spill = OFF",
           hard_limit * 4 / 10 / 1024);
  check(sqlite3_open(path, &db) == SQLITE_OK && execute(db, cache) == SQLITE_OK, "a connection");
  return db;
}

static void fill(sqlite3 *writer, sqlite3 *reader, int transactions) {
  int inserted, released = 0;
  for (int i = 1; i <= transactions; ++i) {
    check(insert(writer, kRows, &inserted) == SQLITE_OK, "a small transaction fits");
    check(ask(reader, "SELECT sum(length(data)) FROM t") == (long long)i * kRows * kRowBytes,
          "its rows are read");
    released += relax(writer, reader);
  }
  check(released > 0 && !is_beyond_hard, "the soft limit was reached, the hard one was not");
  printf("%d transactions: %.1f MB written and read; caches taken back %d times\n", transactions,
         (double)transactions * kRows * kRowBytes / 1e6, released);
}

static void overfill(sqlite3 *writer, sqlite3 *reader, int rows) {
  int inserted;
  const long long before = ask(reader, "SELECT count(*) FROM t");
  const int status = insert(writer, rows, &inserted);
  check(status == SQLITE_NOMEM && is_beyond_hard, "a large transaction is stopped by the limit");
  printf("one transaction of %.1f MB: %s after %.1f MB\n", (double)rows * kRowBytes / 1e6,
         sqlite3_errstr(status), (double)inserted * kRowBytes / 1e6);
  relax(writer, reader);

  check(ask(writer, "SELECT count(*) FROM t") == before, "it left nothing behind");
  relax(writer, reader);
  check(insert(writer, kRows, &inserted) == SQLITE_OK, "the next transaction fits");
  relax(writer, reader);
  check(ask(reader, "SELECT count(*) FROM t") == before + kRows, "its rows are there");
  check(ask(reader, "SELECT integrity_check = 'ok' FROM pragma_integrity_check") == 1, "the database is sound");
  relax(writer, reader);
  printf("goes on: %lld rows, the database is sound\n", before + kRows);
}

static void print_heap(void) {
  const ace_stats stats = heap_stats();
  printf("heap: live %.2f MB, resident %.2f MB, peak %.2f MB, refused %llu times\n",
         (double)stats.live_bytes / 1e6, (double)stats.resident_bytes / 1e6,
         (double)stats.peak_resident_bytes / 1e6, (unsigned long long)stats.limit_failures);
  check(stats.peak_resident_bytes <= hard_limit, "the limit held");
}

static void run_in_file(void) {
  char path[] = "/tmp/sqlite_host-XXXXXX";
  const int file = mkstemp(path);
  if (file < 0) {
    check(0, "a temporary file");
    return;
  }
  close(file);
  sqlite3 *writer = connect(path), *reader = connect(path);
  check(execute(writer, "PRAGMA synchronous = OFF; CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB)") ==
            SQLITE_OK,
        "a table");
  const int transactions = (int)(2 * hard_limit / (kRows * kRowBytes)) + 1;
  fill(writer, reader, transactions);
  overfill(writer, reader, transactions * kRows);
  print_heap();
  check(sqlite3_close(writer) == SQLITE_OK && sqlite3_close(reader) == SQLITE_OK, "the connections are closed");
  unlink(path);
}

/* After sqlite3_shutdown all blocks must have come back. */
static void end_heap(void) {
  char broken[200];
  ace_stats stats;
  ace_heap_stats(heap, &stats, sizeof stats);
  check(stats.live_blocks == 0, "no block was left");
  if (ace_heap_audit(heap, broken, sizeof broken) != 0) check(0, broken);
  ace_heap_destroy(heap);
}

int main(int argc, char **argv) {
  const double limit = argc > 1 ? strtod(argv[1], NULL) : 16;
  if (!(limit >= 8 && limit <= 1e3)) {
    fprintf(stderr, "usage: %s [limit in MB, 8 to 1000]\n", argv[0]);
    return 2;
  }
  hard_limit = (size_t)(limit * 1e6);
  soft_limit = hard_limit / 10 * 6;
  ace_heap_config config = {
      .struct_size = sizeof config, .name = "sqlite", .limit = soft_limit, .on_limit = on_limit};
  heap = ace_heap_create(&config);
  if (heap == NULL) return 1;

  const sqlite3_mem_methods methods = {allocate, release, reallocate, size_of, round_up, begin, end, heap};
  if (sqlite3_config(SQLITE_CONFIG_SERIALIZED) != SQLITE_OK ||
      sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0) != SQLITE_OK ||
      sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) != SQLITE_OK || sqlite3_initialize() != SQLITE_OK) {
    fprintf(stderr, "SQLite does not take another allocator, or was built without threads\n");
    return 1;
  }
  printf("SQLite %s, ACE %s, %g MB, caches are taken back from %g MB on\n", sqlite3_libversion(), ace_version(),
         limit, limit * 0.6);
  run_threads();
  run_in_file();
  sqlite3_shutdown();
  end_heap();
  return failures == 0 ? 0 : 1;
}
