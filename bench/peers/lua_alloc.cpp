// A rival's lua_Alloc: the thinnest possible over malloc, without phases.
#include <stdlib.h>

#include "lua/ace_lua.h"

extern "C" void *ace_lua_alloc(void *, void *ptr, size_t, size_t nsize) {
  if (nsize == 0) {
    free(ptr);
    return nullptr;
  }
  return ptr == nullptr ? malloc(nsize) : realloc(ptr, nsize);
}
