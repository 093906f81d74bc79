// A process that is watched while its heaps come and go, change, and it forks.
#include <sys/wait.h>

#include "stress/threads.h"
#include "unit/watcher.h"

namespace ace::test {
namespace {

TEST(WatchStress, EachAnswerIsWhole) {
  OptionGuard page("stats_page", "on");
  ace_heap *heap = ace_heap_create(nullptr);
  Watcher watcher(pages_of(getpid()).at(0));
  std::atomic<bool> over{false};
  std::atomic<unsigned> answers{0}, broken{0};
  std::vector<std::thread> watchers;
  for (int i = 0; i < 2; ++i) {
    watchers.emplace_back([&] {
      while (!over) {
        const std::string text = watcher.ask(1);  // nobody answers between a fork and the next hint
        if (text.empty()) continue;
        ++answers;
        broken += text.rfind("{\"host\":", 0) != 0 || text.substr(text.size() - 2) != "}\n";
      }
    });
  }
  Sizes sizes(1);
  for (unsigned round = 0; round < 400 / kSlowness || answers < 100; ++round) {
    ace_heap *other = ace_heap_create(nullptr);
    std::vector<void *> blocks;
    for (int i = 0; i < 200; ++i) {
      const size_t size = sizes.next();
      blocks.push_back(write_block(ace_heap_alloc(i % 2 == 0 ? heap : other, size), size));
    }
    ace_hint(other, ACE_HINT_COLLECT_BEGIN, 0);
    for (size_t i = 0; i < blocks.size(); i += 2) ace_heap_free(heap, blocks[i]);
    ace_hint(other, ACE_HINT_COLLECT_END, 0);
    ace_heap_destroy(other);
    // The thread sanitizer takes the order in which one fork locks all heaps for one that others must keep to.
    if (kSlowness == 1 && round % 50 == 0) {
      const pid_t child = fork();
      if (child == 0) _exit(0);
      waitpid(child, nullptr, 0);
    }
  }
  over = true;
  ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 0);
  for (std::thread &one : watchers) one.join();
  EXPECT_EQ(broken, 0u);
  EXPECT_EQ(audit(heap), "");
  ace_heap_destroy(heap);
}

}  // namespace
}  // namespace ace::test
