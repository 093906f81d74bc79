// Reports, in C: the statistics as text for people and as JSON lines.
#include <string.h>
#include <unistd.h>

#include <algorithm>

#include "ace/ace.h"
#include "api/stats_api.h"
#include "base/experiment.h"
#include "base/text.h"
#include "control/controller.h"
#include "heap/all_heaps.h"
#include "heap/audit.h"
#include "heap/heap.h"
#include "heap/walk.h"
#include "os/os.h"
#include "os/write_all.h"

using namespace ace;

namespace {

// Text that is gathered and written in one call, so that processes which share a file do not mix their lines.
class ReportText : public TextBuffer {
 public:
  ReportText() : TextBuffer(buffer_, sizeof buffer_) {}
  bool write_to(int fd) const { return write_all(fd, text(), length()); }

 private:
  char buffer_[8192];
};

// What only the holder can find out.
struct Found {
  char audit[160] = "ok";
  uint64_t live_page_bytes = 0;  // pages that hold some of a live block: less cannot be resident
};

// Blocks that share a page are visited one after the other, by address.
uint64_t count_live_pages(Heap &heap) {
  struct Count {
    uintptr_t last, pages;
  } count{UINTPTR_MAX, 0};
  auto visit = [](void *block, size_t usable, ace_kind, void *context) {
    auto &c = *static_cast<Count *>(context);
    const uintptr_t first = address_of(block) / kPage, last = (address_of(block) + usable - 1) / kPage;
    c.pages += last - first + (first != c.last);
    c.last = last;
    return 0;
  };
  walk_heap(heap, visit, &count);
  return count.pages * kPage;
}

// How many there were, and the last of them, the latest first.
void add_decisions(TextBuffer &text, const Decisions &decisions) {
  using number = unsigned long long;
  if (decisions.count == 0) return;
  const uint64_t now = os().now();
  text.add(",\"decisions\":{\"count\":%llu,\"recent\":[", number{decisions.count});
  for (uint64_t i = 0; i < std::min<uint64_t>(decisions.count, kRecentDecisions); ++i) {
    const Decision &one = decisions.recent[(decisions.count - 1 - i) % kRecentDecisions];
    text.add("%s{\"ago_ns\":%llu,\"context\":\"%s\",\"slack\":%llu,\"action\":\"%s\",\"delay_ns\":%llu}",
             i == 0 ? "" : ",", number{now > one.at ? now - one.at : 0}, name_of(one.context).text,
             number{one.slack}, action_name(one.action), number{one.delay});
  }
  text.add("]}");
}

// One flat object but for the phases and kinds. `found` is nullptr where the caller is not the holder.
void add_json(TextBuffer &text, const Heap &heap, const ace_stats &stats, const Found *found) {
  using number = unsigned long long;
  text.add("{\"name\":");
  text.add_json_string(heap.name);
  text.add(",\"pid\":%d", static_cast<int>(getpid()));
  if (found != nullptr) {
    text.add(",\"audit\":");
    text.add_json_string(found->audit);
    text.add(",\"live_page_bytes\":%llu", number{found->live_page_bytes});
  } else {
    // The holder's numbers of the phase hold this already.
    const uint64_t now = os().now(), since = heap.phases.since.get();
    text.add(",\"phase_age_ns\":%llu", number{now > since ? now - since : 0});
  }
  if constexpr (kIsExperiment) text.add(",\"experiment\":\"%s\"", kExperiment);
  if constexpr (kWarmPool != 0)
    text.add(",\"warm_hits\":%llu,\"warm_misses\":%llu", number{heap.warm_pool->hits.get()},
             number{heap.warm_pool->misses.get()});
  ace_field_info info;
  for (unsigned i = 0; ace_stats_field(i, &info) == 0; ++i)
    text.add(",\"%s\":%llu", info.name, number{ace_stats_value(&stats, &info)});
  for (unsigned i = 0; i < kPhases; ++i) {
    text.add("%s\"%s\":{\"entries\":%llu,\"ns\":%llu,\"faulted_bytes\":%llu,\"returned_bytes\":%llu}",
             i == 0 ? ",\"phases\":{" : ",", kPhaseNames[i], number{stats.phase_entries[i]},
             number{stats.phase_ns[i]}, number{stats.phase_faulted_bytes[i]},
             number{stats.phase_returned_bytes[i]});
  }
  for (unsigned i = 0; i < stats.kind_groups; ++i) {
    text.add("%s{\"live_bytes\":%llu,\"live_blocks\":%llu}", i == 0 ? "},\"kinds\":[" : ",",
             number{stats.kind_live_bytes[i]}, number{stats.kind_live_blocks[i]});
  }
  text.add("]");
  add_decisions(text, decisions_of(heap));
  text.add("}\n");
}

void add_text(TextBuffer &text, const Heap &heap, const ace_stats &stats, const Found *found) {
  constexpr double kMiB = 1 << 20;
  auto mib = [](uint64_t bytes) { return static_cast<double>(bytes) / kMiB; };
  text.add("ace: heap \"%s\" of process %d\n", heap.name, static_cast<int>(getpid()));
  text.add("  live %.1f MiB in %llu blocks; resident %.1f MiB (peak %.1f); metadata %.1f MiB\n",
           mib(stats.live_bytes), static_cast<unsigned long long>(stats.live_blocks), mib(stats.resident_bytes),
           mib(stats.peak_resident_bytes), mib(stats.metadata_bytes));
  text.add("  returned to the system %.1f MiB in %llu calls, released %.1f MiB, %.1f ms\n",
           mib(stats.returned_bytes), static_cast<unsigned long long>(stats.purge_calls),
           mib(stats.released_bytes), static_cast<double>(stats.purge_ns) / 1e6);
  text.add("  collections: %llu full, %llu partial; foreign pointers: %llu\n",
           static_cast<unsigned long long>(stats.collections_full),
           static_cast<unsigned long long>(stats.collections_partial),
           static_cast<unsigned long long>(stats.foreign_pointers));
  if (found != nullptr) {
    text.add("  pages that hold a live block: %.1f MiB\n", mib(found->live_page_bytes));
    text.add("  audit: %s\n", found->audit);
  }
  if constexpr (kIsExperiment) text.add("  an experiment: %s\n", kExperiment);
  if constexpr (kWarmPool != 0) {
    text.add("  warm pool: %llu hits, %llu misses\n",
             static_cast<unsigned long long>(heap.warm_pool->hits.get()),
             static_cast<unsigned long long>(heap.warm_pool->misses.get()));
  }
  for (unsigned i = 0; i < kPhases; ++i) {
    if (stats.phase_entries[i] == 0) continue;
    text.add("  phase %-8s %8llu times %10.1f ms, took %.1f MiB, gave back %.1f MiB\n", kPhaseNames[i],
             static_cast<unsigned long long>(stats.phase_entries[i]),
             static_cast<double>(stats.phase_ns[i]) / 1e6, mib(stats.phase_faulted_bytes[i]),
             mib(stats.phase_returned_bytes[i]));
  }
  for (unsigned i = 0; stats.kind_groups > 1 && i < stats.kind_groups; ++i) {
    text.add("  kind group %u: live %.1f MiB in %llu blocks\n", i, mib(stats.kind_live_bytes[i]),
             static_cast<unsigned long long>(stats.kind_live_blocks[i]));
  }
}

struct Report {
  int fd;
  bool json;
  bool ok;
};

// `held`: the caller holds the heap, so that its numbers can be exact and the audit can walk it.
void write_report(Heap &heap, bool held, Report &report) {
  ace_stats stats;
  fill_stats(heap, held, stats);
  Found found;
  if (held) {
    audit_heap(heap, found.audit, sizeof found.audit);
    found.live_page_bytes = count_live_pages(heap);
  }
  ReportText text;
  (report.json ? add_json : add_text)(text, heap, stats, held ? &found : nullptr);
  report.ok &= text.write_to(report.fd);
}

bool is_format(const char *format, bool *json) {
  *json = strcmp(format, "json") == 0;
  return *json || strcmp(format, "text") == 0;
}

}  // namespace

void ace::add_shared_report(TextBuffer &text, const Heap &heap) {
  ace_stats stats;
  fill_stats(heap, false, stats);
  add_json(text, heap, stats, nullptr);
}

extern "C" {

int ace_report(int fd, const char *format) noexcept {
  Report report{fd, false, true};
  if (!is_format(format, &report.json)) return -1;
  visit_heaps([](Heap &heap, void *context) { write_report(heap, false, *static_cast<Report *>(context)); },
              &report);
  return report.ok ? 0 : -1;
}

int ace_heap_report(ace_heap *heap, int fd, const char *format) noexcept {
  Report report{fd, false, true};
  if (!is_format(format, &report.json)) return -1;
  write_report(*heap, true, report);
  return report.ok ? 0 : -1;
}

}  // extern "C"
