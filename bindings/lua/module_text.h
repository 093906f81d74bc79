// The part of the module `ace` that is Lua: what needs no C, so that functions called by it may yield where the
// VM's pcall lets them.
#pragma once

namespace ace::lua {

// Called with the functions of module.cpp, it returns the module.
inline constexpr char kModule[] = R"lua(
local core, where = ...
local ace = {version = core.version()}

local function needs_heap(what)
  if not core.active() then
    error("ace." .. what .. ": this state does not live on ACE: start the program by `ace run`, or call ace.install()", 3)
  end
end

-- Does this state allocate from ACE?
ace.active = core.active

-- Puts this state on ACE: what it allocates from now on comes from there. To be called by the main program, not
-- within a coroutine. It cannot be undone.
function ace.install()
  if not core.active() then core.install() end
end

local function finish(hint, done, ...)
  core.hint(hint)
  if done then return ... end
  error((...), 0)
end

-- between(first, last, f, ...) calls f(...) between two hints. From 5.4 on the second is given as a variable is closed: an
-- error comes by with its traceback, and a coroutine that is closed meanwhile gives it as well.
local compile = rawget(_G, "loadstring") or load
local between = compile and compile([[
  local core = ...
  local function ends(hint) return setmetatable({}, {__close = function() core.hint(hint) end}) end
  local closing = {burst_end = ends "burst_end", idle_end = ends "idle_end"}
  return function(first, last, f, ...)
    core.hint(first)
    local _ <close> = closing[last]
    return f(...)
  end]])
between = between and between(core) or function(first, last, f, ...)
  core.hint(first)
  return finish(last, pcall(f, ...))
end

-- Calls f(...): many allocations that belong together, a frame, a request. Returns what it returns. The name is for
-- the reader alone.
function ace.phase(name, f, ...)
  if type(name) ~= "string" or f == nil then error("ace.phase takes a name, a function and its arguments", 2) end
  return between("burst_begin", "burst_end", f, ...)
end

-- Calls f(...), in which the program waits, for about a second or longer: free memory may go back.
function ace.idle(f, ...)
  if f == nil then error("ace.idle takes a function and its arguments", 2) end
  return between("idle_begin", "idle_end", f, ...)
end

-- Gives all free memory back now. Returns its bytes.
function ace.trim()
  needs_heap "trim"
  return core.trim()
end

-- Sets the most resident bytes of this state, 0: none. Returns what was set before; without an argument it only
-- tells. Beyond it comes "not enough memory", and whoever catches that lives on.
function ace.limit(bytes)
  needs_heap "limit"
  if bytes ~= nil and (type(bytes) ~= "number" or not (bytes >= 0 and bytes <= 2 ^ 53)) then
    error("ace.limit takes a number of bytes, 0 for none", 2)
  end
  return core.limit(bytes)
end

-- The heap's statistics, by name.
function ace.stats()
  needs_heap "stats"
  return core.stats()
end

local Census = {}

function Census:__tostring()
  local lines = {("%12s %12s %8s  %s"):format("blocks", "bytes", "pages", "of")}
  for _, row in ipairs(self) do
    lines[#lines + 1] = ("%12d %12d %8d  %s"):format(row.blocks, row.bytes, row.pages, row.name)
  end
  return table.concat(lines, "\n")
end

-- What lives in the heap, by the size of its blocks: rows with name, size, blocks, bytes, and the pages of 4 KiB that
-- hold some of them; the most bytes first. Where kinds are told apart (ACE_KINDS=on, Lua 5.2 and newer) by these, too.
function ace.census()
  needs_heap "census"
  local rows = core.census()
  table.sort(rows, function(a, b)
    if a.bytes ~= b.bytes then return a.bytes > b.bytes end
    return a.name < b.name
  end)
  return setmetatable(rows, Census)
end

return ace
)lua";

}  // namespace ace::lua
