"""`require "ace"`: a Lua program speaks to the heap that its state lives on, or goes over to one while it runs."""

import ctypes
import os

import pytest

HELP = """
local function try(f, ...) local done, message = pcall(f, ...) assert(not done) print((tostring(message):gsub("^.-: ", ""))) end
local ace = require "ace"
"""


@pytest.fixture
def program(run, lua, preload):
    """program(code, *arguments, stock=False, env={}): runs it with the module in reach, as `ace run` does."""

    def run_code(code, stock=False, env=None):
        pattern = os.path.join(os.path.dirname(preload), "lib?-preload.so")
        return run([lua, "-e", HELP + code], {"LUA_CPATH": pattern + ";;", **(env or {})}, stock=stock)

    return run_code


def test_a_state_on_ace(program):
    code = """
    assert(ace.active() and ace.version:match "^%d+%.%d+%.%d+$")
    local sum, count = ace.phase("frame", function(a, b)
      local t = {} for i = 1, 20000 do t[i] = {i} end
      return a + b, #t
    end, 1, 2)
    print(sum, count)
    try(ace.phase, "frame", function() error("x: inside") end)
    print(ace.idle(function(...) return select("#", ...), nil end, nil, nil))
    collectgarbage() collectgarbage() collectgarbage "stop"
    local before, after = ace.phase("frame", function()
      local before = ace.stats().phase
      ace.idle(function() end)
      return before, ace.stats().phase
    end)
    assert(before == after and before ~= ace.stats().phase, "the burst goes on after a rest, and ends")
    local stats = ace.stats()
    assert(stats.hints >= 8 and stats.collections_full >= 2 and stats.live_bytes > 0 and stats.live_blocks > 100)
    assert(stats.foreign_pointers == 0)
    assert(ace.trim() >= 0)
    """
    result = program(code).check_sound()
    assert result.stdout.split("\n") == ["3\t20000", "x: inside", "2\tnil", ""]


def test_phases_may_yield(program, lua):
    if os.path.basename(lua) == "lua5.1":
        pytest.skip("5.1 cannot yield across pcall")
    code = """
    local thread = coroutine.wrap(function() return ace.phase("turn", function() coroutine.yield(1) return 2 end) end)
    print(thread(), thread())
    """
    assert program(code).check_sound().stdout == "1\t2\n"


def test_phases_end_with_a_coroutine_that_is_closed(program, lua):
    """And an error comes by with its traceback. Before 5.4 nothing can be closed."""
    if os.path.basename(lua) not in ("lua5.4", "lua5.5"):
        pytest.skip("nothing is closed before 5.4")
    code = """
    collectgarbage() collectgarbage "stop"
    local before = ace.stats().phase
    local function wait() coroutine.yield(ace.stats().phase) end
    local thread = coroutine.create(function() ace.phase("turn", ace.idle, wait) end)
    local _, within = coroutine.resume(thread)
    assert(within ~= before and ace.stats().phase == within)
    assert(coroutine.close(thread) and ace.stats().phase == before)
    local function culprit() error "no" end
    local _, trace = xpcall(ace.phase, debug.traceback, "frame", function() culprit() return 1 end)
    assert(trace:find "culprit" and ace.stats().phase == before, trace)
    """
    program(code).check_sound()


def test_census(program):
    code = """
    local before = 0
    for _, row in ipairs(ace.census()) do before = before + row.blocks end
    local kept = {} for i = 1, 200000 do kept[i] = {i} end
    local blocks, bytes, last = 0, 0, math.huge
    for _, row in ipairs(ace.census()) do
      blocks, bytes = blocks + row.blocks, bytes + row.bytes
      assert(row.bytes <= last and row.pages * 4096 >= row.bytes * 0.9 and row.pages <= row.blocks + row.bytes / 2048)
      assert(row.size == 0 or row.size * row.blocks == row.bytes)
      assert(row.blocks < 100000 or row.pages * 4096 < row.bytes * 1.5, "blocks share pages")
      last = row.bytes
    end
    local stats = ace.stats()
    local expected = (jit and 1 or 2) * 200000  -- LuaJIT puts a table and its few elements into one block
    assert(math.abs(blocks - before - expected) < 100, blocks - before)
    assert(math.abs(stats.live_bytes - bytes) < 20000, stats.live_bytes - bytes)
    local text = tostring(ace.census())
    assert(text:match "^ *blocks +bytes +pages +of\\n" and select(2, text:gsub("\\n", "\\n")) >= 5)
    """
    program(code).check_sound()


def test_census_of_a_hardened_heap(program):
    """Of thousands of sizes: each block is in one of the rows."""
    code = """
    local kept = {} for i = 1, 3000 do kept[i] = ("x"):rep(i) end
    local blocks, bytes = 0, 0
    for _, row in ipairs(ace.census()) do
      blocks, bytes = blocks + row.blocks, bytes + row.bytes
      assert(row.size == 0 or row.bytes <= row.size * row.blocks)
    end
    local live = ace.stats().live_blocks  -- the census, which is a table of tables, among them
    assert(blocks > 3000 and live - blocks < 300, blocks .. " of " .. live)
    """
    program(code, env={"ACE_HARDENED": "on"}).check_sound()


def test_limit(program):
    code = """
    local function hoard() local t = {} for i = 1, 1e7 do t[i] = {i} end end
    print(ace.limit(), ace.limit(24 * 2 ^ 20), ace.limit() == 24 * 2 ^ 20)
    for _ = 1, 3 do try(hoard) collectgarbage() collectgarbage() end
    local stats = ace.stats()
    assert(stats.peak_resident_bytes <= 24 * 2 ^ 20 and stats.limit_failures >= 3)
    for i = 1, 3e6 do last = {i} end
    assert(ace.limit(0) == 24 * 2 ^ 20)
    ace.limit(0.5)
    assert(ace.limit(0) == 1, "less than a byte is not none")
    for _, wrong in ipairs {-1, "x", 0 / 0, {}, 1 / 0} do try(ace.limit, wrong) end
    """
    result = program(code).check_sound()
    lines = result.stdout.splitlines()
    assert lines[0].replace(".0", "") == "0\t0\ttrue"
    assert lines[1:4] == ["not enough memory"] * 3
    assert len(lines) == 9 and all("a number of bytes" in line for line in lines[4:])


NOT_THERE = """
assert(not ace.active())
print(ace.phase("frame", function(x) return x end, 7), ace.idle(function() return 8 end))
for _, call in ipairs {ace.trim, ace.limit, ace.stats, ace.census} do try(call) end
try(coroutine.wrap(ace.install))
"""


def test_a_stock_state_is_told_what_to_do(program):
    result = program(NOT_THERE, stock=True)
    lines = result.stdout.splitlines()
    assert result.returncode == 0 and lines[0] == "7\t8" and len(lines) == 6, result
    assert all("ace.install()" in line for line in lines[1:5])
    assert "for the main program" in lines[5]


INSTALL = """
local before, texts = {}, {}
for i = 1, 60000 do before[i] = {tostring(i), i} end
for i = 1, 2000 do texts[i] = ("x"):rep(i) end
local thread = coroutine.create(function() for i = 1, 3 do coroutine.yield(i) end end)
coroutine.resume(thread)
local file = io.open("/dev/null")
ace.install() ace.install()
assert(ace.active())
for i = 1, 60000 do before[i][3] = {i} before[i].name = "n" .. i end
for i = 1, 60000, 3 do before[i] = nil end
for i = 1, 2000 do texts[i] = texts[i] .. "y" end
for i = 1, 60000, 7 do local one = before[i] assert(not one or one[1] == tostring(i) and one[3][1] == i) end
coroutine.resume(thread)
collectgarbage() collectgarbage()
file:close()
local stats = ace.stats()
assert(stats.live_blocks > 100000 and stats.collections_full >= 1, stats.live_blocks)
ace.limit(64 * 2 ^ 20)
print(pcall(function() local t = {} for i = 1, 1e7 do t[i] = {i} end end))
ace.limit(0)
"""


OTHERS = ["libluajit-5.1.so.2", "liblua5.3.so.0", "liblua5.4.so.0"]


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("stock", [False, True])
def test_beside_another_lua(program, lua, other, stock):
    """Its functions, which the whole process sees, are not this state's."""
    if os.path.basename(lua) == "lua5.1":
        pytest.skip("loads no library for all to see")
    try:
        ctypes.CDLL(other)
    except OSError:
        pytest.skip(other + " is not installed")
    code = """
    assert(package.loadlib("%s", "*"))
    local ace = require "ace"
    if not ace.active() then ace.install() end
    assert(ace.active())
    local t = {} for i = 1, 50000 do t[i] = {i} end
    assert(ace.stats().live_blocks > 50000)
    t = nil collectgarbage() collectgarbage()
    assert(ace.stats().live_blocks < 50000)
    print("went on")
    """
    result = program(code % other, stock=stock)
    assert (result.returncode, result.stdout) == (0, "went on\n"), result.stderr


def test_under_strict_globals(program):
    """As Penlight's strict has them: who reads one that is not there errs."""
    code = """
    local meta = getmetatable(_G) or {}
    meta.__index = function(_, name) error("variable '" .. name .. "' is not declared", 2) end
    setmetatable(_G, meta)
    package.loaded.ace = nil
    assert(require "ace".active())
    """
    assert program(code).check_sound().returncode == 0


def test_a_collector_that_was_stopped_stays_so(program):
    code = """
    collectgarbage "stop"
    ace.install()
    local before = collectgarbage "count"
    for i = 1, 200000 do garbage = {i, tostring(i)} end
    print(collectgarbage "count" - before > 10000)
    """
    assert program(code, stock=True).stdout == "true\n"


@pytest.mark.parametrize("kinds", ["off", "on"])
def test_a_running_state_goes_over(program, tmp_path, kinds):
    report = tmp_path / "report"
    env = {"ACE_REPORT": str(report), "ACE_KINDS": kinds}
    result = program(INSTALL, stock=True, env=env)
    assert result.returncode == 0 and result.stderr == "", result
    assert result.stdout == "false\tnot enough memory\n"
    text = report.read_text()
    assert '"closed":1' in text.replace(" ", "") and '"audit":"ok"' in text, text
    assert '"leaked":0' in text.replace(" ", ""), text


def test_states_that_went_over_end_by_exit(program):
    result = program(INSTALL + "os.exit(3)", stock=True)
    assert result.returncode == 3 and result.stderr == "", result
