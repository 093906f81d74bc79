"""Hosts that the system refuses memory: they get their own error for it, live on, and lose nothing.

Python raises MemoryError and Lua "not enough memory"; both go on once there is memory again, and every heap passes
its audit at the end (check_sound).
"""

import os
import pathlib
import resource
import shutil
import signal
import subprocess
import uuid

import pytest
from conftest import LUAS

ADDRESS_SPACE = 300 << 20

PYTHON_FILLS = """
import gc, sys

def fill(size):
    blocks = []
    try:
        while len(blocks) < (4 << 30) // size:
            blocks.append(bytearray(size))
    except MemoryError:
        return len(blocks)
    sys.exit("4 GiB were given")

kept = [str(i) * 3 for i in range(100_000)]
for size in (1_000, 20_000, 3_000_000, 1_000):
    many = fill(size)
    assert many * size > 16 << 20, (size, many)
    gc.collect()
    assert all(text == str(i) * 3 for i, text in enumerate(kept)), size
print("lives on", sum(map(len, kept)))
"""

LUA_FILLS = """
local kept = {}
for i = 1, 100000 do kept[i] = tostring(i) .. "k" end
for _, size in ipairs{1000, 20000, 3000000, 1000} do
  local many = 0
  local ok, message = pcall(function()
    local blocks = {}
    while many * size < 4 * 2 ^ 30 do
      local word = many .. "x"  -- all over it: Lua 5.1 looks at few bytes of a text, and compares those that agree
      blocks[#blocks + 1] = string.rep(word, math.ceil(size / #word))
      many = many + 1
    end
  end)
  collectgarbage()  -- before anything else is asked for: LuaJIT does not collect when it gets no memory
  assert(not ok and message:find("not enough memory", 1, true), message)
  assert(many * size > 16 * 2 ^ 20, size .. " x " .. many)
  for i = 1, 100000 do assert(kept[i] == i .. "k") end
end
print("lives on")
"""


def limit_address_space():
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))


def test_python_below_a_limit_of_address_space(run, python):
    result = run([python.path, "-c", PYTHON_FILLS], preexec_fn=limit_address_space)
    assert result.check_sound().stdout.startswith("lives on"), result


def test_lua_below_a_limit_of_address_space(run, lua):
    interpreted = ["-joff"] if "luajit" in lua else []
    result = run([lua, *interpreted, "-e", LUA_FILLS], preexec_fn=limit_address_space)
    assert result.check_sound().stdout.startswith("lives on"), result


@pytest.mark.xfail(
    strict=True,
    reason="open: LuaJIT crashes in its collector after compiled code was refused memory; not by its own allocator, "
    "nor on ACE without the preloaded library's hints",
)
def test_luajit_that_is_refused_memory_in_compiled_code(run):
    if "luajit" not in LUAS:
        pytest.skip("there is no LuaJIT here")
    result = run([LUAS["luajit"], "-e", LUA_FILLS], preexec_fn=limit_address_space)
    assert result.check_sound().stdout.startswith("lives on"), result


# Every second page of a mapping gets another protection, until the system counts as many mappings as it allows.
PYTHON_USES_UP_MAPPINGS = """
import ctypes, gc, sys

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + 3 * [ctypes.c_int] + [ctypes.c_long]
libc.mprotect.argtypes = libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int][:2]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
most = int(open("/proc/sys/vm/max_map_count").read())
size = 2 * (most + 1000) * 4096
large = [bytearray(3_000_000 + i) for i in range(8)]  # to be given back while the system can count no more
small = [[b"%d" % i * 20 for i in range(20_000)] for _ in range(10)]
start = libc.mmap(None, size, 0, 0x4022, -1, 0)
assert start not in (None, ctypes.c_void_p(-1).value)
page = start
while libc.mprotect(page, 4096, 1) == 0:
    page += 8192
    assert page < start + size, "the system counts more mappings than it says"
refused = given = 0
for i in range(300):
    try:
        large.append(bytearray(3_000_000 + i))
        given += 1
    except MemoryError:
        refused += 1
    if i % 3 == 0:
        del large[i % len(large)]
    if i % 50 == 0:
        small[i // 50] = None
        gc.collect()
assert refused > 0, "all were given"
assert all(len(block) >= 3_000_000 for block in large)
assert libc.munmap(start, size) == 0
large = [bytearray(3_000_000) for _ in range(50)]
print("lives on", refused, given)
"""


def test_python_without_another_mapping(run, python):
    most = int(pathlib.Path("/proc/sys/vm/max_map_count").read_text())
    if most > 300_000:
        pytest.skip("the system allows %d mappings: using them up takes too long" % most)
    result = run([python.path, "-c", PYTHON_USES_UP_MAPPINGS])
    assert result.check_sound().stdout.startswith("lives on"), result


# ---- without /proc


@pytest.fixture
def without_proc():
    """A command's beginning that has it run with an empty /proc."""
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c",
               'mount -t tmpfs none /proc && exec "$@"', "sh"]  # fmt: skip
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode != 0:
        pytest.skip("this user may not mount over /proc (unshare -m)")
    assert subprocess.run([*command, "test", "-e", "/proc/self"]).returncode == 1
    return command


def test_python_without_proc(run, python, without_proc):
    code = "import threading; a = [str(i) for i in range(10**6)]; del a; import gc; gc.collect(); print('lives on')"
    # Both sh and Python are entered or looked at; the last is the one that is asked for.
    result = run([*without_proc, python.path, "-c", code])
    assert result.returncode == 0 and result.stdout == "lives on\n", result
    assert result.hosts[-1]["active"] and result.heaps and all(heap["audit"] == "ok" for heap in result.heaps), result


def test_lua_without_proc(run, lua, without_proc):
    code = "local t = {} for i = 1, 10^6 do t[i] = i .. 'x' end t = nil collectgarbage() print('lives on')"
    result = run([*without_proc, lua, "-e", code])
    assert result.returncode == 0 and result.stdout == "lives on\n", result
    assert result.hosts[-1]["active"] and result.heaps and all(heap["audit"] == "ok" for heap in result.heaps), result


# ---- in a container


@pytest.fixture
def memory_group():
    """memory_group(bytes): a cgroup with that limit, as a function that a child calls to enter it."""
    made = []

    def make(limit):
        name = "ace-test-%s" % uuid.uuid4().hex[:12]
        for root, file in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
            folder = pathlib.Path(root) / name
            try:
                folder.mkdir()
                made.append(folder)
                (folder / file).write_text(str(limit))
            except OSError:
                continue
            return lambda: (folder / "cgroup.procs").write_text(str(os.getpid()))
        return pytest.skip("cgroups cannot be made here")

    yield make
    for folder in made:
        folder.rmdir()


# It swells, drops all but a few objects that are spread over it, and rests; then others need the memory.
SWELLS_BESIDE_OTHERS = """
import gc, mmap, time
for _ in range(3):
    objects = [str(i) * 4 for i in range(1_500_000)]
    kept = objects[::500]
    del objects
    gc.collect()
    time.sleep(0.5)
    others = mmap.mmap(-1, 150 << 20)
    for at in range(0, len(others), 4096):
        others[at] = 1
    others.close()
print("lives on")
"""


def test_python_in_a_container_gives_back_what_others_need(run, python, memory_group):
    command, limit = [python.path, "-c", SWELLS_BESIDE_OTHERS], 210 << 20
    result = run(command, preexec_fn=memory_group(limit))
    assert result.check_sound().stdout == "lives on\n", result
    stock = run(command, stock=True, preexec_fn=memory_group(limit))
    assert stock.returncode == -signal.SIGKILL, stock  # by the system, for want of memory
