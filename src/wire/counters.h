// What a heap counts, all of it outside the hot path. include/ace/stats.h says what each number means.
#pragma once
#include "ace/stats.h"
#include "wire/counter.h"

namespace ace {

struct Counters {
  // The holder's.
  Counter faulted_bytes, released_bytes, peak_resident_bytes, mapped_bytes;
  PeakCounter metadata_bytes;
  Counter mid_live_bytes, mid_live_blocks, large_live_bytes, large_live_blocks;
  Counter superslabs_hot, superslabs_draining, superslabs_free, slabs_in_use;
  Counter refills, carves, taken_bytes, slabs_assigned, slabs_emptied;
  Counter remote_frees, remote_drains;
  Counter limit_callbacks, limit_failures, system_failures;
  Counter collections_full, collections_partial, collected_objects, host_live_bytes, hints;
  // Several threads', by add_shared.
  Counter returned_bytes, purges, purge_calls, purge_ns, purge_call_ns, walked_bytes, trimmed_bytes;
  Counter foreign_pointers, misrouted_pointers;

  // Pages for blocks that are in memory now. A purge on another thread may be counted before the holder's
  // fault that it undoes, hence the floor.
  uint64_t resident_bytes() const {
    uint64_t taken = faulted_bytes.get(), given = returned_bytes.get() + released_bytes.get();
    return taken > given ? taken - given : 0;
  }
};

}  // namespace ace
