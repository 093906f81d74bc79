// Reports. JSON is parsed by python3, which is no friend of ours.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

#include "unit/heap_test.h"

namespace ace {
namespace {

using test::HeapTest;

class Report : public HeapTest {
 protected:
  Report() { strcpy(path, "/tmp/ace-report-XXXXXX"), fd = mkstemp(path); }
  ~Report() override {
    close(fd);
    unlink(path);
  }
  std::string text() {
    std::string all(1 << 20, '\0');
    ssize_t n = pread(fd, all.data(), all.size(), 0);
    all.resize(n > 0 ? static_cast<size_t>(n) : 0);
    return all;
  }
  // Runs `program` with `lines`, the parsed report, and says what it printed.
  std::string python(const std::string &program) {
    const std::string command = "python3 -c '\nimport json\nlines = [json.loads(l) for l in open(\"" +
                                std::string(path) + "\")]\n" + program + "' 2>&1";
    FILE *pipe = popen(command.c_str(), "r");
    char out[4096] = "";
    size_t n = fread(out, 1, sizeof out - 1, pipe);
    pclose(pipe);
    return {out, n};
  }
  void make_named(const char *name) {
    ace_heap_destroy(heap);
    ace_heap_config config{};
    config.struct_size = sizeof config;
    config.name = name;
    config.kind_groups = 2;
    heap = ace_heap_create(&config);
  }

  char path[32];
  int fd;
};

TEST_F(Report, PagesWithLiveBlocks) {
  // 64 blocks a page; those of 20,000 bytes have 5 pages each.
  auto blocks = fill(640, 64);
  fill(2, 20'000);
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (i % 64 != 0 || i >= 256) ace_heap_free(heap, blocks[i]);
  }
  ASSERT_EQ(ace_heap_report(heap, fd, "json"), 0);
  ace_trim(heap, SIZE_MAX);
  ASSERT_EQ(ace_heap_report(heap, fd, "json"), 0);
  EXPECT_EQ(
      python("print(*[l[\"live_page_bytes\"] / 4096 for l in lines], lines[1][\"resident_bytes\"] / 4096)"),
      "14.0 14.0 14.0\n");
}

TEST_F(Report, JsonHoldsEveryField) {
  make_named("json");
  fill(10, 64, 1);
  fill(2, 20'000);
  ASSERT_EQ(ace_heap_report(heap, fd, "json"), 0);
  EXPECT_EQ(python("line, = lines\n"
                   "print(line[\"name\"], line[\"pid\"] > 0, line[\"audit\"], line[\"live_blocks\"], "
                   "line[\"mid_live_blocks\"],"
                   " sorted(line[\"phases\"]), [k[\"live_blocks\"] for k in line[\"kinds\"]])"),
            "json True ok 12 2 ['burst', 'collect', 'idle', 'mark', 'run', 'sweep'] [0, 10]\n");
  std::string names;
  ace_field_info info;
  for (unsigned i = 0; ace_stats_field(i, &info) == 0; ++i) names += std::string(info.name) + " ";
  EXPECT_EQ(python("print(set(\"" + names + "\".split()) - set(lines[0]))"), "set()\n");
}

TEST_F(Report, NamesAreQuoted) {
  make_named("a \"b\" \\ \n\x01 c");
  ASSERT_EQ(ace_heap_report(heap, fd, "json"), 0);
  EXPECT_EQ(python("print(repr(lines[0][\"name\"]))"), "'a \"b\" \\\\ \\n c'\n");
}

TEST_F(Report, AllHeapsALineEach) {
  make_named("one of them");
  ASSERT_EQ(ace_report(fd, "json"), 0);
  EXPECT_EQ(python("print([l[\"name\"] for l in lines].count(\"one of them\"), len(lines) >= 1)"), "1 True\n");
}

TEST_F(Report, ABrokenInvariantIsInTheReport) {
  fill(10, 64);
  heap->counters.faulted_bytes.add(1);
  ASSERT_EQ(ace_heap_report(heap, fd, "text"), 0);
  heap->counters.faulted_bytes.subtract(1);
  EXPECT_THAT(text(), testing::HasSubstr("audit: faulted bytes: counted"));
}

TEST_F(Report, TextForPeople) {
  make_named("people");
  fill(100'000, 64);
  ASSERT_EQ(ace_heap_report(heap, fd, "text"), 0);
  EXPECT_THAT(text(), testing::HasSubstr("heap \"people\""));
  EXPECT_THAT(text(), testing::HasSubstr("live 6.1 MiB in 100000 blocks"));
  EXPECT_THAT(text(), testing::HasSubstr("audit: ok"));
}

TEST_F(Report, BadInput) {
  EXPECT_EQ(ace_report(fd, "xml"), -1);
  EXPECT_EQ(ace_report(fd, ""), -1);
  EXPECT_EQ(ace_heap_report(heap, fd, "JSON"), -1);
  EXPECT_EQ(text(), "");
  EXPECT_EQ(ace_report(-1, "text"), -1);
  EXPECT_EQ(ace_heap_report(heap, -1, "json"), -1);
  const int full = open("/dev/full", O_WRONLY);
  EXPECT_EQ(ace_report(full, "text"), -1);
  close(full);
}

}  // namespace
}  // namespace ace
