-- Binary trees: one long-lived tree, and many short-lived ones of every depth beside it.
--
--     luajit binary_trees.lua DEPTH
--
-- Allocates small tables alone, of one size; prints the counts of nodes, which are known beforehand.

local depth = tonumber(arg and arg[1]) or 14
assert(depth >= 4 and depth % 1 == 0, "binary_trees.lua: DEPTH must be a whole number from 4 on")

local function tree(levels)
  if levels == 0 then return {false, false} end
  return {tree(levels - 1), tree(levels - 1)}
end

local function count(node)
  if not node[1] then return 1 end
  return 1 + count(node[1]) + count(node[2])
end

local function nodes(levels) return 2 ^ (levels + 1) - 1 end

local long_lived = tree(depth)
for levels = 4, depth, 2 do
  local trees = 2 ^ (depth - levels + 4)
  local sum = 0
  for _ = 1, trees do sum = sum + count(tree(levels)) end
  assert(sum == trees * nodes(levels), "binary_trees.lua: a tree is damaged")
  print(string.format("%d trees of depth %d: %d nodes", trees, levels, sum))
end
assert(count(long_lived) == nodes(depth), "binary_trees.lua: the long-lived tree is damaged")
print(string.format("long-lived tree of depth %d: %d nodes", depth, nodes(depth)))
