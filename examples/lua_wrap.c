/* Puts a program that embeds Lua on ACE without a change to it, at link time: for programs that hold their Lua
 * themselves and are linked statically or stripped, where no preloaded library finds the way in.
 *
 *     cc -c $(pkg-config --cflags lua5.4 ace-lua) lua_wrap.c
 *     cc -static -s -Wl,--wrap=luaL_newstate app.o lua_wrap.o -lace-lua -lace ... -o app
 *
 * Every call of luaL_newstate in the program's own files comes here. (--wrap=lua_newstate would miss LuaJIT's,
 * which calls it within its one object.) Compile it with the headers of the Lua that is linked. */
#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <stdlib.h>

#include "ace_lua.h"

lua_State *__wrap_luaL_newstate(void);

/* As luaL_newstate's own: says what went wrong before Lua aborts. */
static int panic(lua_State *L) {
  const char *message = lua_tostring(L, -1);
  fprintf(stderr, "PANIC: unprotected error in call to Lua API (%s)\n",
          message != NULL ? message : "no message");
  return 0;
}

#if LUA_VERSION_NUM >= 504
/* Warnings are off until warn("@on"), as luaL_newstate has them. */
static void warn_off(void *L, const char *message, int goes_on);

static void warn_on(void *L, const char *message, int goes_on) {
  static int within;
  if (!within && !goes_on && message[0] == '@') {
    if (message[1] == 'o' && message[2] == 'f') lua_setwarnf((lua_State *)L, warn_off, L);
    return;
  }
  fprintf(stderr, "%s%s%s", within ? "" : "Lua warning: ", message, goes_on ? "" : "\n");
  within = goes_on;
}

static void warn_off(void *L, const char *message, int goes_on) {
  if (!goes_on && message[0] == '@' && message[1] == 'o' && message[2] == 'n')
    lua_setwarnf((lua_State *)L, warn_on, L);
}
#endif

lua_State *__wrap_luaL_newstate(void) {
  ace_lua_options options = ACE_LUA_OPTIONS;
  const char *limit = getenv("APP_LUA_LIMIT"); /* yours to choose: here, bytes */
  lua_State *L;
  if (limit != NULL) options.limit = strtoul(limit, NULL, 10);
  L = ace_lua_newstate(&options);
  if (L == NULL) return NULL;
  lua_atpanic(L, panic);
#if LUA_VERSION_NUM >= 504
  lua_setwarnf(L, warn_off, L);
#endif
  return L;
}
