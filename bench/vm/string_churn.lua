-- String churn: a window of live strings of mixed lengths, the oldest replaced by a new one at each step, with the
-- concatenation, cutting and joining that text processing does.
--
--     luajit string_churn.lua STEPS [WINDOW]
--
-- Deterministic: a generator of its own chooses the lengths. Prints checksums.

local steps = tonumber(arg and arg[1]) or 1000000
local window = tonumber(arg and arg[2]) or 40000
assert(steps >= 1 and window >= 1, "string_churn.lua: STEPS and WINDOW must be at least 1")

local seed = 42
local function random(n)
  seed = seed * 16807 % 2147483647 -- exact in a double, too
  return seed % n
end

local alphabet = {}
for i = 0, 25 do alphabet[i] = string.rep(string.char(97 + i), 8) end

-- Mostly short words, sometimes a line, seldom a paragraph.
local function text(i)
  local kind = random(100)
  if kind < 70 then return alphabet[i % 26] .. i end
  if kind < 95 then return string.rep(alphabet[random(26)], 2 + random(6)) .. i end
  return string.rep(alphabet[random(26)], 20 + random(60)) .. i
end

local live, bytes, joined, sum = {}, 0, 0, 0
for i = 1, steps do
  local slot = i % window + 1
  local old = live[slot]
  if old then bytes = bytes - #old end
  local new = text(i)
  if old and i % 4 == 0 then new = old:sub(1, 12) .. new:sub(-12) end
  live[slot] = new
  bytes = bytes + #new
  if i % 64 == 0 then
    local parts = {}
    for k = 1, 8 do parts[k] = live[(slot + k * 977) % window + 1] or "" end
    local line = table.concat(parts, ",")
    joined = joined + #line
    sum = (sum * 31 + line:byte(1 + i % #line)) % 1000000007
  end
end

local check = 0
for _, s in ipairs(live) do check = check + #s end
assert(check == bytes, "string_churn.lua: a live string is damaged")
print(string.format("%d strings, %d live bytes, %d joined bytes, checksum %d", steps, bytes, joined, sum))
