-- Swells and rests: builds many small records, keeps one in so many, drops the others, collects and sleeps, several
-- times. Runs on LuaJIT and on Lua 5.1 to 5.4.
--
--     luajit swell.lua RECORDS ROUNDS REST KEEP_ONE_IN
--
-- The harness takes the time of each line that begins with '@' as it appears: '@ PHASE ROUND LIVE_BYTES', at the
-- beginning of each phase (build, drop, rest, end). At the end of the last rest ACE is asked for a report of its heap:
-- SWELL_LIBRARY names the library, and is not set for others.

local records = tonumber(arg[1])
local rounds = tonumber(arg[2])
local rest = tonumber(arg[3])
local keep_one_in = tonumber(arg[4])
assert(records and rounds and rest and keep_one_in, "usage: swell.lua RECORDS ROUNDS REST KEEP_ONE_IN")

-- About 320 bytes in a handful of objects.
local function record(round, i)
  return {id = i, round = round, name = "record " .. i .. " of round " .. round, tags = {i % 97, i % 89}}
end

local function mark(phase, round)
  io.write(string.format("@ %s %d %d\n", phase, round, collectgarbage("count") * 1024))
  io.flush()
end

local kept = {}
for round = 1, rounds do
  mark("build", round)
  local list = {}
  for i = 1, records do list[i] = record(round, i) end
  mark("drop", round)
  for i = 1, records, keep_one_in do kept[#kept + 1] = list[i] end
  list = nil
  -- Twice: Lua shrinks its table of strings by half in each collection.
  collectgarbage()
  collectgarbage()
  mark("rest", round)
  -- Resting must cost no processor time, so a child process waits in our place.
  if rest > 0 then os.execute("sleep " .. rest) end
end
mark("end", rounds)
local library = os.getenv("SWELL_LIBRARY")
local report = library and package.loadlib(library, "ace_report_now")
if report then report() end

-- Every survivor must be exactly the record that was built.
local n = 0
for round = 1, rounds do
  for i = 1, records, keep_one_in do
    n = n + 1
    local is, should = kept[n], record(round, i)
    if not is or is.id ~= should.id or is.round ~= should.round or is.name ~= should.name or
       is.tags[1] ~= should.tags[1] or is.tags[2] ~= should.tags[2] then
      error("record " .. i .. " of round " .. round .. " is damaged")
    end
  end
end
if #kept ~= n then error(#kept .. " records survived instead of " .. n) end
print(n .. " records kept and checked")
