#include <string>

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

}  // namespace
}  // namespace ace
