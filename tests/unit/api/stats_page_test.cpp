// The statistics page: in children, as a process has one page. The hosts' tests have exit, exec and signals.
#include "api/stats_page.h"

#include <sys/resource.h>
#include <sys/wait.h>

#include <functional>

#include "os/process.h"
#include "unit/fake_os.h"
#include "unit/heap_test.h"
#include "unit/own_thread.h"
#include "unit/watcher.h"

namespace ace {
namespace {

using test::pages_of;
using test::thread_named;
using test::voluntary_switches;
using test::wait_until;
using test::Watcher;

// The value of a field in a heap's line.
uint64_t field(const std::string &text, const std::string &heap, const std::string &name) {
  const size_t line = text.find("{\"name\":\"" + heap + "\"");
  if (line == std::string::npos) return UINT64_MAX;
  const size_t at = text.find("\"" + name + "\":", line);
  return at == std::string::npos ? UINT64_MAX : strtoull(text.c_str() + at + name.size() + 3, nullptr, 10);
}

size_t heaps_in(const std::string &text) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find("{\"name\":", at)) != std::string::npos; ++at) ++count;
  return count;
}

class StatsPageTest : public testing::Test {
 protected:
  // What failed in a child with option `stats_page`, which holds no heap of the test's; "" where nothing did.
  static std::string in_child(const std::function<std::string()> &live) {
    int pipes[2];
    EXPECT_EQ(pipe(pipes), 0);
    const pid_t child = fork();
    if (child == 0) {
      alarm(120);
      ace_option_set("stats_page", "on");
      const std::string said = live();
      (void)!write(pipes[1], said.data(), said.size());
      _exit(0);
    }
    close(pipes[1]);
    char said[4096];
    ssize_t length = 0;
    for (ssize_t n; (n = read(pipes[0], said + length, sizeof said - static_cast<size_t>(length))) > 0;)
      length += n;
    close(pipes[0]);
    int status = 0;
    waitpid(child, &status, 0);
    for (const std::string &page : pages_of(child)) unlink(page.c_str());  // it ended by _exit
    return status == 0 ? std::string(said, static_cast<size_t>(length)) : "status " + std::to_string(status);
  }

  static ace_heap *heap_named(const char *name) {
    ace_heap_config config{};
    config.struct_size = sizeof config;
    config.name = name;
    config.flags = ACE_HEAP_NO_WORKER;
    return ace_heap_create(&config);
  }
};

#define REQUIRE(condition) \
  if (!(condition)) return "line " + std::to_string(__LINE__) + ": " #condition

TEST_F(StatsPageTest, WithoutTheOptionThereIsNone) {
  EXPECT_EQ(in_child([]() -> std::string {
              ace_option_set("stats_page", "off");
              ace_heap_free(heap_named("plain"), nullptr);
              REQUIRE(pages_of(getpid()).empty());
              REQUIRE(thread_named("ace-publisher") == 0);
              return "";
            }),
            "");
}

TEST_F(StatsPageTest, HoldsWhatTheStatisticsSay) {
  EXPECT_EQ(in_child([]() -> std::string {
              ace_heap *heap = heap_named("watched");
              for (int i = 0; i < 1000; ++i) REQUIRE(ace_heap_alloc(heap, 100) != nullptr);
              ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 0);
              name_host("a host");
              const auto pages = pages_of(getpid());
              REQUIRE(pages.size() == 1);
              struct stat info;
              REQUIRE(stat(pages[0].c_str(), &info) == 0 && (info.st_mode & 0777) == 0600);
              REQUIRE(info.st_blocks * 512 == std::max<off_t>(16 << 10, sysconf(_SC_PAGESIZE)));
              Watcher watcher(pages[0]);
              REQUIRE(memcmp(watcher.page().magic, "ACEstats", 8) == 0);
              REQUIRE(watcher.page().version == 1 && watcher.page().text_offset == 64);
              REQUIRE(watcher.page().process == static_cast<uint32_t>(getpid()));
              REQUIRE(watcher.page().started == process_start());
              const std::string text = watcher.ask();
              REQUIRE(text.find("{\"host\":\"a host\",\"pid\":" + std::to_string(getpid())) == 0);
              REQUIRE(text.find("\"command\":[\"") != std::string::npos);
              ace_stats stats;
              ace_heap_stats_shared(heap, &stats, sizeof stats);
              ace_field_info info_of;
              for (unsigned i = 0; ace_stats_field(i, &info_of) == 0; ++i) {
                uint64_t value;
                memcpy(&value, reinterpret_cast<const char *>(&stats) + info_of.offset, sizeof value);
                if (field(text, "watched", info_of.name) != value) return info_of.name;
              }
              REQUIRE(stats.phase == 3);  // collect
              REQUIRE(stats.live_bytes >= 100'000);
              return "";
            }),
            "");
}

TEST_F(StatsPageTest, NothingHappensWhileNobodyAsks) {
  EXPECT_EQ(in_child([]() -> std::string {
              ace_heap *heap = heap_named("watched");
              Watcher watcher(pages_of(getpid()).at(0));
              int thread = 0;  // it names itself
              REQUIRE(wait_until([&] { return (thread = thread_named("ace-publisher")) != 0; }));
              REQUIRE(!watcher.ask().empty());
              REQUIRE(watcher.page().sequence == 2);
              REQUIRE(wait_until([&] { return test::is_asleep(thread); }));
              const long switches = voluntary_switches(thread);
              for (int round = 0; round < 20; ++round) {
                std::vector<void *> blocks;
                for (int i = 0; i < 20'000; ++i) blocks.push_back(ace_heap_alloc(heap, 64));
                for (void *block : blocks) ace_heap_free(heap, block);
                ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 0);
                ace_hint(heap, ACE_HINT_COLLECT_END, 0);
                ace_heap_destroy(heap_named("other"));
              }
              REQUIRE(watcher.page().sequence == 2);
              REQUIRE(voluntary_switches(thread) == switches);
              REQUIRE(!watcher.ask().empty());
              REQUIRE(watcher.page().sequence == 4);
              return "";
            }),
            "");
}

TEST_F(StatsPageTest, GrowsWithTheHeaps) {
  EXPECT_EQ(in_child([]() -> std::string {
              std::vector<ace_heap *> heaps;
              for (int i = 0; i < 200; ++i) heaps.push_back(heap_named("many"));
              Watcher watcher(pages_of(getpid()).at(0));
              const std::string text = watcher.ask();
              REQUIRE(text.size() > 16 << 10);
              REQUIRE(text.substr(text.size() - 2) == "}\n");
              REQUIRE(heaps_in(text) >= 200 && watcher.page().left_out == 0);
              for (ace_heap *heap : heaps) ace_heap_destroy(heap);
              REQUIRE(heaps_in(watcher.ask()) < 200);
              return "";
            }),
            "");
}

TEST_F(StatsPageTest, HeapsForWhichThereIsNoRoomAreCounted) {
  EXPECT_EQ(in_child([]() -> std::string {
              static OsTable table = real_os();
              table.make_resident = [](void *, size_t) { return false; };
              replace_os(&table);
              for (int i = 0; i < 100; ++i) heap_named("many");
              Watcher watcher(pages_of(getpid()).at(0));
              const std::string text = watcher.ask();
              REQUIRE(text.size() < 16 << 10);
              REQUIRE(text.substr(text.size() - 2) == "}\n");
              REQUIRE(heaps_in(text) >= 3 && heaps_in(text) + watcher.page().left_out >= 100);
              return "";
            }),
            "");
}

TEST_F(StatsPageTest, AFullFolderIsToldOnceAndTheProcessGoesOn) {
  EXPECT_EQ(in_child([]() -> std::string {
              test::FakeOs fake;
              fake.fail_always(test::OsCall::kShare);
              testing::internal::CaptureStderr();
              ace_heap *heap = heap_named("first");
              REQUIRE(heap != nullptr && ace_heap_alloc(heap, 100) != nullptr);
              REQUIRE(heap_named("second") != nullptr);
              const std::string said = testing::internal::GetCapturedStderr();
              REQUIRE(pages_of(getpid()).empty());
              REQUIRE(said.find(" cannot be watched: /dev/shm/ace-stats.") != std::string::npos);
              REQUIRE(said.find(": No space left on device\n") == said.size() - 26);
              REQUIRE(fake.calls(test::OsCall::kShare) == 1);
              return "";
            }),
            "");
}

TEST_F(StatsPageTest, SoIsThatThereIsNoThread) {
  EXPECT_EQ(in_child([]() -> std::string {
              test::FakeOs fake;  // starts none
              testing::internal::CaptureStderr();
              REQUIRE(heap_named("first") != nullptr && heap_named("second") != nullptr);
              const std::string said = testing::internal::GetCapturedStderr();
              REQUIRE(said.find(" cannot be watched: a thread: the system gives none\n") != std::string::npos);
              REQUIRE(said.find('\n') == said.size() - 1);
              return "";
            }),
            "");
}

TEST_F(StatsPageTest, TheLimitOfFilesIsNoSignal) {
  EXPECT_EQ(in_child([]() -> std::string {
              rlimit little{4096, 4096};
              REQUIRE(setrlimit(RLIMIT_FSIZE, &little) == 0);
              REQUIRE(heap_named("first") != nullptr);
              REQUIRE(pages_of(getpid()).empty());
              return "";
            }),
            "");
}

TEST_F(StatsPageTest, AForkEndsTheThreadAndAHintBringsItBack) {
  EXPECT_EQ(in_child([]() -> std::string {
              ace_heap *heap = heap_named("watched");
              Watcher watcher(pages_of(getpid()).at(0));
              REQUIRE(!watcher.ask().empty());
              const pid_t child = fork();
              if (child == 0) _exit(thread_named("ace-publisher") == 0 ? 0 : 1);
              int status = -1;
              REQUIRE(waitpid(child, &status, 0) == child && status == 0);
              REQUIRE(thread_named("ace-publisher") == 0);
              ace_hint(heap, ACE_HINT_FORK_BEFORE, 0);
              REQUIRE(thread_named("ace-publisher") == 0);
              REQUIRE(watcher.page().sequence == 2);
              ace_hint(heap, ACE_HINT_IDLE_BEGIN, 0);
              REQUIRE(wait_until([] { return thread_named("ace-publisher") != 0; }));
              REQUIRE(!watcher.ask().empty());
              REQUIRE(watcher.page().sequence == 4);
              return "";
            }),
            "");
}

// Nobody asks in the child what the parent's page was asked.
TEST_F(StatsPageTest, TheChildOfAForkHasAPageOfItsOwn) {
  EXPECT_EQ(
      in_child([]() -> std::string {
        ace_heap *heap = heap_named("watched");
        const std::string of_parent = pages_of(getpid()).at(0);
        const pid_t parent = getpid();
        const std::string said = in_child([&]() -> std::string {
          REQUIRE(pages_of(getpid()).empty());
          ace_hint(heap, ACE_HINT_FORK_CHILD, 0);
          REQUIRE(pages_of(getpid()).empty());
          ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 0);
          const auto pages = pages_of(getpid());
          REQUIRE(pages.size() == 1 && pages_of(parent).size() == 1);
          Watcher own(pages[0]), other(of_parent);
          const uint32_t before = other.page().sequence;
          REQUIRE(own.ask().find("\"pid\":" + std::to_string(getpid()) + ",") != std::string::npos);
          REQUIRE(other.page().sequence == before && other.ask(1).empty());
          return "";
        });
        if (!said.empty()) return said;
        ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 0);
        REQUIRE(Watcher(of_parent).ask().find("\"pid\":" + std::to_string(parent) + ",") != std::string::npos);
        return "";
      }),
      "");
}

// Whose first thread is another: the process shall end with it.
TEST_F(StatsPageTest, TheChildOfAForkByAnotherThreadHasNone) {
  EXPECT_EQ(in_child([]() -> std::string {
              ace_heap *heap = heap_named("watched");
              std::string said;
              std::thread([&] {
                said = in_child([&]() -> std::string {
                  ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 0);
                  heap_named("new");
                  REQUIRE(pages_of(getpid()).empty() && thread_named("ace-publisher") == 0);
                  return "";
                });
              }).join();
              return said;
            }),
            "");
}

TEST_F(StatsPageTest, WhoMakesAPageRemovesThoseOfTheDead) {
  const pid_t gone = fork();
  if (gone == 0) _exit(0);
  ASSERT_EQ(waitpid(gone, nullptr, 0), gone);
  char name[128];
  snprintf(name, sizeof name, kPageName, process_namespace(), gone, 1ull);
  const std::string left = std::string(kPageFolder) + "/" + name;
  snprintf(name, sizeof name, kPageName, process_namespace(), getpid(), 1ull);
  const std::string living = std::string(kPageFolder) + "/" + name;
  for (const std::string &path : {left, living}) close(open(path.c_str(), O_CREAT | O_WRONLY, 0600));
  EXPECT_EQ(in_child([]() -> std::string {
              heap_named("watched");
              REQUIRE(pages_of(getpid()).size() == 1);
              return "";
            }),
            "");
  EXPECT_NE(access(left.c_str(), F_OK), 0);
  EXPECT_EQ(access(living.c_str(), F_OK), 0);
  unlink(left.c_str());
  unlink(living.c_str());
}

}  // namespace
}  // namespace ace
