/* A game's loop, at 60 Hz, that runs scripts, each in a Lua state of its own with a memory budget of its own.
 * All work on memory is done in what the scripts leave of a frame's 16.7 ms, and no thread runs in the
 * background.
 *
 *     game_loop [--frames N] [--hz N] [--no-wait] [--memory MS]
 *
 * After the scripts of a frame the collectors of their states are stepped, and what the states have no use for
 * goes back to the system by parts (ace_trim), for at most MS milliseconds (2 where not given). Every 200
 * frames the world is left for a new one, so that much is to be collected and given back at once. One script
 * hoards: at its budget it gets Lua's "not enough memory", loses what it held, and starts anew when that has
 * been collected. --no-wait starts each frame when the last is over.
 *
 * The table at the end says how long frames took and what each state held. The exit status is 0 only where no
 * script failed otherwise, and each heap kept to its budget and was sound at its end.
 *
 *     cc game_loop.c $(pkg-config --cflags --libs ace-lua luajit) -o game_loop
 *
 * The same source compiles against lua5.1 to lua5.4 in place of luajit. */
#define _POSIX_C_SOURCE 200809L
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ace/ace.h"
#include "ace_lua.h"

#define MS 1000000u /* in nanoseconds, as all times here */
static uint64_t frame_length = 1000 * MS / 60;
/* The end of a frame belongs to nobody: neither timers nor a step of a collector are exact. */
static const uint64_t margin = MS;
/* So much is given back by one call, which takes about a fifth of a millisecond. */
static const size_t trim_part = 256 << 10;
/* A state that is full may have so much more while it is collected: see ace_lua_vm_set_limit. */
static const size_t recovery_bytes = 1 << 20;

/* Each text gives a function that starts the script, which gives the function that is called for each frame. */
static const char world[] =
    "return function()\n"
    "  local things = {}\n"
    "  return function(frame)\n"
    "    if frame % 200 == 0 then things = {} end\n"
    "    if frame % 200 < 100 then\n"
    "      for i = 1, 300 do things[#things + 1] = {place = {x = i, y = frame}, speed = {x = 1, y = 0}} end\n"
    "    end\n"
    "    for i = 1, #things, 8 do\n"
    "      local thing = things[i]\n"
    "      thing.place = {x = thing.place.x + thing.speed.x, y = thing.place.y + thing.speed.y}\n"
    "    end\n"
    "  end\n"
    "end\n";

static const char agents[] =
    "return function()\n"
    "  local size = 32\n"
    "  return function(frame)\n"
    "    local seen, edge = {}, {frame % (size * size)}\n"
    "    while #edge > 0 do\n"
    "      local next_edge = {}\n"
    "      for _, cell in ipairs(edge) do\n"
    "        for _, step in ipairs({-1, 1, -size, size}) do\n"
    "          local to = cell + step\n"
    "          if to >= 0 and to < size * size and not seen[to] then\n"
    "            seen[to] = {from = cell}\n"
    "            next_edge[#next_edge + 1] = to\n"
    "          end\n"
    "        end\n"
    "      end\n"
    "      edge = next_edge\n"
    "    end\n"
    "  end\n"
    "end\n";

static const char texts[] =
    "return function()\n"
    "  return function(frame)\n"
    "    local lines = {}\n"
    "    for i = 1, 200 do lines[i] = string.format('%d: line %d of frame %d', frame * i, i, frame) end\n"
    "    return #table.concat(lines, '\\n')\n"
    "  end\n"
    "end\n";

static const char hoard[] =
    "return function()\n"
    "  local kept = {}\n"
    "  return function(frame)\n"
    "    for i = 1, 500 do kept[#kept + 1] = {frame, 'seen ' .. i} end\n"
    "  end\n"
    "end\n";

struct script {
  const char *name, *text;
  size_t budget;
  lua_State *L;
  ace_heap *heap;
  int is_collecting;   /* its collector is in the middle of a cycle */
  int cycles_to_start; /* not 0: what it held is being collected */
  uint64_t live_after; /* the last cycle */
  unsigned restarts, cycles;
  int is_sound; /* its heap, when it was closed */
};

static struct script scripts[] = {
    {.name = "world", .text = world, .budget = 32 << 20},
    {.name = "agents", .text = agents, .budget = 8 << 20},
    {.name = "texts", .text = texts, .budget = 4 << 20},
    {.name = "hoard", .text = hoard, .budget = 6 << 20},
};
enum { kScripts = sizeof scripts / sizeof scripts[0] };
#define FOR_EACH(script) for (struct script *script = scripts; script < scripts + kScripts; ++script)

/* Where a state's stack holds them. */
enum { kStep = 1, kStart, kFrame };

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000 * MS + (uint64_t)time.tv_nsec;
}

static void wait_until(uint64_t then) {
  const struct timespec time = {(time_t)(then / (1000 * MS)), (long)(then % (1000 * MS))};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) != 0) continue;
}

static ace_stats stats_of(const struct script *script) {
  ace_stats stats;
  ace_heap_stats(script->heap, &stats, sizeof stats);
  return stats;
}

/* ------------------------------------------------------------------------------------------ scripts ---- */

/* A small step of the collector, which rests otherwise: LuaJIT and 5.1 wake it by the step itself. */
static int step(lua_State *L) {
  lua_pushboolean(L, lua_gc(L, LUA_GCSTEP, 0));
  lua_gc(L, LUA_GCSTOP, 0);
  return 1;
}

static int prepare(lua_State *L) {
  luaL_openlibs(L);
  lua_gc(L, LUA_GCSTOP, 0);
  lua_pushcfunction(L, step);
  return 1;
}

static void note_close(ace_heap *heap, void *context) {
  struct script *script = context;
  char broken[200];
  script->is_sound = ace_heap_audit(heap, broken, sizeof broken) == 0;
  if (!script->is_sound) fprintf(stderr, "%s: %s\n", script->name, broken);
}

static int open_script(struct script *script) {
  ace_lua_options options = ACE_LUA_OPTIONS;
  options.name = script->name;
  options.limit = script->budget;
  options.on_close = note_close;
  options.on_close_context = script;
  lua_State *L = ace_lua_newstate(&options);
  if (L == NULL) return 0;
  script->L = L;
  script->heap = ace_lua_heap(L);
  lua_pushcfunction(L, prepare);
  if (lua_pcall(L, 0, 1, 0) != 0) return 0;
  if (luaL_loadbuffer(L, script->text, strlen(script->text), script->name) != 0) return 0;
  return lua_pcall(L, 0, 1, 0) == 0 && (lua_pushnil(L), 1);
}

/* What the script held is garbage from here on, and it waits. */
static void drop(struct script *script) {
  lua_settop(script->L, kStart);
  lua_pushnil(script->L);
  ace_lua_set_limit(script->L, script->budget + recovery_bytes);
  /* A cycle that is under way may have marked some of it. */
  script->cycles_to_start = script->is_collecting ? 2 : 1;
  script->is_collecting = 1;
  ++script->restarts;
}

/* What follows from a call; 0: an error that the host does not know how to mend. */
static int settle(struct script *script, int status) {
  if (status == 0) return 1;
  if (status == LUA_ERRMEM) {
    drop(script);
    return 1;
  }
  const char *message = lua_tostring(script->L, -1);
  fprintf(stderr, "%s: %s\n", script->name, message != NULL ? message : "(an error that is no string)");
  return 0;
}

static int start(struct script *script) {
  lua_settop(script->L, kStart);
  lua_pushvalue(script->L, kStart);
  return settle(script, lua_pcall(script->L, 0, 1, 0));
}

static int run_frame(struct script *script, int frame) {
  if (script->cycles_to_start != 0) return 1;
  if (lua_isnil(script->L, kFrame)) {
    if (!start(script)) return 0;
    if (script->cycles_to_start != 0) return 1;
  }
  ace_hint(script->heap, ACE_HINT_BURST_BEGIN, 0);
  lua_pushvalue(script->L, kFrame);
  lua_pushinteger(script->L, frame);
  const int ok = settle(script, lua_pcall(script->L, 1, 0, 0));
  ace_hint(script->heap, ACE_HINT_BURST_END, 0);
  return ok;
}

/* ------------------------------------------------------------------------------------------- memory ---- */

static void end_cycle(struct script *script) {
  ++script->cycles;
  script->is_collecting = 0;
  script->live_after = stats_of(script).live_bytes;
  if (script->cycles_to_start == 0) return;
  if (--script->cycles_to_start == 0) {
    ace_lua_set_limit(script->L, script->budget);
  } else {
    script->is_collecting = 1;
  }
}

/* Twice what lives, and at least a quarter of the budget: a state that has grown to that is collected. */
static uint64_t room_of(const struct script *script) {
  const uint64_t twice = 2 * script->live_after, least = script->budget / 4;
  return twice > least ? twice : least;
}

/* 0 as in settle. */
static int collect(struct script *script, uint64_t until) {
  const uint64_t live = stats_of(script).live_bytes;
  if (live >= room_of(script) || live >= script->budget / 2) script->is_collecting = 1;
  while (script->is_collecting && now() < until) {
    /* Protected, as it may run finalizers. */
    lua_pushvalue(script->L, kStep);
    if (!settle(script, lua_pcall(script->L, 0, 1, 0))) return 0;
    const int is_over = lua_toboolean(script->L, -1);
    lua_settop(script->L, kFrame);
    if (is_over) end_cycle(script);
  }
  return 1;
}

/* What goes on while it is collected needs half as much again. The rest is no use to the state. */
static void give_back(struct script *script, uint64_t until) {
  if (script->is_collecting) return;
  const uint64_t keep = room_of(script) / 2 * 3, resident = stats_of(script).resident_bytes;
  uint64_t beyond = resident > keep ? resident - keep : 0;
  while (beyond >= trim_part && now() < until) {
    const size_t given = ace_trim(script->heap, trim_part);
    beyond = given == 0 || given > beyond ? 0 : beyond - given;
  }
}

/* Each frame another script is the first, so that none waits for ever. IDLE says to each heap that its program
 * rests; in mode off this is only counted. */
static int work_on_memory(int frame, uint64_t until) {
  int ok = 1;
  FOR_EACH(script) ace_hint(script->heap, ACE_HINT_IDLE_BEGIN, 0);
  for (int i = 0; i < kScripts && ok; ++i) {
    struct script *script = &scripts[(frame + i) % kScripts];
    ok = collect(script, until);
    give_back(script, until);
  }
  return ok;
}

static void end_rest(void) { FOR_EACH(script) ace_hint(script->heap, ACE_HINT_IDLE_END, 0); }

/* ------------------------------------------------------------------------------------------- frames ---- */

struct times {
  uint64_t *scripts, *memory, *both;
};

static int run(int frames, int waits, uint64_t memory_budget, struct times *times) {
  uint64_t begin = now();
  for (int frame = 0; frame < frames; ++frame) {
    FOR_EACH(script) {
      if (!run_frame(script, frame)) return 0;
    }
    const uint64_t end = now(), deadline = begin + frame_length;
    const uint64_t until = end + memory_budget < deadline - margin ? end + memory_budget : deadline - margin;
    if (!work_on_memory(frame, until)) return 0;
    const uint64_t over = now();
    times->scripts[frame] = end - begin;
    times->memory[frame] = over - end;
    times->both[frame] = over - begin;
    if (waits && over < deadline) wait_until(deadline);
    end_rest();
    begin = waits && over < deadline ? deadline : now();
  }
  return 1;
}

static int by_size(const void *a, const void *b) {
  const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

static void print_times(const char *what, uint64_t *times, int frames) {
  qsort(times, (size_t)frames, sizeof *times, by_size);
  const double shares[] = {0.5, 0.99, 0.999};
  printf("%-8s", what);
  for (int i = 0; i < 3; ++i) printf(" %8.2f", (double)times[(int)(shares[i] * (frames - 1) + 0.5)] / MS);
  printf(" %8.2f\n", (double)times[frames - 1] / MS);
}

static void print_times_of_all(int frames, struct times *times) {
  int misses = 0;
  for (int i = 0; i < frames; ++i) misses += times->both[i] > frame_length;
  printf("%d frames; %d missed the %.1f ms\n\n", frames, misses, (double)frame_length / MS);
  printf("%-8s %8s %8s %8s %8s\n", "ms", "p50", "p99", "p99.9", "max");
  print_times("scripts", times->scripts, frames);
  print_times("memory", times->memory, frames);
  print_times("frame", times->both, frames);
}

static uint64_t returned_in(const char *phase, const ace_stats *stats) {
  for (unsigned i = 0; i < ACE_PHASES; ++i) {
    if (strcmp(ace_phase_name(i), phase) == 0) return stats->phase_returned_bytes[i];
  }
  return 0;
}

/* In a frame pages go back only where the script is at its budget: before more is refused. */
static int print_scripts(void) {
  int ok = 1;
  printf("\n%-8s %8s %8s %8s %8s %8s %8s %8s %8s\n", "MB", "live", "resident", "peak", "budget", "returned",
         "in frame", "cycles", "restarts");
  FOR_EACH(script) {
    const ace_stats stats = stats_of(script);
    printf("%-8s %8.2f %8.2f %8.2f %8.2f %8.2f %8.2f %8u %8u\n", script->name, (double)stats.live_bytes / 1e6,
           (double)stats.resident_bytes / 1e6, (double)stats.peak_resident_bytes / 1e6,
           (double)script->budget / 1e6, (double)(stats.returned_bytes + stats.released_bytes) / 1e6,
           (double)returned_in("burst", &stats) / 1e6, script->cycles, script->restarts);
    ok &= stats.peak_resident_bytes <= script->budget + recovery_bytes;
  }
  return ok;
}

static int open_all(void) {
  FOR_EACH(script) {
    if (open_script(script)) continue;
    fprintf(stderr, "%s: no state: memory is short, or this LuaJIT was built without GC64\n", script->name);
    return 0;
  }
  return 1;
}

static int close_all(void) {
  int ok = 1;
  FOR_EACH(script) {
    if (script->L == NULL) continue;
    ace_lua_close(script->L);
    ok &= script->is_sound;
  }
  return ok;
}

int main(int argc, char **argv) {
  int frames = 1200, hz = 60, waits = 1;
  double memory_ms = 2;
  for (int i = 1; i < argc; ++i) {
    if (strcmp(argv[i], "--no-wait") == 0) {
      waits = 0;
    } else if (strcmp(argv[i], "--frames") == 0 && i + 1 < argc) {
      frames = atoi(argv[++i]);
    } else if (strcmp(argv[i], "--hz") == 0 && i + 1 < argc) {
      hz = atoi(argv[++i]);
    } else if (strcmp(argv[i], "--memory") == 0 && i + 1 < argc) {
      memory_ms = strtod(argv[++i], NULL);
    } else {
      frames = 0;
    }
  }
  if (frames <= 0 || hz <= 0 || hz > 500 || !(memory_ms > 0 && memory_ms <= 1e3)) {
    fprintf(stderr, "usage: %s [--frames N] [--hz N] [--no-wait] [--memory MS]\n", argv[0]);
    return 2;
  }
  frame_length = 1000 * MS / (unsigned)hz;
  /* A hint may give back at once all that it finds worth it, however long that takes. So here they are only
   * counted: memory goes back by ace_trim alone, as much as the time allows. */
  ace_option_set("worker", "off");
  ace_option_set("mode", "off");
  printf("%s, ACE %s, %g ms of a frame for memory\n", LUA_VERSION, ace_version(), memory_ms);

  uint64_t *memory = calloc(3 * (size_t)frames, sizeof *memory);
  if (memory == NULL) return 1;
  struct times times = {memory, memory + frames, memory + 2 * (size_t)frames};
  int ok = open_all() && run(frames, waits, (uint64_t)(memory_ms * MS), &times);
  if (ok) {
    print_times_of_all(frames, &times);
    ok = print_scripts();
  }
  ok &= close_all();
  free(memory);
  return ok ? 0 : 1;
}
