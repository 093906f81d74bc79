// The shared pool, as tests empty it.
#pragma once
#include <vector>

#include "heap/superslab_pool.h"
#include "unit/fake_os.h"

namespace ace::test {

// Unmaps all that the pool keeps for later heaps, and what the system refused before; how many superslabs that
// were.
inline size_t empty_superslab_pool(FakeOs &os) {
  while (purge_released()) continue;
  std::vector<Superslab *> kept{acquire_superslab()};
  os.fail_always(OsCall::kMap);
  while (Superslab *superslab = acquire_superslab()) kept.push_back(superslab);
  // One whose pages do not go back is not kept.
  os.fail_always(OsCall::kPurge);
  for (Superslab *superslab : kept) release_superslab(superslab);
  os.fail_never();
  unmap_kept_superslabs();  // those with a guard page
  return kept.size();
}

}  // namespace ace::test
