#include <atomic>
#include <string>
#include <thread>

#include "unit/heap_test.h"

namespace ace {
namespace {

TEST(Library, VersionsAreTheHeaders) {
  EXPECT_EQ(ace_abi_version(), unsigned{ACE_ABI_VERSION});
  EXPECT_EQ(ace_version(), std::to_string(ACE_VERSION_MAJOR) + "." + std::to_string(ACE_VERSION_MINOR) + "." +
                               std::to_string(ACE_VERSION_PATCH));
}

TEST(Library, ErrorHandlersMayBeReplaced) {
  int local = 0, first = 0, second = 0;
  auto count = [](const ace_error *, void *context) { ++*static_cast<int *>(context); };
  ace_set_error_handler(count, &first);
  ace_free(&local);
  ace_set_error_handler(count, &second);
  ace_free(&local);
  ace_free(&local);
  ace_set_error_handler(nullptr, nullptr);
  EXPECT_EQ(first, 1);
  EXPECT_EQ(second, 2);
}

TEST(Library, AnErrorHandlerGetsItsOwnContext) {
  static int first, second;
  static std::atomic<int> mixed;
  mixed = 0;
  auto set_first = [] {
    ace_set_error_handler([](const ace_error *, void *context) { mixed += context != &first; }, &first);
  };
  auto set_second = [] {
    ace_set_error_handler([](const ace_error *, void *context) { mixed += context != &second; }, &second);
  };
  set_first();
  std::atomic<bool> over{false};
  std::thread wrong([&] {
    int local = 0;
    for (int i = 0; i < 500'000; ++i) ace_free(&local);
    over = true;
  });
  while (!over) set_second(), set_first();
  wrong.join();
  ace_set_error_handler(nullptr, nullptr);
  EXPECT_EQ(mixed, 0);
}

}  // namespace
}  // namespace ace
