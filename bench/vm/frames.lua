-- A game's loop: each frame moves a world of small objects, makes garbage and has a step of the collector; in between
-- it sleeps. Every so often the world is left for a new one. Runs on LuaJIT, whose FFI has the clock.
--
--     luajit frames.lua FRAMES HZ
--
-- Prints how much of the thread's processor time each frame took, in nanoseconds, a line each: what other processes
-- take from the core is not in it. Frames at the beginning, while traces are compiled, are not printed.

local ffi = require("ffi")
ffi.cdef([[
typedef struct { long seconds, nanoseconds; } ace_timespec;
int clock_gettime(int clock, ace_timespec *time);
int clock_nanosleep(int clock, int flags, const ace_timespec *until, ace_timespec *rest);
]])
local MONOTONIC, THREAD_TIME, ABSOLUTE = 1, 3, 1

local frames, hz = tonumber(arg[1]), tonumber(arg[2])
assert(frames and hz, "usage: frames.lua FRAMES HZ")
local WORLD_FRAMES, FIRST_FRAMES = 400, 400

local time = ffi.new("ace_timespec")
local function clock(which)
  ffi.C.clock_gettime(which, time)
  return tonumber(time.seconds) * 1e9 + tonumber(time.nanoseconds)
end

local function sleep_until(at)
  time.seconds, time.nanoseconds = math.floor(at / 1e9), at % 1e9
  while ffi.C.clock_nanosleep(MONOTONIC, ABSOLUTE, time, nil) ~= 0 do end
end

local things, checksum = {}, 0

local function frame(n)
  if n % WORLD_FRAMES == 0 then things = {} end
  if n % WORLD_FRAMES < WORLD_FRAMES / 2 then
    for i = 1, 300 do
      things[#things + 1] = {place = {x = i, y = n}, speed = {x = 1, y = 0}, name = "thing " .. i .. " of " .. n}
    end
  end
  for i = 1 + n % 16, #things, 16 do
    local thing = things[i]
    thing.place = {x = thing.place.x + thing.speed.x, y = thing.place.y + thing.speed.y}
  end
  local lines = {}
  for i = 1, 100 do lines[i] = string.format("%d: line %d", n, i) end
  checksum = checksum + #table.concat(lines, "\n")
  collectgarbage("step", 200)
end

local taken = {}
local begin = clock(MONOTONIC)
for n = 1, FIRST_FRAMES + frames do
  local from = clock(THREAD_TIME)
  frame(n)
  taken[n] = clock(THREAD_TIME) - from
  begin = math.max(begin + 1e9 / hz, clock(MONOTONIC))
  sleep_until(begin)
end
for n = FIRST_FRAMES + 1, FIRST_FRAMES + frames do print(string.format("@ %d", taken[n])) end
print("checksum " .. checksum)
