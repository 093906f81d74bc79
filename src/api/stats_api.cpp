// Statistics, in C.
#include "api/stats_api.h"

#include <string.h>

#include "heap/slab.h"
#include "os/os.h"

using namespace ace;

namespace {

constexpr ace_field_info kFields[] = {
#define ACE_FIELD(name, type, unit, description) {#name, #unit, description, offsetof(ace_stats, name), #type},
    ACE_STATS_FIELDS(ACE_FIELD)
#undef ACE_FIELD
};
constexpr unsigned kFieldCount = sizeof kFields / sizeof kFields[0];

// Live blocks by kind and class. `exact` counts the allocation lists, which only the holder may walk.
void fill_live(const Heap &heap, bool exact, ace_stats &stats) {
  stats.kind_groups = groups_of(heap);
  for (unsigned bin = 0; bin < groups_of(heap) * kClasses; ++bin) {
    uint64_t blocks = heap.slabs[bin].used_blocks.get();
    if (exact) blocks -= waiting_blocks(heap, bin);
    uint64_t bytes = blocks * kClassSize[class_of_bin(bin)];
    stats.kind_live_blocks[bin / kClasses] += blocks;
    stats.kind_live_bytes[bin / kClasses] += bytes;
    stats.tiny_live_blocks += blocks;
    stats.tiny_live_bytes += bytes;
  }
  stats.live_bytes = stats.tiny_live_bytes + stats.mid_live_bytes + stats.large_live_bytes;
  stats.live_blocks = stats.tiny_live_blocks + stats.mid_live_blocks + stats.large_live_blocks;
}

void fill_phases(const Heap &heap, ace_stats &stats) {
  const PhaseLog &log = heap.phases;
  stats.phase = static_cast<unsigned>(Phase{log.phase});
  for (unsigned i = 0; i < kPhases; ++i) {
    stats.phase_entries[i] = log.entries[i].get();
    stats.phase_ns[i] = log.ns[i].get();
    stats.phase_faulted_bytes[i] = log.faulted_bytes[i].get();
    stats.phase_returned_bytes[i] = log.returned_bytes[i].get();
  }
}

// The present phase is not over: what it cost so far is added. The holder's.
void fill_present_phase(const Heap &heap, ace_stats &stats) {
  const PhaseLog &log = heap.phases;
  const uint64_t phase = stats.phase;
  stats.phase_ns[phase] += os().now() - log.since.get();
  stats.phase_faulted_bytes[phase] += stats.faulted_bytes - log.faulted_before;
  stats.phase_returned_bytes[phase] += stats.returned_bytes - log.returned_before;
}

}  // namespace

void ace::fill_stats(const Heap &heap, bool exact, ace_stats &stats) {
  const Counters &c = heap.counters;
  stats = {};
#define ACE_COPY(name) stats.name = c.name.get()
  ACE_COPY(mid_live_bytes), ACE_COPY(mid_live_blocks), ACE_COPY(large_live_bytes), ACE_COPY(large_live_blocks);
  ACE_COPY(metadata_bytes), ACE_COPY(mapped_bytes);
  ACE_COPY(faulted_bytes), ACE_COPY(returned_bytes), ACE_COPY(released_bytes), ACE_COPY(peak_resident_bytes);
  ACE_COPY(purges), ACE_COPY(purge_calls), ACE_COPY(purge_ns);
  ACE_COPY(superslabs_hot), ACE_COPY(superslabs_draining), ACE_COPY(superslabs_free), ACE_COPY(slabs_in_use);
  ACE_COPY(refills), ACE_COPY(carves), ACE_COPY(slabs_assigned), ACE_COPY(slabs_emptied);
  ACE_COPY(remote_frees), ACE_COPY(remote_drains), ACE_COPY(foreign_pointers), ACE_COPY(misrouted_pointers);
  ACE_COPY(limit_callbacks), ACE_COPY(limit_failures), ACE_COPY(system_failures);
  ACE_COPY(collections_full), ACE_COPY(collections_partial), ACE_COPY(collected_objects),
      ACE_COPY(host_live_bytes);
  ACE_COPY(hints);
  ACE_COPY(purge_call_ns), ACE_COPY(walked_bytes), ACE_COPY(trimmed_bytes), ACE_COPY(taken_bytes);
#undef ACE_COPY
  stats.resident_bytes = c.resident_bytes();
  stats.peak_metadata_bytes = c.metadata_bytes.peak();
  stats.limit_bytes = heap.limit.load(std::memory_order_relaxed);
  fill_live(heap, exact, stats);
  fill_phases(heap, stats);
  if (exact) fill_present_phase(heap, stats);
}

namespace {

int copy_out(const ace_stats &full, ace_stats *stats, size_t size) {
  if (size == 0) return -1;
  if (size > sizeof full) {
    memset(reinterpret_cast<char *>(stats) + sizeof full, 0, size - sizeof full);
    size = sizeof full;
  }
  memcpy(stats, &full, size);
  return 0;
}

}  // namespace

extern "C" {

int ace_heap_stats(ace_heap *heap, ace_stats *stats, size_t size) noexcept {
  ace_stats full;
  fill_stats(*heap, true, full);
  return copy_out(full, stats, size);
}

int ace_heap_stats_shared(ace_heap *heap, ace_stats *stats, size_t size) noexcept {
  ace_stats full;
  fill_stats(*heap, false, full);
  return copy_out(full, stats, size);
}

const char *ace_heap_name(const ace_heap *heap) noexcept { return heap->name; }

const char *ace_phase_name(unsigned phase) noexcept { return phase < kPhases ? kPhaseNames[phase] : nullptr; }

int ace_stats_field(unsigned index, ace_field_info *info) noexcept {
  if (index >= kFieldCount) return -1;
  *info = kFields[index];
  return 0;
}

}  // extern "C"
