-- A service whose rhythm changes: each cycle builds records, drops all of them, collects and waits; cycles that follow
-- one another at once, and cycles with long waits between them, in turn. Runs on LuaJIT and on Lua 5.1 to 5.4.
--
--     luajit rhythm.lua RECORDS TURNS REST SEED [QUICK SLOW]
--
-- A turn is 8 to 16 quick cycles and 2 to 4 slow ones, which rest for REST to 2 REST seconds, as SEED says; or QUICK and
-- SLOW of them. The harness
-- takes the time of each line that begins with '@' as it appears: '@ PHASE CYCLE LIVE_BYTES' (build, rest, end).

local records, turns = tonumber(arg[1]), tonumber(arg[2])
local rest, state = tonumber(arg[3]), tonumber(arg[4])
local quick, slow = tonumber(arg[5]), tonumber(arg[6])
assert(records and turns and rest and state, "usage: rhythm.lua RECORDS TURNS REST SEED [QUICK SLOW]")

-- The same numbers on every Lua, and in rhythm.py.
local function random(below)
  state = (state * 16807) % 2147483647
  return state % below
end

local cycle, checksum = 0, 0

local function mark(phase)
  io.write(string.format("@ %s %d %d\n", phase, cycle, collectgarbage("count") * 1024))
  io.flush()
end

local function run(count, wait)
  for _ = 1, count do
    cycle = cycle + 1
    mark("build")
    local list = {}
    for i = 1, records do list[i] = {id = i, name = "record " .. i .. " of cycle " .. cycle, tags = {i % 97, i % 89}} end
    checksum = checksum + #list[records].name + list[records].tags[1]
    list = nil
    collectgarbage()
    collectgarbage()
    mark("rest")
    local seconds = wait()
    -- Resting must cost no processor time, so a child process waits in our place.
    if seconds > 0 then os.execute("sleep " .. seconds) end
  end
end

for _ = 1, turns do
  run(quick or 8 + random(9), function() return 0 end)
  run(slow or 2 + random(3), function() return rest * (1 + random(1000) / 1000) end)
end
mark("end")
print("checksum " .. checksum)
