"""The phases that ACE infers of a Lua are those that the VM is in: compared at each operation (lua_phases.c).

    pytest tests/hosts/test_lua_phases.py                       the programs of bench/vm
    ACE_SUITES=~/suites pytest tests/hosts/test_lua_phases.py   and are-we-fast-yet's, minutes
"""

import json
import os
import pathlib
import subprocess

import pytest

from conftest import REPOSITORY
from test_lua_embedding import HERE, PACKAGES, build, clean_environment

VM = REPOSITORY / "bench" / "vm"
PROGRAMS = {
    "binary_trees": ["10"],
    "string_churn": ["200000", "10000"],
    "table_churn": ["60000", "6000"],
    "rhythm": ["20000", "1", "0.01", "1", "6", "2"],
    "swell": ["60000", "2", "0.01", "1000"],
}
# What is not ordinary: (program, Luas, limit in bytes).
ODD = {
    "generational": (
        """
        collectgarbage("generational")
        local keep = {}
        for i = 1, 400000 do keep[1 + i % 5000] = {i, tostring(i)} end
        """, ["lua5.4", "lua5.5"], None),
    "emergency": (
        """
        collectgarbage("stop")
        local failed = 0
        for round = 1, 12 do
          for i = 1, 60000 do local t = {i, {i}} end
          if not pcall(function() local all = {} for i = 1, 1e7 do all[i] = {i} end end) then failed = failed + 1 end
        end
        assert(failed == 12)
        """, ["lua5.3", "lua5.4", "lua5.5"], 8000000),
    "stop": (
        """
        collectgarbage("stop")
        local t = {}
        for i = 1, 100000 do t[1 + i % 1000] = {i} end
        collectgarbage("restart")
        for i = 1, 300000 do t[1 + i % 1000] = {i} end
        """, PACKAGES, None),
    "coroutines": (
        """
        local function work(n) local t = {} for i = 1, n do t[i] = {i} coroutine.yield(t[i]) end end
        for round = 1, 2000 do
          local co = coroutine.wrap(work)
          co(50)
          for i = 1, 49 do co() end
        end
        """, PACKAGES, None),
    "finalizers": (
        """
        local made = {}
        local function dying(i)
          local function finalize() for k = 1, 5 do made[1 + (i + k) % 100] = {i, k, tostring(k)} end end
          if newproxy then getmetatable(newproxy(true)).__gc = finalize else setmetatable({}, {__gc = finalize}) end
        end
        for i = 1, 60000 do if i % 10 == 0 then dying(i) end local t = {i, {}} end
        """, PACKAGES, None),
    "steps": (
        """
        local t = {}
        for i = 1, 300000 do
          t[1 + i % 5000] = {i}
          if i % 100 == 0 then collectgarbage("step", 1) end
          if i % 50000 == 0 then collectgarbage() end
        end
        """, PACKAGES, None),
}  # fmt: skip
SUITE = pathlib.Path(os.environ.get("ACE_SUITES", "/nowhere")) / "are-we-fast-yet" / "benchmarks" / "Lua"
SUITE_PROGRAMS = {"Json": 10, "CD": 10, "DeltaBlue": 500, "Havlak": 1, "Storage": 30, "Richards": 2}
# The share of operations in the right phase, at least; of a sweep's frees that were known as such, and of those that
# were taken for a sweep's that were.
RIGHT, FOUND, TRUE = 0.98, 0.98, 0.998
# Where the VM's layout is not known and phases are inferred a sweep that finds no garbage passes unseen, and on LuaJIT
# the end is told late while compiled code runs, which calls no finalizers.
INFERRED = 0.75
# Of a program that hardly allocates only the share is told.
ENOUGH = 1000


@pytest.fixture(params=PACKAGES, scope="module")
def watcher(request, tmp_path_factory):
    package = request.param
    if subprocess.run(["pkg-config", "--exists", package]).returncode != 0:
        pytest.skip("the headers of %s are not installed" % package)
    is_luajit = ["-DLUAJIT"] if package == "luajit" else []
    program = tmp_path_factory.mktemp("phases") / ("lua_phases-" + package)
    return build(["cc", "-std=c99", "-O2"], HERE / "lua_phases.c", program, package, *is_luajit)


def check(watcher, folder, *command, least=RIGHT, **settings):
    words = [str(word) for word in (watcher, *command)]
    env = {**clean_environment(), **settings}
    run = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=env)
    if "module 'bit' not found" in run.stderr:
        pytest.skip("the suite needs bit operations, which this Lua has not: apt-get install lua-bitop")
    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stderr.splitlines()[-1])
    right = seen["right"] / seen["operations"]
    found, true = seen["found"] / max(seen["swept"], 1), seen["found"] / max(seen["claimed"], 1)
    print("right %.2f%% of %d; of sweeps' frees found %.2f%%, true %.2f%%" % (
        100 * right, seen["operations"], 100 * found, 100 * true))  # fmt: skip
    assert right >= least
    if seen["swept"] < ENOUGH:
        assert "harness.lua" in command, "the program is no test: its collector freed next to nothing"
        return
    assert (right >= least, found >= FOUND, true >= TRUE) == (True, True, True), (right, found, true)


@pytest.mark.parametrize("program", PROGRAMS)
def test_phases(watcher, program):
    check(watcher, VM, program + ".lua", *PROGRAMS[program])


@pytest.mark.parametrize("name", ODD)
def test_phases_of_what_is_not_ordinary(watcher, name, tmp_path):
    program, luas, limit = ODD[name]
    if not any("lua_phases-" + lua in watcher.name for lua in luas):
        pytest.skip("not of this Lua")
    script = tmp_path / "program.lua"
    script.write_text(program)
    check(watcher, tmp_path, script, **({"LIMIT": str(limit)} if limit else {}))


def test_phases_with_kinds(watcher):
    """Where kinds of objects live apart each allocation takes the longer way."""
    check(watcher, VM, "table_churn.lua", *PROGRAMS["table_churn"], ACE_KINDS="on")


@pytest.mark.parametrize("program", ["binary_trees", "string_churn", "swell"])
def test_phases_inferred(watcher, program):
    check(watcher, VM, program + ".lua", *PROGRAMS[program], UNKNOWN="1", least=INFERRED)


@pytest.mark.skipif(not SUITE.is_dir(), reason="ACE_SUITES names no folder with are-we-fast-yet in it")
@pytest.mark.parametrize("program", SUITE_PROGRAMS)
def test_phases_of_suite(watcher, program):
    check(watcher, SUITE, "harness.lua", program, 1, SUITE_PROGRAMS[program])
