-- Trees that come and go, with the strings and the tables that grow of an ordinary program.
local function tree(depth)
  if depth == 0 then return {name = "leaf"} end
  return {tree(depth - 1), tree(depth - 1), depth = depth}
end

local words = {}
for round = 1, 20 do
  local root = tree(12)
  for i = 1, 2000 do words[#words + 1] = "word " .. round .. "." .. i end
  if round % 5 == 0 then words = {} end
end
collectgarbage()
print("done")
