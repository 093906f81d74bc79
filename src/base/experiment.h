// Designs other than the default one, so that their worth can be measured: `-Dexperiment=NAME=VALUE,...` when the
// build folder is made, each value as in meson_options.txt. No user's options: the hot path has no branch for them.
// `bench/ablation` builds and compares them. Everything below is a constant, and the default build has none of it.
#pragma once
#include <cstddef>

namespace ace {

// What this build was configured with, as text; empty where it is the default.
#ifndef ACE_EXPERIMENT
#define ACE_EXPERIMENT ""
#endif
inline constexpr char kExperiment[] = ACE_EXPERIMENT;
inline constexpr bool kIsExperiment = sizeof kExperiment > 1;

}  // namespace ace
