// Lines on standard error.
#include "base/say.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

namespace ace::test {
namespace {

TEST(Say, AFileThatIsAsLargeAsItMayBeEndsNoProcess) {
  char path[] = "/tmp/ace-say-XXXXXX";
  const int file = mkstemp(path);
  ASSERT_GE(file, 0);
  unlink(path);
  const auto speak = [file] {
    const rlimit most{0, 0};
    signal(SIGXFSZ, SIG_DFL);
    dup2(file, STDERR_FILENO);
    setrlimit(RLIMIT_FSIZE, &most);
    errno = 0;
    say("nobody reads this\n");
    _exit(errno);
  };
  EXPECT_EXIT(speak(), testing::ExitedWithCode(0), "");
  close(file);
}

}  // namespace
}  // namespace ace::test
