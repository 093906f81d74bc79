/* ACE-Alloc: an embeddable memory allocator for language VMs.
 *
 * The C interface, usable from C99 and C++11 on. After the seed paper "ACE-Alloc: Agentic Context
 * Engineering for runtime-adaptive small-object allocation".
 *
 * There are two ways in:
 *
 *   - the calling thread's heap: ace_alloc, ace_free and their family. Any thread may call them with
 *     any pointer that ACE handed out.
 *   - explicit heaps, one for each VM: ace_heap_create, ace_heap_alloc, ace_heap_free and their family.
 *     An explicit heap has no lock of its own. Its *holder* is the thread that may use it at the moment,
 *     normally the one that holds the VM's own lock; a function of the ace_heap_ family says "I am the
 *     holder" unless its description says "any thread".
 *
 * Sizes are in bytes, times in nanoseconds. Every block is aligned to 16 bytes. A block stays valid until
 * it is freed or its heap is destroyed. Errors are reported by return value; errno is touched by ace_report and
 * ace_heap_report alone.
 *
 * What is checked (see ace_set_error_handler): a double free, a pointer into the middle of a block, a
 * pointer that ACE never handed out and a block of a destroyed heap are reported, and the process is
 * aborted unless a handler returns; in that case the call has no effect. No write ever goes through a
 * pointer that has not been proven to start a block. Not promised: a second free by another thread in the very
 * same moment. docs/checks.md lists all checks.
 */
#ifndef ACE_ACE_H
#define ACE_ACE_H

#include <stddef.h>
#include <stdint.h>

#include "stats.h"

#ifdef __cplusplus
extern "C" {
#define ACE_NOEXCEPT noexcept
#else
#define ACE_NOEXCEPT
#endif

/* Who compiles ACE into a plugin may define ACE_API as nothing: then its functions are the plugin's alone. */
#if !defined(ACE_API) && defined(__GNUC__)
#define ACE_API __attribute__((visibility("default")))
#elif !defined(ACE_API)
#define ACE_API
#endif

#if defined(__GNUC__)
#define ACE_MALLOC __attribute__((malloc, warn_unused_result))
#else
#define ACE_MALLOC
#endif

/* Raised when a function is removed or changes its meaning; additions keep it. */
#define ACE_ABI_VERSION 1

#define ACE_VERSION_MAJOR 0
#define ACE_VERSION_MINOR 1
#define ACE_VERSION_PATCH 0

/* The ABI version of the library that is loaded; compare it with ACE_ABI_VERSION. Any thread. */
ACE_API unsigned ace_abi_version(void) ACE_NOEXCEPT;

/* The release of the library that is loaded, such as "0.1.0". Any thread. */
ACE_API const char *ace_version(void) ACE_NOEXCEPT;

/* ------------------------------------------------------------------ the calling thread's heap ---- */

/* A block of at least `size` bytes, contents undefined. `size` 0 gives a unique block of the smallest
 * class. NULL where the memory or the heap's limit is exhausted, or `size` is above PTRDIFF_MAX. */
ACE_API void *ace_alloc(size_t size) ACE_NOEXCEPT ACE_MALLOC;

/* A zeroed block of count * size bytes; NULL also where the product overflows. */
ACE_API void *ace_calloc(size_t count, size_t size) ACE_NOEXCEPT ACE_MALLOC;

/* Resizes `p`, moving it where it must; the first min(old, new) bytes are kept. `p` NULL allocates;
 * `size` 0 gives a block of the smallest class (it does not free). NULL on failure, and `p` stays valid;
 * shrinking never fails. */
ACE_API void *ace_realloc(void *p, size_t size) ACE_NOEXCEPT;

/* A block aligned to `alignment`, a power of two up to ACE_ALIGNMENT_MAX; NULL otherwise. */
#define ACE_ALIGNMENT_MAX 0x100000ul
ACE_API void *ace_aligned_alloc(size_t alignment, size_t size) ACE_NOEXCEPT ACE_MALLOC;

/* Gives `p` back, whichever heap or thread it came from; NULL is ignored. A block of another thread's
 * heap, or of any explicit heap, travels to its owner by the remote-free queue. */
ACE_API void ace_free(void *p) ACE_NOEXCEPT;

/* As ace_free; `size` is what was asked for last (0: not known). One that is larger than the block is reported
 * as misuse, in a hardened heap any but the one asked for. */
ACE_API void ace_free_sized(void *p, size_t size) ACE_NOEXCEPT;

/* How many bytes of `p` may be used; 0 for NULL. Any thread. */
ACE_API size_t ace_usable_size(const void *p) ACE_NOEXCEPT;

/* How many bytes a new block of `size` bytes will have in a heap that is not hardened: a capacity that wastes
 * nothing. (Above 512 KiB a block may be one that was freed before, and larger.) `size` itself where no block
 * can be so large. Any thread. */
ACE_API size_t ace_good_size(size_t size) ACE_NOEXCEPT;

/* ------------------------------------------------------------------------------- explicit heaps ---- */

typedef struct ace_heap ace_heap;

/* What a block is for, as far as the host knows. Kinds are grouped: see ace_heap_config.kind_groups. */
typedef unsigned ace_kind;
#define ACE_KIND_MAX 16u /* kinds are below it; each from the last kind group's number on counts as that */

/* Called when an allocation would exceed the heap's limit, and giving free pages back was not enough, with the
 * heap and the bytes that are missing. It may free blocks of this heap, run a collection, trim and raise the
 * limit; it must not destroy the heap, and it must return: no longjmp, no exception. Non-zero: room was made,
 * try once more; zero: the allocation succeeds only if a free block is there already. Called by the holder, in
 * the middle of its allocation; not for a block that shrinks, which a collector may do. */
typedef int (*ace_limit_fn)(ace_heap *heap, size_t missing, void *context);

enum {
  /* No background thread may serve this heap: what a hint gives back is given back within the hint, all of it.
   * For hosts that must never have a second thread; before a fork the worker ends by itself. Who may stop only
   * for moments sets option `worker` to tick in place of this, and calls ace_tick with a budget when there is
   * time: then hints put off what they would give back at once, but for FORK_BEFORE and PRESSURE. */
  ACE_HEAP_NO_WORKER = 1u << 0,

  /* This heap checks its memory, as if made with option `hardened` on (docs/checks.md): a write beyond the size
   * that was asked for is reported when the block is freed or resized, one into a free block when it is issued
   * again, a size given with a free must be exactly the block's, and ace_usable_size tells what was asked for.
   */
  ACE_HEAP_HARDENED = 1u << 1
};

/* How a heap is made. Zero the struct, set struct_size, then what you need. */
typedef struct ace_heap_config {
  size_t struct_size;    /* sizeof(ace_heap_config), or less, of an older header; more is refused */
  const char *name;      /* shown in reports; copied, at most 31 bytes; NULL: "heap" */
  uint32_t flags;        /* ACE_HEAP_... */
  uint32_t kind_groups;  /* 0 or 1: kinds share slabs. 2 to ACE_KIND_GROUPS_MAX: kind k lives in slabs of
                            group min(k, kind_groups - 1), and its live bytes are counted exactly */
  size_t limit;          /* most resident bytes (resident_bytes: metadata is not counted); 0: none */
  ace_limit_fn on_limit; /* may be NULL */
  void *on_limit_context;
} ace_heap_config;

/* A new heap, or NULL where there is no memory or the configuration is invalid. `config` NULL: defaults.
 * The caller becomes its holder. Any thread. */
ACE_API ace_heap *ace_heap_create(const ace_heap_config *config) ACE_NOEXCEPT;

/* Ends a heap with all its blocks, whose pointers become invalid. Its memory goes back at once, or, of a large
 * heap where a worker serves it, a moment later, so that this takes microseconds: up to 256 MiB of all heaps
 * wait for that, what is beyond goes back at once. Any thread, while no other uses the heap or frees its
 * blocks. NULL is ignored; a heap that was destroyed before is reported, unless another lies where it was. */
ACE_API void ace_heap_destroy(ace_heap *heap) ACE_NOEXCEPT;

/* The calling thread's own heap, made on first use; NULL where that fails. It ends with the thread: do not
 * destroy it, and do not hand it to other threads. */
ACE_API ace_heap *ace_thread_heap(void) ACE_NOEXCEPT;

/* As ace_alloc, ace_calloc, ace_aligned_alloc, from `heap`. `kind` is the host's kind of object. */
ACE_API void *ace_heap_alloc(ace_heap *heap, size_t size) ACE_NOEXCEPT ACE_MALLOC;
ACE_API void *ace_heap_alloc_kind(ace_heap *heap, size_t size, ace_kind kind) ACE_NOEXCEPT ACE_MALLOC;
ACE_API void *ace_heap_calloc(ace_heap *heap, size_t count, size_t size, ace_kind kind) ACE_NOEXCEPT ACE_MALLOC;
ACE_API void *ace_heap_aligned_alloc(ace_heap *heap, size_t alignment, size_t size,
                                     ace_kind kind) ACE_NOEXCEPT ACE_MALLOC;

/* As ace_realloc, within `heap`. `kind` is used where `p` is NULL or above 16 KiB; a smaller block that
 * moves keeps its kind group. `p` may be another heap's: a block that is moved comes to `heap`, one that still
 * fits where it is stays there. */
ACE_API void *ace_heap_realloc(ace_heap *heap, void *p, size_t size, ace_kind kind) ACE_NOEXCEPT;

/* Frees a block of this heap; NULL is ignored. A block of another heap is passed on to its owner. */
ACE_API void ace_heap_free(ace_heap *heap, void *p) ACE_NOEXCEPT;

/* As ace_heap_free; `size` as for ace_free_sized. */
ACE_API void ace_heap_free_sized(ace_heap *heap, void *p, size_t size) ACE_NOEXCEPT;

/* As ace_heap_free_sized, made for what a collector sweeps: blocks from all over the heap. `p` must be a block
 * of an ACE heap, not NULL: it is not looked up in the address map first. A double or interior free is still
 * seen. */
ACE_API void ace_heap_free_swept(ace_heap *heap, void *p, size_t size) ACE_NOEXCEPT;

/* For hooks that may meet pointers of the allocator they replaced: as ace_heap_free and ace_heap_realloc,
 * but where `p` is none of ACE's they do nothing, count it as foreign, and return 0; otherwise 1.
 * `*result` receives what ace_heap_realloc would return. */
ACE_API int ace_heap_try_free(ace_heap *heap, void *p) ACE_NOEXCEPT;
ACE_API int ace_heap_try_realloc(ace_heap *heap, void *p, size_t size, ace_kind kind,
                                 void **result) ACE_NOEXCEPT;

/* The heap that `p` points into: a live or free block (of a large one, its first MiB), or what the heap keeps
 * for itself. NULL where it is no heap's memory. `p` may be any number, and is not read through: its memory may
 * go at the same moment. Any thread. */
ACE_API ace_heap *ace_owner_of(const void *p) ACE_NOEXCEPT;

/* 1 where `p` points into memory of this heap's, as ace_owner_of tells, but without a lock (but for a large
 * block whose mapping is shorter than 2 MiB): `p` must be NULL, or what it points to must stay meanwhile. For
 * hooks that meet blocks of several allocators. Any thread. */
ACE_API int ace_heap_owns(const ace_heap *heap, const void *p) ACE_NOEXCEPT;

/* Sets the most bytes that may be resident; 0: none. Lowering it below what is in use does not free
 * anything: the next growth fails. Returns the former limit. */
ACE_API size_t ace_heap_set_limit(ace_heap *heap, size_t limit) ACE_NOEXCEPT;

/* Calls `visit` for each live block with its usable size and kind group (above 16 KiB: 0); stops when it
 * returns non-zero. `visit` must not use the heap. Returns what the last call returned, 0 at the end. */
typedef int (*ace_visit_fn)(void *block, size_t usable, ace_kind group, void *context);
ACE_API int ace_heap_walk(ace_heap *heap, ace_visit_fn visit, void *context) ACE_NOEXCEPT;

/* The same in pieces, for holders who must not be stopped for long: each call visits the blocks of one area of
 * 2 MiB or of one large block, that of the lowest address above `*position`, in the order of their addresses,
 * and moves `*position` there. Begin with 0. Returns 1, or 0 where there is nothing left. Between two calls the
 * heap may be used: a block that was made meanwhile may be seen or not. What `visit` returns ends that call. */
ACE_API int ace_heap_walk_next(ace_heap *heap, uintptr_t *position, ace_visit_fn visit,
                               void *context) ACE_NOEXCEPT;

/* Checks every invariant of the heap (lists, states, counts, bytes that add up). 0 where all hold; otherwise
 * 1, and the first broken one is described in `message` (NULL or `length` bytes; untouched where all hold). */
ACE_API int ace_heap_audit(ace_heap *heap, char *message, size_t length) ACE_NOEXCEPT;

/* -------------------------------------------------------------------------------------- phases ---- */

/* What the runtime tells. `value` is 0 unless said otherwise. */
typedef enum ace_hint_code {
  ACE_HINT_COLLECT_BEGIN = 1, /* a collection starts; value: 0 full or unknown, else 1 + generation */
  ACE_HINT_MARK = 2,          /* it marks */
  ACE_HINT_SWEEP = 3,         /* it sweeps: frees come in bulk */
  ACE_HINT_COLLECT_END = 4,   /* it is over; value: live bytes, 0 where unknown */
  ACE_HINT_COLLECTED = 5,     /* value: objects freed by the collection that ends; sent before its end */
  ACE_HINT_IDLE_BEGIN = 6,    /* the program waits; for the phase, a collection's end ends this too */
  ACE_HINT_IDLE_END = 7,
  ACE_HINT_BURST_BEGIN = 8, /* import, parse, request: many allocations follow */
  ACE_HINT_BURST_END = 9,
  ACE_HINT_FORK_BEFORE = 10, /* about to fork */
  ACE_HINT_FORK_CHILD = 11,  /* now in the child: until the next full collection new blocks come from pages of
                                their own, so that those which are shared with the parent stay so */
  ACE_HINT_PRESSURE = 12     /* memory is short: give back what can be given */
} ace_hint_code;

/* Tells the heap what the runtime does. Cheap (tens of nanoseconds) unless it gives memory back. 0, or -1
 * for an unknown hint. In mode `off` hints are only counted. Called by the holder. */
ACE_API int ace_hint(ace_heap *heap, ace_hint_code hint, uint64_t value) ACE_NOEXCEPT;

/* Gives back now what is free: empty superslabs, and the free pages inside slabs and runs, up to `budget`
 * bytes (SIZE_MAX: all). Returns the bytes given back; large blocks of a hardened heap that others have freed
 * are unmapped beside that. The time grows with them: who has little of it asks for some hundred KiB at a time.
 * Called by the holder. */
ACE_API size_t ace_trim(ace_heap *heap, size_t budget) ACE_NOEXCEPT;

/* As ace_trim, from any thread and without the VM's lock: it leaves alone what only the holder may touch
 * (the current slabs and frees not yet drained). */
ACE_API size_t ace_trim_shared(ace_heap *heap, size_t budget) ACE_NOEXCEPT;

/* Runs the trims that were put off and are due: with option `worker` tick, which starts no thread and has hints
 * leave all to this, and where the worker's thread could not be started. For about `budget` nanoseconds at most
 * (its last step takes a fifth of a millisecond, or what looking through the heap takes: 2 ms a GiB);
 * UINT64_MAX: all of it. Any thread. Returns the nanoseconds until the next trim is due; 0 where there was not
 * the time for all; UINT64_MAX where none is put off, so always with option `worker` off and for heaps with
 * ACE_HEAP_NO_WORKER. */
ACE_API uint64_t ace_tick(uint64_t budget) ACE_NOEXCEPT;

/* Writes the playbook that option `playbook` names, with what mode `learn` has learned so far; this happens at
 * the process's end as well. 0, also where there is nothing to write; -1 where the file cannot be written,
 * which is said on standard error. Any thread. */
ACE_API int ace_playbook_write(void) ACE_NOEXCEPT;

/* ---------------------------------------------------------------------------------- statistics ---- */

/* Fills the first `size` bytes (sizeof(ace_stats)) of `stats`. Constant time in the number of blocks. Exact
 * for the holder; ace_heap_stats_shared serves any thread, and there blocks kept for re-issue in the
 * current slabs count as live. 0, or -1 where `size` is 0. */
ACE_API int ace_heap_stats(ace_heap *heap, ace_stats *stats, size_t size) ACE_NOEXCEPT;
ACE_API int ace_heap_stats_shared(ace_heap *heap, ace_stats *stats, size_t size) ACE_NOEXCEPT;

/* The name given at creation. Any thread. */
ACE_API const char *ace_heap_name(const ace_heap *heap) ACE_NOEXCEPT;

/* The name of a phase (see ace_stats.phase), NULL beyond the last. Any thread. */
ACE_API const char *ace_phase_name(unsigned phase) ACE_NOEXCEPT;

/* One row of the statistics' field list; see ace_stats_field. */
typedef struct ace_field_info {
  const char *name;
  const char *unit; /* "bytes", "count" or "ns" */
  const char *description;
  size_t offset;    /* in ace_stats; every field is a uint64_t */
  const char *type; /* "gauge", or "counter": it only grows */
} ace_field_info;

/* Describes field `index` of ace_stats; 0, or -1 beyond the last. Any thread. */
ACE_API int ace_stats_field(unsigned index, ace_field_info *info) ACE_NOEXCEPT;

/* The value of a field that ace_stats_field has described. Any thread. */
static inline uint64_t ace_stats_value(const ace_stats *stats, const ace_field_info *info) {
  const uint64_t *fields = &stats->live_bytes; /* the first */
  return fields[info->offset / sizeof *fields];
}

/* Writes the statistics of every living heap to `fd`: `format` "text" (for people) or "json" (one object a
 * line, one line and one write a heap). 0, or -1 for an unknown format or a failed write. Any thread; while it
 * writes, threads that destroy a heap wait. */
ACE_API int ace_report(int fd, const char *format) ACE_NOEXCEPT;

/* The same for one heap, with what ace_heap_audit says of it and the bytes of the pages that hold some of a
 * live block ("live_page_bytes"; resident_bytes cannot be less). Called by the holder. */
ACE_API int ace_heap_report(ace_heap *heap, int fd, const char *format) ACE_NOEXCEPT;

/* ------------------------------------------------------------------------------ options, errors ---- */

/* One row of the options table. An option `mode` is read from the environment as ACE_MODE at start. */
typedef struct ace_option_info {
  const char *name;
  const char *environment;
  const char *default_value;
  const char *values; /* what is accepted, for people: "off|static" or "bytes, with k, m, g" */
  const char *description;
} ace_option_info;

/* Describes option `index`; 0, or -1 beyond the last. Any thread. */
ACE_API int ace_option_describe(unsigned index, ace_option_info *info) ACE_NOEXCEPT;

/* Sets an option; a switch also takes 1 and 0. 0; -1: no such option; -2: no such value, or more than 255
 * bytes. The text is copied. It acts from then on: `hardened` on heaps made later, `limit`, `kinds`, `domains`
 * and `debug_hooks` on VMs entered later, `playbook` and `memory_price` on heaps whose loop has not begun,
 * `report` at the process's end, `record` and `stats_page` where there is none yet, the others at once. Any
 * thread. */
ACE_API int ace_option_set(const char *name, const char *value) ACE_NOEXCEPT;

/* The option's present value, as text; NULL where there is no such option. Any thread. The text stays
 * valid until the option is set again. A relative path from the environment has become one from the root on: it
 * means the folder in which the process was when its options were first read. */
ACE_API const char *ace_option_get(const char *name) ACE_NOEXCEPT;

/* The same as a number: bytes, nanoseconds, 1 for `on`; for `mode`, `worker` and `bad_pointer` the place in the
 * list of values, from 0; for `domains` the sum of 1 (raw), 2 (mem) and 4 (obj); 0 for a text and for an
 * unknown option. Any thread. */
ACE_API uint64_t ace_option_number(const char *name) ACE_NOEXCEPT;

typedef enum ace_error_code {
  ACE_ERROR_DOUBLE_FREE = 1,     /* the block is free already */
  ACE_ERROR_INTERIOR = 2,        /* points into a slab or run, but not at the start of a block */
  ACE_ERROR_FOREIGN = 3,         /* not ACE's, or of a destroyed heap */
  ACE_ERROR_SIZE_MISMATCH = 4,   /* a sized free whose size cannot belong to the block */
  ACE_ERROR_NOT_ALLOCATED = 5,   /* lies in ACE's memory where no block was ever handed out */
  ACE_ERROR_ENDED_HEAP = 6,      /* an allocation from a heap that was destroyed, or its end once more */
  ACE_ERROR_OVERFLOW = 7,        /* of hardened heaps: what follows the block's last byte was overwritten */
  ACE_ERROR_WRITE_AFTER_FREE = 8 /* a free block was written to. Hardened heaps: it is about to be issued again;
                                    others: the list it is on leads nowhere any more */
} ace_error_code;

typedef enum ace_block_state { ACE_BLOCK_UNKNOWN, ACE_BLOCK_LIVE, ACE_BLOCK_FREE } ace_block_state;

/* What is known of a misuse. Fields may be added at the end. */
typedef struct ace_error {
  ace_error_code code;
  const char *message; /* one sentence */
  /* The kind of call: "free", "free_sized", "free_swept", "realloc", "usable_size", "alloc",
   * "destroy". */
  const char *function;
  const void *pointer;
  size_t block_size;     /* of the block concerned; 0 where unknown */
  const ace_heap *owner; /* NULL where unknown; its name: ace_heap_name */
  const void *block;     /* where the block starts that the pointer lies in; NULL where unknown */
  size_t offset;         /* of the pointer in it */
  size_t asked_size;     /* of a live block of a hardened heap: what was asked for; 0 where unknown */
  ace_block_state state;
  ace_kind kind_group;
} ace_error;

/* Replaces what happens after a misuse: the default prints one line to standard error and aborts. Where
 * `handler` returns, the call that was wrong has no effect (realloc and usable_size return NULL and 0); an
 * allocation that has found a write to a free block gives another block, or this one wiped. NULL restores the
 * default. The handler must not use ACE, and must return or end the process: no longjmp, no
 * exception. Any thread, but one at a time. */
typedef void (*ace_error_fn)(const ace_error *error, void *context);
ACE_API void ace_set_error_handler(ace_error_fn handler, void *context) ACE_NOEXCEPT;

#ifdef __cplusplus
}
#endif

#endif /* ACE_ACE_H */
