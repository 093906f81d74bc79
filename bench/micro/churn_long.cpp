// churn-long: fragmentation over time. Sizes are log-normal around a mean that walks, lifetimes are exponential
// (who dies is drawn evenly from all that live), and a few blocks never die.
#include <math.h>
#include <stdio.h>

#include <algorithm>
#include <memory>

#include "pattern.h"
#include "random.h"
#include "workload.h"

namespace micro {
namespace {

constexpr unsigned kTable = 4096;  // quantiles of the size's distribution
constexpr double kSpread = 0.7;    // of the logarithm of the size
constexpr double kMeanLeast = 64, kMeanMost = 1024;
constexpr unsigned kStride = 1 << 12;   // operations between two looks at the clock
constexpr double kStepsASecond = 10;    // of the mean
constexpr unsigned kImmortal = 10'000;  // one in so many never dies, as long as they are a tenth of all bytes

// The sizes around the present mean, as a table that is drawn from.
class Sizes {
 public:
  Sizes() {
    for (unsigned i = 0; i < kTable; ++i) factors_[i] = exp(kSpread * quantile((i + 0.5) / kTable));
    walk(0);
  }

  // Moves the mean by a factor of up to e^0.2, and reflects it at its bounds.
  void step(Random &random) { walk((random.below(2001) / 1000.0 - 1) * 0.2); }

  [[gnu::always_inline]] uint32_t draw(Random &random) const { return sizes_[random.next() >> 52]; }

 private:
  // The normal distribution's, by bisection of erfc.
  static double quantile(double share) {
    double low = -8, high = 8;
    while (high - low > 1e-9) {
      const double middle = (low + high) / 2;
      (0.5 * erfc(-middle / sqrt(2.0)) < share ? low : high) = middle;
    }
    return low;
  }

  void walk(double by) {
    log_mean_ += by;
    if (log_mean_ < log(kMeanLeast)) log_mean_ = 2 * log(kMeanLeast) - log_mean_;
    if (log_mean_ > log(kMeanMost)) log_mean_ = 2 * log(kMeanMost) - log_mean_;
    for (unsigned i = 0; i < kTable; ++i) {
      sizes_[i] = static_cast<uint32_t>(std::clamp(exp(log_mean_) * factors_[i], 16.0, 65536.0));
    }
  }

  double factors_[kTable];
  uint32_t sizes_[kTable];
  double log_mean_ = log(256);
};

struct State {
  void **blocks;  // the size of each stands in its first word
  size_t capacity, length = 0;
  uint64_t target, live = 0, immortal = 0;
  void *first_immortal = nullptr;  // a chain through their second words
  Random random;
  Sizes sizes = {};
  uint64_t bytes = 0, ops = 0, bad = 0;
};

template <class Api>
[[gnu::always_inline]] inline void drop(const Api &api, State &state, void *p) {
  const uint64_t size = size_in(p);
  // A damaged size must not be used as one.
  if (size > 65536) [[unlikely]]
    Run::verify(1);
  state.bad |= damage(p, size);
  state.live -= size;
  api.release(p, size);
}

template <class Api>
[[gnu::noinline]] void churn(const Api api, State &state, unsigned count) {
  Random random = state.random;
  uint64_t bytes = 0, ops = count;
  for (unsigned i = 0; i < count; ++i) {
    const uint32_t size = state.sizes.draw(random);
    while (state.length != 0 && (state.live + size > state.target || state.length == state.capacity)) {
      const uint32_t victim = random.below(static_cast<uint32_t>(state.length));
      void *p = state.blocks[victim];
      state.blocks[victim] = state.blocks[--state.length];
      drop(api, state, p);
      ++ops;
    }
    void *p = checked(api.allocate(size));
    fill_pages(p, size);
    state.live += size;
    bytes += size;
    if (size >= 32 && random.below(kImmortal) == 0 && state.immortal < state.target / 10) [[unlikely]] {
      memcpy(static_cast<char *>(p) + 8, &state.first_immortal, sizeof(void *));
      state.first_immortal = p;
      state.immortal += size;
    } else {
      state.blocks[state.length++] = p;
    }
  }
  state.random = random;
  state.bytes += bytes;
  state.ops += ops;
}

// A line a second; nothing without a file.
class Series {
 public:
  explicit Series(const Run &run) : run_(run) {
    if (run.series().empty()) return;
    file_.reset(fopen(run.series().c_str(), "w"));
    if (file_ == nullptr) throw UsageError("cannot write " + run.series());
    fprintf(file_.get(), "seconds,resident,live\n");
    fflush(file_.get());
  }

  void sample(double seconds, uint64_t live) {
    if (file_ == nullptr || seconds < next_) return;
    fprintf(file_.get(), "%.3f,%llu,%llu\n", seconds, static_cast<unsigned long long>(run_.resident()),
            static_cast<unsigned long long>(live));
    fflush(file_.get());
    next_ += 1;
  }

 private:
  struct Close {
    void operator()(FILE *file) const { fclose(file); }
  };
  const Run &run_;
  std::unique_ptr<FILE, Close> file_;
  double next_ = 0;
};

// The mean walks with the clock and by a die of its own: at every moment, all allocators see the same sizes.
template <class Api>
void churn_for(const Api &api, State &state, double seconds, Series &series, Random walk) {
  const double start = now();
  double passed = 0, steps = 1;
  while (passed < seconds) {
    series.sample(passed, state.live);
    churn(api, state, kStride);
    passed = now() - start;
    for (; steps < passed * kStepsASecond; ++steps) state.sizes.step(walk);
  }
  series.sample(passed, state.live);
}

// Under the first sizes, without samples.
template <class Api>
void warm_up(const Api &api, State &state, double seconds) {
  const double end = now() + seconds;
  while (now() < end) churn(api, state, kStride);
}

void churn_long(Run &run) {
  const auto seconds = static_cast<double>(run.number(0));
  Series series(run);
  // No mean is so small that there are more blocks than this.
  const size_t capacity = run.number(1) / 32;
  OwnArray<void *> blocks(capacity);
  OwnArray<State> place(1);
  State &state = *new (place.data()) State{
      .blocks = blocks.data(), .capacity = capacity, .target = run.number(1), .random = Random(run.number(2))};
  run.allocator().with_api([&](const auto &api) {
    while (state.length < capacity && state.live + 65536 < state.target) churn(api, state, 1);
    warm_up(api, state, seconds / 20);
    state.bytes = state.ops = 0;
    run.start();
    churn_for(api, state, seconds, series, Random(~run.number(2)));
    run.stop({.ops = state.ops, .bytes = state.bytes, .live = state.live});
    while (state.length > 0) drop(api, state, state.blocks[--state.length]);
    while (state.first_immortal != nullptr) {
      void *p = state.first_immortal;
      memcpy(&state.first_immortal, static_cast<char *>(p) + 8, sizeof(void *));
      drop(api, state, p);
    }
    Run::verify(state.bad | state.live);
  });
}

}  // namespace

const Workload kChurnLong = {
    .name = "churn-long",
    .meaning = "SECONDS of sizes that drift, exponential lifetimes and a few immortals, LIVE_BYTES live",
    .parameters = {{"SECONDS", "60", 1, 1'000'000},
                   {"LIVE_BYTES", "100000000", 1'000'000, 100'000'000'000},
                   {"SEED", "42"}},
    .run = churn_long,
    .has_series = true,
    .by_clock = true};

}  // namespace micro
