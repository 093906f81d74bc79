"""Lua programs give the same output on ACE as on the VM's own allocator, and leave a sound heap."""

import re
import textwrap

import pytest

PROGRAMS = {
    "strings": """
        local parts = {}
        for i = 1, 20000 do parts[#parts + 1] = ("%d:%s"):format(i, ("x"):rep(i % 300)) end
        local all = table.concat(parts, ",")
        local sum = 0
        for i = 1, #all, 1000 do sum = (sum * 31 + all:byte(i)) % 1000003 end
        print(#all, sum, all:sub(5000, 5040), (all:gsub("x+", "y")):sub(1, 60))
        for size = 0, 24 do io.write(#("z"):rep(2 ^ size - 1), " ") end
        print()
    """,
    "tables": """
        local t = {}
        for i = 1, 100000 do t[i] = i end
        for i = 1, 100000, 2 do t[i] = nil end
        for i = 1, 3000 do t["key" .. i] = {i, n = i} end
        for i = 1, 3000, 3 do t["key" .. i] = nil end
        local sum, count = 0, 0
        for k, v in pairs(t) do count = count + 1 if type(v) == "table" then sum = sum + v.n else sum = sum + v end end
        print(count, sum)
        local list = {}
        for i = 1, 5000 do table.insert(list, 1 + (i * 7919) % (#list + 1), i) end
        table.sort(list, function(a, b) return a % 997 < b % 997 or (a % 997 == b % 997 and a < b) end)
        while #list > 10 do table.remove(list) end
        print(table.concat(list, " "))
    """,
    "coroutines": """
        local function generate(n) return coroutine.wrap(function() for i = 1, n do coroutine.yield(i) end end) end
        local sum = 0
        for round = 1, 300 do for i in generate(50) do sum = sum + i end end
        local many = {}
        for i = 1, 3000 do
          many[i] = coroutine.create(function(a) local b = coroutine.yield(a + 1) error("stop " .. b) end)
        end
        local ended = 0
        for i = 1, 3000 do
          local _, a = coroutine.resume(many[i], i)
          if i % 3 == 0 then collectgarbage("step") end
          local ok, why = coroutine.resume(many[i], a)
          if not ok and why:find("stop " .. (i + 1), 1, true) then ended = ended + 1 end
        end
        local function deep(n) if n == 0 then return 0 end return 1 + deep(n - 1) end
        print(sum, ended, coroutine.wrap(function() return deep(10000) end)())
    """,
    "closures": """
        local counters = {}
        for i = 1, 20000 do
          local n = i
          counters[i] = {up = function() n = n + 1 return n end, get = function() return n end}
        end
        local sum = 0
        for round = 1, 3 do for i = 1, 20000, 7 do counters[i].up() sum = sum + counters[i].get() end end
        print(sum, select("#", (unpack or table.unpack)({}, 1, 200)))
    """,
    "errors": """
        local caught = {}
        for i = 1, 2000 do
          local ok, why = pcall(function() local t = {} for j = 1, i % 50 do t[j] = {} end error({code = i}) end)
          if not ok then caught[#caught + 1] = why.code end
        end
        print(#caught, caught[2000])
        print(pcall(function() local function endless() return 1 + endless() end return endless() end) == false)
        print(xpcall(error, function(message) return "handled " .. tostring(message) end, "it"))
        print(select("#", (loadstring or load)("syntax error here")), (pcall(string.rep)))
    """,
    "weak tables and finalizers": """
        local weak = setmetatable({}, {__mode = "k"})
        local kept = {}
        for i = 1, 20000 do local key = {} weak[key] = {i} if i % 100 == 0 then kept[#kept + 1] = key end end
        collectgarbage() collectgarbage()
        local count, sum = 0, 0
        for _, value in pairs(weak) do count = count + 1 sum = sum + value[1] end
        print(count, sum)
        local finalized = 0
        local function dying(i)
          local finalizer = function() finalized = finalized + 1 if i % 1000 == 0 then error("in a finalizer", 0) end end
          if newproxy then getmetatable(newproxy(true)).__gc = finalizer else setmetatable({}, {__gc = finalizer}) end
        end
        for i = 1, 999 do dying(i) end
        collectgarbage() collectgarbage()
        print(finalized)
    """,
    "collector modes": """
        local function churn(n) local last for i = 1, n do last = {i, tostring(i)} end return last[2] end
        collectgarbage("stop")
        print(churn(50000), collectgarbage("count") > 2000)
        collectgarbage("restart")
        if _VERSION == "Lua 5.5" then
          collectgarbage("param", "pause", 110) collectgarbage("param", "stepmul", 400)
        else
          collectgarbage("setpause", 110) collectgarbage("setstepmul", 400)
        end
        print(churn(200000))
        for _ = 1, 50 do collectgarbage("step", 100) end
        for _, mode in ipairs {"generational", "incremental", "generational"} do
          pcall(collectgarbage, mode)
          print(churn(200000))
          collectgarbage()
        end
        collectgarbage() collectgarbage() collectgarbage()
        print(churn(1000), collectgarbage("count") < 1000)
    """,
    "a string that cannot be": """
        for power = 44, 46 do
          local ok, why = pcall(string.rep, "x", 2 ^ power)
          print(ok, type(why))
        end
        local big = ("x"):rep(50 * 1000 * 1000)
        big = big .. "y"
        print(#big, big:sub(-2))
        big = nil
        collectgarbage()
        print(#("z"):rep(1000000), collectgarbage("count") < 5000)
    """,
    "big arrays": """
        local arrays = {}
        for a = 1, 4 do
          local array = {}
          for i = 1, 1000000 do array[i] = i % 256 end
          arrays[a] = array
        end
        local sum = 0
        for a = 1, 4 do for i = 1, 1000000, 1000 do sum = sum + arrays[a][i] end end
        arrays = nil
        collectgarbage()
        print(sum, collectgarbage("count") < 5000)
    """,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_same_output_as_stock(run, lua, tmp_path, name):
    program = tmp_path / "program.lua"
    program.write_text(textwrap.dedent(PROGRAMS[name]))
    stock = run([lua, program], stock=True)
    assert stock.returncode == 0 and stock.stdout, stock
    result = run([lua, program]).check_sound()
    assert (result.stdout, result.stderr) == (stock.stdout, stock.stderr)
    assert result.host()["leaked"] == 0 and result.host()["closed"] == 1


@pytest.mark.parametrize("code", ["error()", "error({})", "error('no')", "local x = nil + 1"])
def test_same_failure_as_stock(run, lua, code):
    stock, result = run([lua, "-e", code], stock=True), run([lua, "-e", code])
    # LuaJIT shows the address of a function of its own.
    told = [re.sub("0x[0-9a-f]+", "ADDRESS", run.stderr) for run in (stock, result)]
    assert told[0] == told[1]
    assert (result.returncode, result.stdout) == (stock.returncode, stock.stdout)
    assert all(heap["audit"] == "ok" for heap in result.heaps)
