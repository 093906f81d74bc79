"""The budget of the hot path, in instructions: of the exported functions of explicit heaps, inside real hosts.

Each host runs once under callgrind, which counts exactly; a table of all that was measured ends the test run.
"""

import dataclasses
import functools
import os
import re
import shutil
import subprocess
import sys

import pytest
from callgrind import Counts, run
from conftest import BUILD, REPOSITORY
from fast_path import address_of_call, function_code, symbols, walk

# The most instructions of a function's fast path on x86-64, hints and observation included, its return counted.
LIMITS = {
    "ace_heap_alloc": 14,
    "ace_heap_alloc_kind": 20,  # the choice of the kind's group
    "ace_heap_free": 17,
    "ace_heap_free_sized": 19,
    "ace_heap_try_free": 18,
}
# The least share of calls that allocate and take it. A sweep frees into many slabs, and only one of a class is
# current: a host's share of frees says something of the program, and is told without a limit.
SHARE_OF_ALLOCATIONS = 0.9
SHARE_OF_FAST_PATHS = 0.99  # in fast_paths.c, where every call is meant to take it

MANY = 50_000  # calls; a host makes more
FAST_PATHS = "fast paths"

HERE = REPOSITORY / "tests" / "budget"
PRELOAD = BUILD / "bindings" / "preload" / "libace-preload.so"
LIBRARY = BUILD / "src" / "libace.so"
PYTHON = [shutil.which("python3", path="/usr/bin") or sys.executable, "-I", "-S", HERE / "trees.py"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """What a real host calls, the heap's part inlined: the function, whose name is mangled, or the one that it
    leads to by a jump; and the most instructions of the whole way."""

    function: str
    reached: str
    limit: int


# Nearly all that Lua frees is swept, from slabs that are not current. Python's domains are numbered: 1 mem, 2 obj.
ENTRIES = {
    "lua_Alloc, new": Entry(r"^ace_lua_alloc$", r"12allocate_newER10ace_lua_vmmm(\.lto_priv\.\d+)?$", 32),
    "lua_Alloc, free": Entry(r"^ace_lua_alloc$", r"7releaseER10ace_lua_vmPvm(\.lto_priv\.\d+)?$", 62),
    "obj malloc": Entry(r"VmDomain.*DomainE2ELj0.*8allocateEPvm$", "", 17),
    "obj free": Entry(r"VmDomain.*DomainE2ELj0.*7releaseEPvS", "", 20),
    "obj malloc, kinds": Entry(r"VmDomain.*DomainE2ELj1.*8allocateEPvm$", "", 24),
    "obj free, kinds": Entry(r"VmDomain.*DomainE2ELj1.*7releaseEPvS", "", 20),
}
# Of functions of fast_paths.c, what they call: all that a call takes is told, without a limit.
WHOLE_CALLS = {
    "shrink_in_place": "ace_heap_realloc",
    "lua_shrink_in_place": "ace_lua_alloc",
    "lua_free_null": "ace_lua_alloc",
}


@dataclasses.dataclass(frozen=True)
class Host:
    program: tuple
    library: str
    env: dict = dataclasses.field(default_factory=dict)


def stock(*program, **env):
    return Host(program, os.path.realpath(PRELOAD), {"LD_PRELOAD": str(PRELOAD), **env})


HOSTS = {
    FAST_PATHS: Host((), os.path.realpath(LIBRARY)),  # fast_paths.c, built by the fixture `measured`
    "luajit": stock("luajit", HERE / "trees.lua"),
    "lua5.4": stock("lua5.4", HERE / "trees.lua"),
    "python3": stock(*PYTHON),
    "python3, kinds": stock(*PYTHON, ACE_KINDS="on"),
    "luajit, learn": stock("luajit", HERE / "trees.lua", ACE_MODE="learn"),
    "python3, learn": stock(*PYTHON, ACE_MODE="learn"),
}


@dataclasses.dataclass
class Measured:
    """A host that has run."""

    name: str
    library: str
    counts: Counts
    calls: dict

    def path(self, function, through=None):
        """The fast path of a function, or None where it was hardly called, or never went by the call `through`."""
        code = function_code(self.library, function)
        at = None
        if through is not None and (at := address_of_call(code, through)) is None:
            return None
        if self.counts.executed[min(code) if at is None else at] < 1000:
            return None
        return walk(code, self.counts, at)

    def entries(self):
        """(name, Entry, function, its Path, instructions of the whole way) of the entries that this host used."""
        for name, entry in ENTRIES.items():
            for function in filter(re.compile(entry.function).search, symbols(self.library)):
                if not entry.reached:
                    if path := self.path(function):
                        yield name, entry, function, path, path.length
                    continue
                reached = next(filter(re.compile(entry.reached).search, symbols(self.library)))
                outer, inner = self.path(function, reached), self.path(reached)
                if outer is not None and inner is not None:
                    yield name, entry, reached, inner, outer.length + inner.length

    def share_without_calls(self, function, path):
        """Of a function that may hold several ways that call nothing, once the host has started: what CPython does
        before it is initialised goes another way."""
        calls = {callee: count for (by, callee), (count, _) in self.calls.items() if by == function}
        starting = sum(count for callee, count in calls.items() if "slowly" in callee)
        return 1 - (sum(calls.values()) - starting) / (path.calls - starting)

    def mean(self, function, caller=None):
        """Instructions in a mean call, with all that it calls."""
        some = [took for (by, callee), took in self.calls.items() if callee == function and caller in (None, by)]
        return sum(cost for _, cost in some) / sum(count for count, _ in some)


    def others(self, function):
        """Of what is not fast, the function that most of it goes to."""
        counts = {callee: count for (by, callee), (count, _) in self.calls.items() if by == function}
        mangled = max(counts, key=counts.get, default="")
        name = subprocess.run(["c++filt", mangled], capture_output=True, text=True).stdout.strip()
        name = name.replace("(anonymous namespace)::", "").partition("(")[0]
        return name.rpartition("::")[2].removesuffix(".cold")


ROW = "%-20s %-15s %6s %6s %8s %9s %7s  %s"


@pytest.fixture(scope="session")
def measured(table, tmp_path_factory):
    """measured(host's name): the Measured, of one run for all tests."""
    table.append(ROW % ("function", "host", "fast", "limit", "calls", "share", "mean", "others go to"))

    @functools.cache
    def measure(name):
        host, folder = HOSTS[name], tmp_path_factory.mktemp("host")
        if not os.path.exists(host.library):
            pytest.fail("%s is missing: build first, or say where by ACE_BUILD" % host.library)
        command = list(map(str, host.program)) or [build_fast_paths(folder)]
        if shutil.which(command[0]) is None:
            pytest.skip("%s is not installed" % command[0])
        profile = run(command, folder, host.env)
        result = Measured(name, host.library, profile.objects.get(host.library, Counts()), profile.calls)
        table.extend(list(rows(result)))
        return result

    return measure


def build_fast_paths(folder):
    program = folder / "fast_paths"
    folders = ["-I%s" % (REPOSITORY / "include"), "-I%s" % (REPOSITORY / "bindings" / "lua")]
    libraries = [BUILD / "bindings" / "lua" / "libace-lua.a", LIBRARY, "-Wl,-rpath,%s" % LIBRARY.parent, "-lpthread"]
    # Without stubs for calls between libraries, which would stand as the callers.
    flags = ["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-fno-plt"]
    command = ["cc", *flags, *folders, HERE / "fast_paths.c", "-o", program, *libraries]
    subprocess.run(list(map(str, command)), check=True)
    return str(program)


def rows(host):
    """What the table says of a host."""
    for function, limit in LIMITS.items():
        if path := host.path(function):
            numbers = path.length, limit, path.calls, "%.2f %%" % (100 * path.share), "%.1f" % host.mean(function)
            yield ROW % (function, host.name, *numbers, host.others(function))
    for name, entry, function, path, length in host.entries():
        share = "%.2f %%" % (100 * host.share_without_calls(function, path))
        numbers = length, entry.limit, path.calls, share, "%.1f" % host.mean(function)
        yield ROW % (name, host.name, *numbers, host.others(function))
    if host.name == FAST_PATHS:
        for entry, function in WHOLE_CALLS.items():
            yield ROW % (entry.replace("_", " "), host.name, "%g" % host.mean(function, entry), "", "", "", "", "")


def problems(host):
    """What a host tells against the budget, a line each."""
    for function, limit in LIMITS.items():
        path = host.path(function)
        if path is None:
            continue
        if path.length > limit:
            yield "%s takes %d instructions, and %d at most are allowed" % (function, path.length, limit)
        if host.name == FAST_PATHS and path.share < SHARE_OF_FAST_PATHS:
            shares = 100 * path.share, function, 100 * SHARE_OF_FAST_PATHS
            yield "%.2f %% of %s are fast, and %.0f %% have to be" % shares
    if host.name == FAST_PATHS:
        yield from ("%s was not called" % function for function in LIMITS if host.path(function) is None)
        return
    calls = {"free": 0, "allocate": 0}
    for name, entry, function, path, length in host.entries():
        share = host.share_without_calls(function, path)
        kind = "free" if "free" in name else "allocate"
        calls[kind] += path.calls
        if length > entry.limit:
            yield "%s takes %d instructions, and %d at most are allowed" % (name, length, entry.limit)
        if kind == "allocate" and share < SHARE_OF_ALLOCATIONS:
            yield "%.2f %% of %s are fast, and %.0f %% have to be" % (100 * share, name, 100 * SHARE_OF_ALLOCATIONS)
    # So that nothing goes missing unseen: a function that is inlined, or a host that was not entered.
    yield from ("it hardly does %s: %d calls" % (kind, count) for kind, count in calls.items() if count < MANY)


@pytest.mark.parametrize("name", HOSTS)
def test_budget(measured, name):
    if found := list(problems(measured(name))):
        pytest.fail("\n".join(["in %s:" % name, *found]), pytrace=False)


@pytest.mark.parametrize("name", ["luajit", "python3"])
def test_the_loop_costs_the_hot_path_nothing(measured, name):
    lengths = [{entry: length for entry, *_, length in measured(host).entries()} for host in (name, name + ", learn")]
    assert lengths[0] and lengths[0] == lengths[1]
