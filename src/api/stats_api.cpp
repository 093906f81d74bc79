// Statistics and reports, in C.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ace/ace.h"
#include "control/hints.h"
#include "heap/all_heaps.h"
#include "heap/slab.h"
#include "os/os.h"

using namespace ace;

namespace {

constexpr ace_field_info kFields[] = {
#define ACE_FIELD(name, unit, description) {#name, #unit, description, offsetof(ace_stats, name)},
    ACE_STATS_FIELDS(ACE_FIELD)
#undef ACE_FIELD
};
constexpr unsigned kFieldCount = sizeof kFields / sizeof kFields[0];

// Live blocks by kind and class. `exact` counts the allocation lists, which only the holder may walk.
void fill_live(const Heap &heap, bool exact, ace_stats &stats) {
  stats.kind_groups = heap.kind_groups;
  for (unsigned bin = 0; bin < heap.kind_groups * kClasses; ++bin) {
    uint64_t blocks = heap.slabs[bin].used_blocks.get();
    if (exact) blocks -= list_length(heap.bins[bin]);
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
  const auto phase = static_cast<unsigned>(log.phase);
  stats.phase = phase;
  stats.phase_ns[phase] += os().now() - log.since;
  stats.phase_faulted_bytes[phase] += stats.faulted_bytes - log.faulted_before;
  stats.phase_returned_bytes[phase] += stats.returned_bytes - log.returned_before;
}

void fill(const Heap &heap, bool exact, ace_stats &stats) {
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
  ACE_COPY(collections_full), ACE_COPY(collections_partial), ACE_COPY(collected_objects), ACE_COPY(host_live_bytes);
  ACE_COPY(hints);
#undef ACE_COPY
  stats.resident_bytes = c.resident_bytes();
  stats.limit_bytes = heap.limit.load(std::memory_order_relaxed);
  fill_live(heap, exact, stats);
  fill_phases(heap, stats);
  if (exact) fill_present_phase(heap, stats);
}

int copy_out(const ace_stats &full, ace_stats *stats, size_t size) {
  if (size == 0) return -1;
  if (size > sizeof full) {
    memset(reinterpret_cast<char *>(stats) + sizeof full, 0, size - sizeof full);
    size = sizeof full;
  }
  memcpy(stats, &full, size);
  return 0;
}

// Text that is gathered and written in one call, so that processes which share a file do not mix their lines.
class Page {
 public:
  __attribute__((format(printf, 2, 3))) void add(const char *format, ...) {
    va_list values;
    va_start(values, format);
    int n = vsnprintf(text_ + length_, sizeof text_ - length_, format, values);
    va_end(values);
    length_ += n < 0 ? 0 : static_cast<size_t>(n);
    if (length_ >= sizeof text_) length_ = sizeof text_ - 1;
  }
  // A string of JSON; other than quotes, backslashes and control characters it is as given.
  void add_string(const char *s) {
    add("\"");
    for (; *s != '\0'; ++s) {
      if (*s == '"' || *s == '\\') add("\\");
      if (static_cast<unsigned char>(*s) >= 0x20) add("%c", *s);
    }
    add("\"");
  }
  bool write_to(int fd) const {
    for (size_t at = 0; at < length_;) {
      ssize_t n = write(fd, text_ + at, length_ - at);
      if (n <= 0) return false;
      at += static_cast<size_t>(n);
    }
    return true;
  }

 private:
  char text_[8192];
  size_t length_ = 0;
};

void add_array(Page &page, const char *name, const uint64_t *values, unsigned count) {
  page.add(",\"%s\":[", name);
  for (unsigned i = 0; i < count; ++i) page.add("%s%llu", i == 0 ? "" : ",", static_cast<unsigned long long>(values[i]));
  page.add("]");
}

uint64_t field(const ace_stats &stats, const ace_field_info &info) {
  uint64_t value;
  memcpy(&value, reinterpret_cast<const char *>(&stats) + info.offset, sizeof value);
  return value;
}

void add_json(Page &page, const Heap &heap, const ace_stats &stats) {
  page.add("{\"heap\":");
  page.add_string(heap.name);
  page.add(",\"pid\":%d", static_cast<int>(getpid()));
  for (const ace_field_info &info : kFields) page.add(",\"%s\":%llu", info.name, static_cast<unsigned long long>(field(stats, info)));
  add_array(page, "phase_entries", stats.phase_entries, ACE_PHASES);
  add_array(page, "phase_ns", stats.phase_ns, ACE_PHASES);
  add_array(page, "phase_faulted_bytes", stats.phase_faulted_bytes, ACE_PHASES);
  add_array(page, "phase_returned_bytes", stats.phase_returned_bytes, ACE_PHASES);
  page.add(",\"kind_groups\":%llu", static_cast<unsigned long long>(stats.kind_groups));
  add_array(page, "kind_live_bytes", stats.kind_live_bytes, ACE_KIND_GROUPS_MAX);
  add_array(page, "kind_live_blocks", stats.kind_live_blocks, ACE_KIND_GROUPS_MAX);
  page.add("}\n");
}

void add_text(Page &page, const Heap &heap, const ace_stats &stats) {
  constexpr double kMiB = 1 << 20;
  auto mib = [](uint64_t bytes) { return static_cast<double>(bytes) / kMiB; };
  page.add("ace: heap \"%s\" of process %d\n", heap.name, static_cast<int>(getpid()));
  page.add("  live %.1f MiB in %llu blocks; resident %.1f MiB (peak %.1f); metadata %.1f MiB\n", mib(stats.live_bytes),
           static_cast<unsigned long long>(stats.live_blocks), mib(stats.resident_bytes),
           mib(stats.peak_resident_bytes), mib(stats.metadata_bytes));
  page.add("  returned to the system %.1f MiB in %llu calls, released %.1f MiB, %.1f ms\n", mib(stats.returned_bytes),
           static_cast<unsigned long long>(stats.purge_calls), mib(stats.released_bytes),
           static_cast<double>(stats.purge_ns) / 1e6);
  page.add("  collections: %llu full, %llu partial; foreign pointers: %llu\n",
           static_cast<unsigned long long>(stats.collections_full),
           static_cast<unsigned long long>(stats.collections_partial),
           static_cast<unsigned long long>(stats.foreign_pointers));
  for (unsigned i = 0; i < kPhases; ++i) {
    if (stats.phase_entries[i] == 0) continue;
    page.add("  phase %-8s %8llu times %10.1f ms, took %.1f MiB, gave back %.1f MiB\n", kPhaseNames[i],
             static_cast<unsigned long long>(stats.phase_entries[i]), static_cast<double>(stats.phase_ns[i]) / 1e6,
             mib(stats.phase_faulted_bytes[i]), mib(stats.phase_returned_bytes[i]));
  }
  for (unsigned i = 0; stats.kind_groups > 1 && i < stats.kind_groups; ++i) {
    page.add("  kind group %u: live %.1f MiB in %llu blocks\n", i, mib(stats.kind_live_bytes[i]),
             static_cast<unsigned long long>(stats.kind_live_blocks[i]));
  }
}

struct Report {
  int fd;
  bool json;
  bool ok;
};

void write_report(const Heap &heap, bool exact, Report &report) {
  ace_stats stats;
  fill(heap, exact, stats);
  Page page;
  report.json ? add_json(page, heap, stats) : add_text(page, heap, stats);
  report.ok &= page.write_to(report.fd);
}

bool is_format(const char *format, bool *json) {
  *json = strcmp(format, "json") == 0;
  return *json || strcmp(format, "text") == 0;
}

}  // namespace

extern "C" {

int ace_heap_stats(ace_heap *heap, ace_stats *stats, size_t size) noexcept {
  ace_stats full;
  fill(*heap, true, full);
  return copy_out(full, stats, size);
}

int ace_heap_stats_shared(ace_heap *heap, ace_stats *stats, size_t size) noexcept {
  ace_stats full;
  fill(*heap, false, full);
  return copy_out(full, stats, size);
}

const char *ace_heap_name(const ace_heap *heap) noexcept { return heap->name; }

const char *ace_phase_name(unsigned phase) noexcept { return phase < kPhases ? kPhaseNames[phase] : nullptr; }

int ace_stats_field(unsigned index, ace_field_info *info) noexcept {
  if (index >= kFieldCount) return -1;
  *info = kFields[index];
  return 0;
}

int ace_report(int fd, const char *format) noexcept {
  Report report{fd, false, true};
  if (!is_format(format, &report.json)) return -1;
  visit_heaps([](Heap &heap, void *context) { write_report(heap, false, *static_cast<Report *>(context)); }, &report);
  return report.ok ? 0 : -1;
}

int ace_heap_report(ace_heap *heap, int fd, const char *format) noexcept {
  Report report{fd, false, true};
  if (!is_format(format, &report.json)) return -1;
  write_report(*heap, true, report);
  return report.ok ? 0 : -1;
}

}  // extern "C"
