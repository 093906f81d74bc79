#include "replay.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <stdexcept>

#include "memory.h"
#include "targets.h"
#include "trace/live_blocks.h"

namespace ace::replay {
namespace {

uint64_t clock_ns(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(t.tv_nsec);
}

struct Slot {
  std::byte *block;
  size_t size;
};

// How often each number of nanoseconds was seen.
class Latencies {
 public:
  explicit Latencies(bool wanted) : counts_(wanted ? kMost + 1 : 0) {}
  void note(uint64_t ns) { ++counts_[std::min<uint64_t>(ns, kMost)]; }
  void write(FILE *file) const {
    const char *comma = "";
    fputc('[', file);
    for (size_t ns = 0; ns < counts_.size(); ++ns) {
      if (counts_[ns] == 0) continue;
      fprintf(file, "%s[%zu,%llu]", comma, ns, static_cast<unsigned long long>(counts_[ns]));
      comma = ",";
    }
    fputc(']', file);
  }

 private:
  static constexpr size_t kMost = size_t{1} << 22;  // 4 ms; what takes longer counts as this
  Room<uint64_t> counts_;
};

// Numbers the pages in the order of their first use: where blocks lie, whatever the system's addresses are.
class Placement {
 public:
  void note(const void *p) {
    const auto address = reinterpret_cast<uintptr_t>(p);
    const uint64_t page = address >> kPageBits;
    const uint32_t *known = pages_.get(page);
    const uint32_t number = known != nullptr ? *known : static_cast<uint32_t>(pages_.size());
    if (known == nullptr) pages_.put(page, number);
    add(number);
    add(address & ((1u << kPageBits) - 1));
  }
  uint64_t hash() const { return hash_; }

 private:
  void add(uint64_t n) { hash_ = (hash_ ^ n) * 0x100000001b3; }
  static constexpr unsigned kPageBits = 12;
  trace::LiveBlocks<uint32_t> pages_;
  uint64_t hash_ = 0xcbf29ce484222325;
};

enum Call { kAllocCall, kFreeCall, kResizeCall, kCalls };
constexpr const char *kCallNames[kCalls] = {"alloc", "free", "realloc"};

template <class Target, bool kTimed>
class Replay {
 public:
  Replay(const Plan &plan, const Settings &settings, Target &target)
      : plan_(plan),
        settings_(settings),
        target_(target),
        slots_(plan.header().slots),
        samples_(kSamplesMax),
        page_maps_{PageMap(settings.pages), PageMap(settings.pages)},
        latencies_{Latencies(kTimed), Latencies(kTimed), Latencies(kTimed)},
        sample_us_(plan.header().microseconds / kSamples + 1) {}

  void run() {
    if (settings_.pages) note_resident_pages_of_before(before_);
    const Resident begin = resident_bytes();
    base_ = begin.anonymous;
    start_ = begin.all - slots_.bytes() - samples_.bytes();
    rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    faults_ = usage.ru_minflt;
    began_ = clock_ns(CLOCK_MONOTONIC);
    processor_ns_ = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    sample();
    const Step *stop = plan_.begin();
    if (settings_.pages) {
      stop = play(stop, plan_.begin() + plan_.header().before_step);
      take_pages(page_maps_[0]);
      stop = play(stop, plan_.begin() + plan_.header().after_step);
      take_pages(page_maps_[1]);
    }
    play(stop, plan_.end());
    processor_ns_ = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - processor_ns_;
    getrusage(RUSAGE_SELF, &usage);
    faults_ = usage.ru_minflt - faults_;
    sample();
  }

  void write(FILE *file) const {
    const PlanHeader &header = plan_.header();
    fprintf(file, "{\"trace_seconds\":%.6f,\"processor_seconds\":%.9f,\"faults\":%lld,",
            static_cast<double>(header.microseconds) / 1e6, static_cast<double>(processor_ns_) / 1e9,
            static_cast<long long>(faults_));
    fprintf(file, "\"placement\":\"%016llx\",\"start_bytes\":%llu,", ull(placement_.hash()), ull(start_));
    fprintf(file, "\"samples\":[");
    for (size_t i = 0; i < sample_count_; ++i)
      fprintf(file, "%s[%llu,%llu,%llu]", i == 0 ? "" : ",", ull(samples_[i].at_us), ull(samples_[i].resident),
              ull(samples_[i].live));
    fputc(']', file);
    if (kTimed) {
      for (int call = 0; call < kCalls; ++call) {
        fprintf(file, "%s\"%s\":", call == 0 ? ",\"latency\":{" : ",", kCallNames[call]);
        latencies_[call].write(file);
      }
      fputc('}', file);
    }
    if (settings_.pages) {
      fprintf(file, ",\"pages\":{\"before\":\"");
      page_maps_[0].write(file);
      fprintf(file, "\",\"after\":\"");
      page_maps_[1].write(file);
      fprintf(file, "\"}");
    }
    fputs("}\n", file);
  }

 private:
  struct Sample {
    uint64_t at_us, resident, live;
  };
  static constexpr size_t kSamples = 1000, kSamplesMax = 16 * kSamples;
  static constexpr size_t kLine = 64;

  static unsigned long long ull(uint64_t n) { return n; }

  const Step *play(const Step *step, const Step *end) {
    uint64_t high = 0;
    for (; step < end; ++step) {
      const uint64_t size = high | step->size();
      high = 0;
      switch (step->type()) {
        case StepType::kAlloc:
          allocate(slots_[step->number()], size, step->kind(), false);
          break;
        case StepType::kZeroed:
          allocate(slots_[step->number()], size, step->kind(), true);
          break;
        case StepType::kFree:
          release(slots_[step->number()]);
          break;
        case StepType::kRealloc:
          resize(slots_[step->number()], size);
          break;
        case StepType::kHint:
          target_.hint(step->number(), size);
          break;
        case StepType::kHeap:
          target_.enter(step->number());
          break;
        case StepType::kEndHeap:
          target_.leave(step->number());
          break;
        case StepType::kTime:
          pass(size, step);
          break;
        case StepType::kHigh:
          high = uint64_t{step->size()} << 32;
          break;
      }
    }
    return step;
  }

  // As a program uses its memory: what is new is written to, what is freed was looked at.
  static void touch(std::byte *block, size_t from, size_t to) {
    for (size_t at = from; at < to; at += kLine) static_cast<volatile std::byte *>(block)[at] = std::byte{1};
  }

  template <class Function>
  auto call(Call which, Function &&function) {
    if constexpr (kTimed) {
      const uint64_t begin = clock_ns(CLOCK_MONOTONIC);
      auto result = function();
      latencies_[which].note(clock_ns(CLOCK_MONOTONIC) - begin);
      return result;
    } else {
      return function();
    }
  }

  void allocate(Slot &slot, size_t size, unsigned kind, bool zeroed) {
    void *p = call(kAllocCall, [&] { return zeroed ? target_.zeroed(size, kind) : target_.alloc(size, kind); });
    slot = {checked(p), size};
    live_ += size;
    if (!zeroed) touch(slot.block, 0, size);
    if (settings_.placement) placement_.note(p);
  }

  void release(Slot &slot) {
    static_cast<volatile std::byte *>(slot.block)[0];
    live_ -= slot.size;
    call(kFreeCall, [&] { return target_.release(slot.block, slot.size), 0; });
    slot.block = nullptr;
  }

  void resize(Slot &slot, size_t size) {
    void *p = call(kResizeCall, [&] { return target_.resize(slot.block, slot.size, size); });
    const size_t old = slot.size;
    slot = {checked(p), size};
    live_ += size - old;
    if (size > old) touch(slot.block, old, size);
    if (settings_.placement) placement_.note(p);
  }

  static std::byte *checked(void *p) {
    if (p == nullptr)
      throw std::runtime_error("the allocator had no memory: the run needed more than there is");
    return static_cast<std::byte *>(p);
  }

  // So much time of the trace. Memory may go back while the program does nothing, hence the looks meanwhile.
  void pass(uint64_t us, const Step *step) {
    if (us >= sample_us_) sample();
    for (uint64_t part; us != 0; us -= part) {
      part = std::min(us, sample_us_);
      now_us_ += part;
      target_.pass(now_us_);
      if (!settings_.fast) wait();
      if (now_us_ >= last_sample_us_ + sample_us_ || live_ > sampled_live_ + sampled_live_ / 64) sample();
    }
    if (settings_.has_progress) tell_progress(step);
  }

  void tell_progress(const Step *step) {
    const auto percent = static_cast<int>((step - plan_.begin()) * 100 / (plan_.end() - plan_.begin()));
    if (percent == percent_) return;
    percent_ = percent;
    char line[32];
    const int length = snprintf(line, sizeof line, "progress %d\n", percent);
    if (::write(STDOUT_FILENO, line, static_cast<size_t>(length)) < 0)
      throw std::runtime_error(strerror(errno));
  }

  // Until the program was as far; who replays more slowly than it ran does not wait.
  void wait() const {
    constexpr uint64_t kNotWorthIt = 200'000;
    const uint64_t due = began_ + now_us_ * 1000;
    if (due < clock_ns(CLOCK_MONOTONIC) + kNotWorthIt) return;
    const timespec until{static_cast<time_t>(due / 1'000'000'000), static_cast<long>(due % 1'000'000'000)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
    }
  }

  void sample() {
    sampled_live_ = std::max(sampled_live_, live_);
    last_sample_us_ = now_us_;
    if (sample_count_ == kSamplesMax) return;
    const uint64_t bytes = resident_bytes().anonymous;
    samples_[sample_count_++] = {now_us_, bytes > base_ ? bytes - base_ : 0, live_};
  }

  void take_pages(PageMap &map) {
    map.begin();
    for (size_t i = 0; i < plan_.header().slots; ++i) {
      if (slots_[i].block != nullptr) map.add(slots_[i].block, slots_[i].size);
    }
    map.end(before_);
  }

  const Plan &plan_;
  const Settings &settings_;
  Target &target_;
  Room<Slot> slots_;
  Room<Sample> samples_;
  size_t sample_count_ = 0;
  PagesOfBefore before_;
  PageMap page_maps_[2];
  Latencies latencies_[kCalls];
  Placement placement_;
  uint64_t base_ = 0, start_ = 0, live_ = 0, sampled_live_ = 0;
  uint64_t now_us_ = 0, last_sample_us_ = 0, sample_us_;
  uint64_t began_ = 0, processor_ns_ = 0;
  long faults_ = 0;
  int percent_ = -1;
};

template <class Target>
void replay_on(Target target, const Plan &plan, const Settings &settings, FILE *file) {
  if (settings.latency) {
    Replay<Target, true> run(plan, settings, target);
    run.run();
    run.write(file);
  } else {
    Replay<Target, false> run(plan, settings, target);
    run.run();
    run.write(file);
  }
}

void choose(const Plan &plan, const Settings &settings, FILE *file) {
  const std::string &name = settings.target;
  const size_t heaps = plan.header().heaps;
  if (name == "malloc" || name == "hinted")
    return replay_on(MallocTarget(name == "hinted"), plan, settings, file);
  if (name == "luajit") return replay_on(LuajitTarget(settings.library, heaps), plan, settings, file);
  if (name == "pymalloc") return replay_on(PymallocTarget(), plan, settings, file);
  if (name == "none") return replay_on(NoTarget(), plan, settings, file);
  if (name != "ace") throw std::runtime_error("there is no target " + name);
  if (settings.fast) use_clock_of_trace();
  replay_on(AceTarget(heaps, settings.sweeps), plan, settings, file);
}

}  // namespace

void replay(const Plan &plan, const Settings &settings, const std::string &result) {
  FILE *file = fopen(result.c_str(), "w");
  if (file == nullptr) throw std::runtime_error(result + ": " + strerror(errno));
  // Its own buffer would come from the allocator.
  static char buffer[size_t{1} << 16];
  setvbuf(file, buffer, _IOFBF, sizeof buffer);
  choose(plan, settings, file);
  if (ferror(file) != 0 || fclose(file) != 0) throw std::runtime_error(result + ": " + strerror(errno));
}

}  // namespace ace::replay
