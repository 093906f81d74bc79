/* A program that embeds a shared Lua and knows nothing of ACE. -DOWN_ALLOCATOR: with an allocator of its own.
 * -DLOADED_LATER: the library (LIBRARY) is loaded by dlopen, out of the sight of others. -DFORKS: it forks
 * while its threads make and close states, and each child makes one. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#if LUA_VERSION_NUM >= 505
#define NEW_STATE(allocate, ud) lua_newstate(allocate, ud, 1)
#else
#define NEW_STATE(allocate, ud) lua_newstate(allocate, ud)
#endif

#define SCRIPT "local t = {} for i = 1, 50000 do t[i] = {i} end print(#t)"

#if defined(OWN_ALLOCATOR)

static unsigned long calls;

static void *own(void *ud, void *ptr, size_t osize, size_t nsize) {
  (void)osize;
  if (ud != &calls) abort();
  ++calls;
  if (nsize != 0) return realloc(ptr, nsize);
  free(ptr);
  return NULL;
}

int main(void) {
  lua_State *L = NEW_STATE(own, &calls);
  void *ud;
  if (L == NULL) return 1;
  luaL_openlibs(L);
  if (luaL_loadstring(L, SCRIPT) != 0 || lua_pcall(L, 0, 0, 0) != 0) return 1;
  if (lua_getallocf(L, &ud) == own && ud == &calls && calls > 50000) puts("own allocator: used throughout");
  lua_close(L);
  return 0;
}

#elif defined(LOADED_LATER)

#define FIND(name) *(void **)&name##_ = dlsym(library, #name)

int main(void) {
  static const char hoard[] = "local t = {} for i = 1, 1e7 do t[i] = {i} end";
  lua_State *(*luaL_newstate_)(void);
  int (*luaL_loadstring_)(lua_State *, const char *);
  int (*lua_pcall_)(lua_State *, int, int, int);
  int (*lua_pcallk_)(lua_State *, int, int, int, long, void *);
  const char *(*lua_tolstring_)(lua_State *, int, size_t *);
  void (*lua_close_)(lua_State *);
  void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) return 2;
  FIND(luaL_newstate);
  FIND(luaL_loadstring);
  FIND(lua_pcall);
  FIND(lua_pcallk);
  FIND(lua_tolstring);
  FIND(lua_close);
  lua_State *L = luaL_newstate_();
  if (L == NULL || luaL_loadstring_(L, hoard) != 0) return 3;
  int status = lua_pcallk_ != NULL ? lua_pcallk_(L, 0, 0, 0, 0, NULL) : lua_pcall_(L, 0, 0, 0);
  puts(status != 0 ? lua_tolstring_(L, -1, NULL) : "no limit");
  lua_close_(L);
  return 0;
}

#elif defined(FORKS)

static __thread int is_slow;

/* ACE's locks are held for long by the threads, so that a fork meets them. */
int pthread_mutex_unlock(pthread_mutex_t *mutex) {
  static int (*next)(pthread_mutex_t *);
  if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, "pthread_mutex_unlock");
  if (is_slow) usleep(200);
  return next(mutex);
}

static void *make_states(void *unused) {
  is_slow = 1;
  for (;;) lua_close(luaL_newstate());
  return unused;
}

int main(void) {
  pthread_t threads[2];
  for (int i = 0; i < 2; ++i) pthread_create(&threads[i], NULL, make_states, NULL);
  for (int i = 0; i < 50; ++i) {
    int status;
    pid_t child = fork();
    if (child == 0) {
      alarm(10); /* a lock that nobody can give back */
      lua_close(luaL_newstate());
      _exit(0);
    }
    waitpid(child, &status, 0);
    if (status != 0) {
      printf("child %d hangs\n", i);
      fflush(stdout);
      _exit(1);
    }
  }
  puts("all children ended");
  fflush(stdout);
  _exit(0);
}

#else

int main(void) {
  lua_State *L = luaL_newstate();
  if (L == NULL) return 1;
  lua_CFunction panic = lua_atpanic(L, NULL);
  lua_atpanic(L, panic);
  printf("panic set: %s\n", panic != NULL ? "yes" : "no");
  fflush(stdout);
  luaL_openlibs(L);
  if (luaL_loadstring(L, SCRIPT) != 0 || lua_pcall(L, 0, 0, 0) != 0) return 1;
  lua_gc(L, LUA_GCCOLLECT, 0);
  lua_close(L);
  return 0;
}

#endif
