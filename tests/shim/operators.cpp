// C++'s operators, in all forms, on the malloc below them.
#include <dlfcn.h>
#include <malloc.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <thread>
#include <vector>

namespace {

volatile std::size_t huge = SIZE_MAX / 4;
int handled;

void check(bool condition, const char *what) {
  if (condition) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::_Exit(1);
}
#define EXPECT(condition) check(condition, #condition)

struct alignas(256) Wide {
  char bytes[300];
};

}  // namespace

int main() {
  std::set_new_handler([] {
    if (++handled == 3) std::set_new_handler(nullptr);
  });
  bool thrown = false;
  try {
    void *p = ::operator new(huge);
    ::operator delete(p);
  } catch (const std::bad_alloc &) {
    thrown = true;
  }
  EXPECT(thrown && handled == 3);
  EXPECT(::operator new(huge, std::nothrow) == nullptr);
  // The plain ones are the library's own, with no step between.
  for (const char *name : {"_Znwm", "_Znam", "_ZdlPv", "_ZdaPv", "_ZdlPvm", "_ZdaPvm"}) {
    Dl_info info;
    EXPECT(dladdr(dlsym(RTLD_DEFAULT, name), &info) != 0 &&
           std::strstr(info.dli_fname, "libace-malloc") != nullptr);
  }
  EXPECT(::operator new[](huge, std::align_val_t{64}, std::nothrow) == nullptr);

  auto *wide = new Wide[3];
  EXPECT(reinterpret_cast<std::uintptr_t>(wide) % 256 == 0);
  delete[] wide;
  ::operator delete (::operator new(100), std::size_t{100});
  ::operator delete[](::operator new[](100), std::size_t{100});
  ::operator delete (::operator new (100, std::align_val_t{4096}), std::size_t{100}, std::align_val_t{4096});
  void *p = ::operator new(100);
  EXPECT(malloc_usable_size(p) >= 100 && malloc_usable_size(p) < 200);
  ::operator delete(p, std::nothrow);

  std::vector<std::thread> threads;
  std::vector<std::string> texts(8);
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&, i] {
      for (int j = 0; j < 20000; ++j) texts[i] += std::to_string(j);
    });
  for (auto &thread : threads) thread.join();
  for (auto &text : texts) EXPECT(text == texts[0] && text.size() == 88890);
}
