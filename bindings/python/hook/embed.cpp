// The way in for those who embed CPython: they call where the preloaded library has a constructor.
#include "python/ace_python.h"

#include "preload/hosts.h"
#include "python/hook/hook.h"

using namespace ace::python;

const char *ace_python_install() noexcept {
  static bool installed;
  if (installed) {
    install_again();
    return nullptr;
  }
  const ace::preload::Entry entry = enter_cpython();
  installed = entry.result == ace::preload::Entry::kEntered;
  if (installed) return nullptr;
  return entry.result == ace::preload::Entry::kNotThisHost ? "this program has no CPython" : entry.detail;
}

ace_heap *ace_python_heap() noexcept { return standing().vm_heap; }
