-- A program whose memory swells, collects, idles and swells again: the shape of many a server's script.
--
--     luajit swell.lua [records] [rounds] [rest in seconds]
--
-- Each round builds many small records, keeps one in a thousand, drops the others, collects and rests. Nearly
-- all of the memory is free during the rest, yet hardly any allocator can give it back, because there is a
-- survivor in almost every piece of it. Nothing here knows about ACE: compare `luajit swell.lua` with
-- `ace run -- luajit swell.lua`, and look at the resident memory that each line ends with. Runs on LuaJIT and
-- on Lua 5.1 to 5.4.

local KEEP_ONE_IN = 1000
local arg = arg or {} -- a host of its own gives none

local function argument(i, name, default, lowest)
  if arg[i] == nil then return default end
  local number = tonumber(arg[i])
  if not number or number < lowest then
    io.stderr:write("swell.lua: ", name, " must be a number, at least ", lowest, ", not ", arg[i], "\n",
                    "usage: luajit swell.lua [records] [rounds] [rest in seconds]\n")
    os.exit(2)
  end
  return number
end

local records = math.floor(argument(1, "records", 750000, 1))
local rounds = math.floor(argument(2, "rounds", 4, 1))
local rest = argument(3, "rest", 3, 0)

-- One record as a server might hold it: about 320 bytes in a handful of objects.
local function record(round, i)
  return {id = i, round = round, name = "record " .. i .. " of round " .. round, tags = {i % 97, i % 89}}
end

-- The memory of this process that is in RAM now, in MB (10^6 bytes). Linux, pages of 4 KiB.
local function resident_megabytes()
  local statm = assert(io.open("/proc/self/statm"))
  local _, pages = statm:read("*n", "*n")
  statm:close()
  return pages * 4096 / 1e6
end

-- Resting must cost no processor time, so a child process waits in our place.
local function sleep(seconds)
  if seconds > 0 then os.execute("sleep " .. seconds) end
end

local function say(round, phase, seconds, detail)
  io.write(string.format("round %d  %-8s %6.2f s  %6.1f MB resident  %6.1f MB live  %s\n", round, phase, seconds,
                         resident_megabytes(), collectgarbage("count") * 1024 / 1e6, detail))
  io.flush()
end

local function run_round(round, kept)
  local start = os.clock()
  local list = {}
  for i = 1, records do list[i] = record(round, i) end
  say(round, "swell", os.clock() - start, records .. " records")

  start = os.clock()
  for i = 1, records, KEEP_ONE_IN do kept[#kept + 1] = list[i] end
  list = nil
  -- Twice: Lua shrinks its table of strings by half in each collection.
  collectgarbage()
  collectgarbage()
  say(round, "collect", os.clock() - start, #kept .. " records kept")

  sleep(rest)
  say(round, "rest", rest, "")
end

-- Every survivor must be exactly the record that was built.
local function check(kept)
  local n = 0
  for round = 1, rounds do
    for i = 1, records, KEEP_ONE_IN do
      n = n + 1
      local is, should = kept[n], record(round, i)
      if not is or is.id ~= should.id or is.round ~= should.round or is.name ~= should.name or
         is.tags[1] ~= should.tags[1] or is.tags[2] ~= should.tags[2] then
        error("record " .. i .. " of round " .. round .. " is damaged")
      end
    end
  end
  if #kept ~= n then error(#kept .. " records survived instead of " .. n) end
end

local kept = {}
for round = 1, rounds do run_round(round, kept) end
check(kept)
print(string.format("done: %.2f s of processor time, %d records kept and checked", os.clock(), #kept))
