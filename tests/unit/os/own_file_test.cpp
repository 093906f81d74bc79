#include "os/own_file.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>
#include <sstream>
#include <string>

namespace ace {
namespace {

class OwnFileTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(mkdtemp(folder_), nullptr); }
  void TearDown() override {
    unlink(path("mine").c_str());
    unlink(path("theirs").c_str());
    rmdir(folder_);
  }
  std::string path(const char *name) const { return std::string(folder_) + "/" + name; }
  std::string contents(const char *name) const {
    std::ostringstream text;
    text << std::ifstream(path(name)).rdbuf();
    return text.str();
  }

 private:
  char folder_[32] = "/tmp/ace-own-file-XXXXXX";
};

// As a program that goes to the background does.
TEST_F(OwnFileTest, NothingGoesIntoAFileThatTookItsNumber) {
  const int number = ::open("/dev/null", O_RDONLY | O_CLOEXEC);  // the lowest that is free, which comes next
  ::close(number);
  OwnFile file;
  ASSERT_TRUE(file.open(path("mine").c_str(), O_CREAT | O_EXCL));
  EXPECT_TRUE(file.write("one ", 4));
  ASSERT_EQ(::close(number), 0);
  EXPECT_FALSE(file.is_open());
  const int theirs = ::open(path("theirs").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_EQ(theirs, number);
  EXPECT_FALSE(file.is_open());
  EXPECT_FALSE(file.write("two ", 4));
  EXPECT_EQ(errno, EBADF);
  EXPECT_TRUE(file.open_again(path("mine").c_str()));
  EXPECT_TRUE(file.write("two ", 4));
  file.close();
  EXPECT_EQ(fcntl(theirs, F_GETFD), FD_CLOEXEC) << "theirs is still open";
  ::close(theirs);
  EXPECT_EQ(contents("mine"), "one two ");
  EXPECT_EQ(contents("theirs"), "");
}

TEST_F(OwnFileTest, IsNotOpenedAgainWhereAnotherHasItsName) {
  OwnFile file;
  ASSERT_TRUE(file.open(path("mine").c_str(), O_CREAT | O_EXCL));
  ASSERT_EQ(rename(path("mine").c_str(), path("theirs").c_str()), 0);
  std::ofstream(path("mine")) << "new";
  EXPECT_TRUE(file.write("old", 3));  // it is the same file under whatever name
  EXPECT_FALSE(file.open_again(path("mine").c_str()));
  EXPECT_EQ(errno, ESTALE);
  file.close();
  EXPECT_EQ(contents("mine"), "new");
  EXPECT_EQ(contents("theirs"), "old");
}

}  // namespace
}  // namespace ace
