/* The statistics of a heap: one field list, from which the struct, the reports, the Python module and the
 * tests are made. A field is added at the end of the list, never moved or removed within an ABI version.
 *
 * Lines that add up (checked by ace_heap_audit and the tests):
 *   live_bytes         = tiny_live_bytes + mid_live_bytes + large_live_bytes
 *   live_blocks        = tiny_live_blocks + mid_live_blocks + large_live_blocks
 *   resident_bytes     = faulted_bytes - returned_bytes - released_bytes
 *   slabs_in_use       = the assigned slabs of all superslabs
 */
#ifndef ACE_STATS_H
#define ACE_STATS_H

#include <stdint.h>

/* X(name, type, unit, description). A gauge tells how things are, or the most that they were; a counter only
 * grows. */
#define ACE_STATS_FIELDS(X)                                                                                 \
  X(live_bytes, gauge, bytes, "bytes in live blocks, by block size")                                        \
  X(live_blocks, gauge, count, "live blocks")                                                               \
  X(tiny_live_bytes, gauge, bytes, "of these, in slabs")                                                    \
  X(tiny_live_blocks, gauge, count, "blocks in slabs")                                                      \
  X(mid_live_bytes, gauge, bytes, "of these, in page runs")                                                 \
  X(mid_live_blocks, gauge, count, "page runs")                                                             \
  X(large_live_bytes, gauge, bytes, "of these, in mappings of their own")                                   \
  X(large_live_blocks, gauge, count, "mappings of their own")                                               \
  X(resident_bytes, gauge, bytes, "pages for blocks that were touched and not given back")                  \
  X(peak_resident_bytes, gauge, bytes, "the most resident_bytes ever seen by the slow path")                \
  X(metadata_bytes, gauge, bytes, "pages for superslab heads and the heap itself, not in resident_bytes")   \
  X(mapped_bytes, gauge, bytes, "address space held for this heap")                                         \
  X(faulted_bytes, counter, bytes, "pages taken into use, in total")                                        \
  X(returned_bytes, counter, bytes, "pages given back to the system inside superslabs, in total")           \
  X(released_bytes, counter, bytes, "pages given back with whole superslabs and mappings, in total")        \
  X(purges, counter, count, "times that memory was looked for to give back")                                \
  X(purge_calls, counter, count, "system calls that gave memory back")                                      \
  X(purge_ns, counter, ns, "processor time that giving memory back took")                                   \
  X(superslabs_hot, gauge, count, "superslabs in use")                                                      \
  X(superslabs_draining, gauge, count, "superslabs kept out of use so that they empty")                     \
  X(superslabs_free, gauge, count, "empty superslabs kept for reuse")                                       \
  X(slabs_in_use, gauge, count, "slabs assigned to a size class")                                           \
  X(refills, counter, count, "times that the hot path ran dry")                                             \
  X(carves, counter, count, "pages turned into allocation lists")                                           \
  X(slabs_assigned, counter, count, "times that a slab was given to a size class")                          \
  X(slabs_emptied, counter, count, "times that a slab lost its last block")                                 \
  X(remote_frees, counter, count, "frees that came by the remote queue")                                    \
  X(remote_drains, counter, count, "times that the remote queue was emptied")                               \
  X(foreign_pointers, counter, count, "pointers of other allocators that a hook passed on")                 \
  X(misrouted_pointers, counter, count, "blocks of another heap that were freed through this one")          \
  X(limit_bytes, gauge, bytes, "the heap's limit; 0: none")                                                 \
  X(limit_callbacks, counter, count, "times that the limit callback was asked")                             \
  X(limit_failures, counter, count, "allocations refused at the limit")                                     \
  X(system_failures, counter, count, "allocations refused because the system gave no memory")               \
  X(collections_full, counter, count, "full collections that were announced")                               \
  X(collections_partial, counter, count, "partial collections that were announced")                         \
  X(collected_objects, counter, count, "objects that the host said its collections freed")                  \
  X(host_live_bytes, gauge, bytes, "live bytes that the host gave at the last collection end")              \
  X(hints, counter, count, "hints received")                                                                \
  X(phase, gauge, count, "present phase: an index into the phase arrays")                                   \
  X(purge_call_ns, counter, ns, "of purge_ns, the calls that gave memory back; the rest is looking for it") \
  X(walked_bytes, counter, bytes, "resident_bytes where memory was looked for, in total")                   \
  X(trimmed_bytes, counter, bytes, "what was given back then, in pages or whole, in total")                 \
  X(peak_metadata_bytes, gauge, bytes, "the most metadata_bytes ever")                                      \
  X(taken_bytes, counter, bytes, "free memory that was taken into use, resident or not, in total")

/* Phases of the runtime, as the hints give them. */
#define ACE_PHASES 6
#define ACE_KIND_GROUPS_MAX 4

typedef struct ace_stats {
#define ACE_STATS_MEMBER(name, type, unit, description) uint64_t name;
  ACE_STATS_FIELDS(ACE_STATS_MEMBER)
#undef ACE_STATS_MEMBER
  /* Per phase (run, mark, sweep, collect, idle, burst): entries, time, pages taken, and pages given back inside
   * superslabs. */
  uint64_t phase_entries[ACE_PHASES];
  uint64_t phase_ns[ACE_PHASES];
  uint64_t phase_faulted_bytes[ACE_PHASES];
  uint64_t phase_returned_bytes[ACE_PHASES];
  /* Per kind group, blocks in slabs only: exact. */
  uint64_t kind_groups;
  uint64_t kind_live_bytes[ACE_KIND_GROUPS_MAX];
  uint64_t kind_live_blocks[ACE_KIND_GROUPS_MAX];
} ace_stats;

#endif /* ACE_STATS_H */
