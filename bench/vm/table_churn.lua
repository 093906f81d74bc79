-- Table churn: a store of objects of mixed shapes and sizes, replaced at random, whose arrays and hashes grow while
-- they live: the shape of a cache, a scene or an entity system.
--
--     luajit table_churn.lua STEPS [OBJECTS]
--
-- Deterministic: a generator of its own. Prints checksums.

local steps = tonumber(arg and arg[1]) or 1000000
local objects = tonumber(arg and arg[2]) or 30000
assert(steps >= 1 and objects >= 1, "table_churn.lua: STEPS and OBJECTS must be at least 1")

local seed = 7
local function random(n)
  seed = seed * 16807 % 2147483647 -- exact in a double, too
  return seed % n
end

local keys = {}
for i = 1, 64 do keys[i] = "key" .. i end

local shapes = {
  function(i) return {id = i, sum = i} end,
  function(i) return {id = i, sum = i, x = i % 7, y = i % 11, z = i % 13} end,
  function(i) return {id = i, sum = i, position = {i % 7, i % 11, i % 13}, child = {}} end,
  function(i)
    local list = {}
    for k = 1, 1 + random(24) do list[k] = k end
    return {id = i, sum = i, list = list}
  end,
}

-- A living object grows: by its array or by its hash.
local function grow(object, i)
  local list = object.list
  if not list then
    list = {}
    object.list = list
  end
  if #list < 200 then list[#list + 1] = i end
  object[keys[1 + random(64)]] = i
  object.sum = object.sum + 1
end

local store, grown = {}, 0
for i = 1, steps do
  local slot = 1 + random(objects)
  local object = store[slot]
  if object and random(4) ~= 0 then
    grow(object, i)
    grown = grown + 1
  else
    store[slot] = shapes[1 + random(#shapes)](i)
  end
end

local sum, items, live = 0, 0, 0
for slot = 1, objects do
  local object = store[slot]
  if object then
    live = live + 1
    sum = (sum + object.sum * slot) % 1000000007
    if object.list then items = items + #object.list end
  end
end
print(string.format("%d steps, %d growths, %d live objects, %d items, checksum %d", steps, grown, live, items, sum))
