// Designs other than the default one, so that their worth can be measured: `-Dexperiment=NAME=VALUE,...` when a
// build folder is made, with the values that meson_options.txt lists. They are no user's options, and the
// default build has nothing of them: each is a constant, and what depends on it is compiled only where it says
// so. `bench/ablation` builds and compares them.
#pragma once

namespace ace {

// What this build was configured with, for reports; "" for the default.
#ifndef ACE_EXPERIMENT
#define ACE_EXPERIMENT ""
#endif
inline constexpr char kExperiment[] = ACE_EXPERIMENT;
inline constexpr bool kIsExperiment = sizeof kExperiment > 1;

// What a design adds to a struct of all builds: nothing but where it is compiled in.
template <bool kCompiledIn, typename T>
struct StateOf {
  T value;
  T *operator->() { return &value; }
  const T *operator->() const { return &value; }
};
template <typename T>
struct StateOf<false, T> {
  T *operator->() const { return nullptr; }  // never called
};

// Whose heaps this copy of the core makes. malloc: a whole program's threads, in libace-malloc.so; vm: all
// others.
#ifndef ACE_SERVES
#define ACE_SERVES vm
#endif
enum class Serves { vm, malloc };
inline constexpr bool kServesMalloc = Serves::ACE_SERVES == Serves::malloc;

// front_cache: the most blocks of a bin that the seed paper's front keeps on a list which mixes slabs
// (heap/front_cache.h). 0: there is none. It wins where threads of C programs free at random, and loses in VMs,
// which sweep (bench/README.md).
#ifndef ACE_EXPERIMENT_FRONT_CACHE
#define ACE_EXPERIMENT_FRONT_CACHE (kServesMalloc ? 128 : 0)
#endif
inline constexpr unsigned kFrontCache = ACE_EXPERIMENT_FRONT_CACHE;

// carve_batch: how many blocks a carve takes, about. 64: few enough not to touch memory long before it is used,
// many enough to pay for the refill. 1: exactly one, the seed paper's refill-one.
#ifndef ACE_EXPERIMENT_CARVE_BATCH
#define ACE_EXPERIMENT_CARVE_BATCH 64
#endif
inline constexpr unsigned kCarveBatch = ACE_EXPERIMENT_CARVE_BATCH;

// hints: 0: what the host says of its collections and rests is counted and nothing else.
#ifndef ACE_EXPERIMENT_HINTS
#define ACE_EXPERIMENT_HINTS 1
#endif
inline constexpr bool kHints = ACE_EXPERIMENT_HINTS;

// tiering: 0: superslabs that are little used are filled like any other, so that none drains.
#ifndef ACE_EXPERIMENT_TIERING
#define ACE_EXPERIMENT_TIERING 1
#endif
inline constexpr bool kTiering = ACE_EXPERIMENT_TIERING;

// eager_free: 0: empty superslabs go back to the shared pool by a trim alone, however many there are.
#ifndef ACE_EXPERIMENT_EAGER_FREE
#define ACE_EXPERIMENT_EAGER_FREE 1
#endif
inline constexpr bool kEagerFree = ACE_EXPERIMENT_EAGER_FREE;

// routes: tiny_first: slabs, above them page runs, above these mappings. tiny_only: no page runs. pool_only: no
// slabs.
#ifndef ACE_EXPERIMENT_ROUTES
#define ACE_EXPERIMENT_ROUTES tiny_first
#endif
enum class Routes { tiny_first, tiny_only, pool_only };
inline constexpr Routes kRoutes = Routes::ACE_EXPERIMENT_ROUTES;

// warm_pool: so many slabs of each bin are kept ready, assigned and claimed, and fetched together when the
// search for one had to be made: the seed paper's secondary prefill. 0: none. Reports count the hits and
// misses.
#ifndef ACE_EXPERIMENT_WARM_POOL
#define ACE_EXPERIMENT_WARM_POOL 0
#endif
inline constexpr unsigned kWarmPool = ACE_EXPERIMENT_WARM_POOL;

// prefix: head: the rows of a superslab's slabs stand in its head. tail: each at the end of its slab, as the
// seed paper has it; slabs hold less, and their last pages never go back to the system.
#ifndef ACE_EXPERIMENT_PREFIX
#define ACE_EXPERIMENT_PREFIX head
#endif
enum class Place { head, tail };
inline constexpr bool kTailPrefix = Place::ACE_EXPERIMENT_PREFIX == Place::tail;

// header: 16: before what its user gets, each block of a slab has a header, which names the bin while the block
// lives and holds the list's link and tag while it is free. Requests need so much more, aligned ones go to page
// runs, and a free without a size finds the bin in the header, not by the slab: it reads through whatever
// pointer it is given.
#ifndef ACE_EXPERIMENT_HEADER
#define ACE_EXPERIMENT_HEADER 0
#endif
inline constexpr unsigned kHeader = ACE_EXPERIMENT_HEADER;

// Hardened heaps (heap/red_zone.h) are made for the default's slabs alone.
inline constexpr bool kCanHarden = (kFrontCache == 0 || kServesMalloc) && kRoutes == Routes::tiny_first &&
                                   kWarmPool == 0 && !kTailPrefix && kHeader == 0;

}  // namespace ace
