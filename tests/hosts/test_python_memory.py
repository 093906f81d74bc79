"""What the heap is told by CPython's collector, and the memory that it gives back for it."""

import pytest

RESIDENT = """
import os
def resident():
    with open('/proc/self/statm') as statm: return int(statm.read().split()[1]) * os.sysconf('SC_PAGESIZE')
"""


def test_collections_are_counted(run, python):
    """Each collection that the program asks for arrives: its generation, and what it freed."""
    code = """
import gc
gc.disable()
class Node: pass
def cycles(n):
    for _ in range(n):
        a = Node(); a.self = a
counts = [len(gc.callbacks)]
for generation in (0, 0, 0, 1, 1, 2): cycles(100); gc.collect(generation)
print(*counts)
"""
    none = run([python.path, "-c", "import gc; gc.disable()"]).check_sound().heap("python")
    result = run([python.path, "-c", code]).check_sound()
    heap = result.heap("python")
    assert result.stdout == "1\n"
    assert heap["collections_full"] - none["collections_full"] == 1
    assert heap["collections_partial"] - none["collections_partial"] == 5
    # Each cycle is an instance, and up to 3.12 also its dictionary.
    collected = heap["collected_objects"] - none["collected_objects"]
    assert 600 <= collected <= 1300
    assert heap["phases"]["collect"]["entries"] == heap["collections_full"] + heap["collections_partial"]
    # Those of raw are told of full ones alone, and that objects were freed there by none.
    raw = result.heap("python raw")
    assert (raw["collections_full"], raw["collections_partial"]) == (heap["collections_full"], 0)
    assert raw["collected_objects"] == 0


def test_the_callback_takes_anything(run, python):
    """It stands in a public list: a program that calls it with nonsense must see no effect."""
    code = """
import gc
gc.disable()
(callback,) = gc.callbacks
for arguments in ((), (1,), ('start',), (1, 2), ('start', 3), ('stop', {}),
                  ('stop', {'generation': 'x', 'collected': None}), ('pause', {'generation': 2}), ('\\ud800', {})):
    assert callback(*arguments) is None
gc.callbacks.clear(); gc.collect(); print('done')
"""
    assert run([python.path, "-c", code]).check_sound().stdout == "done\n"


@pytest.mark.parametrize("kinds", ["off", "on"])
def test_memory_returns(run, python, kinds):
    """240 MB of small records of which one in a thousand is kept: after the collection at most a quarter of
    what CPython's own allocator holds may still be resident."""
    code = (
        RESIDENT
        + """
import gc, time
records = [{'id': i, 'name': 'record %d' % i, 'tags': ['tag %d' % (i % 97)]} for i in range(520000)]
peak = resident()
records = records[::1000]
gc.collect(); time.sleep(0.2)
assert all(r['name'] == 'record %d' % r['id'] for r in records)
print(peak, resident())
"""
    )
    peak, rest = map(int, run([python.path, "-c", code], {"ACE_KINDS": kinds}).check_sound().stdout.split())
    stock_peak, stock_rest = map(int, run([python.path, "-c", code], stock=True).stdout.split())
    assert stock_peak > 200e6
    assert rest <= 0.25 * stock_rest, (rest, stock_rest)
    assert peak <= 1.15 * stock_peak, (peak, stock_peak)


def test_memory_returns_in_every_round(run, python):
    """Swell, collect and rest again and again: the rest does not creep upwards, and survivors stay whole. The rests are
    longer than what a second of processor time buys (option memory_price), else they are no occasion to give back."""
    code = (
        RESIDENT
        + """
import gc, time
kept = []
for turn in range(6):
    records = [{'id': i, 'name': 'record %d' % i} for i in range(100000)]
    kept = records[::1000]
    del records
    gc.collect(); time.sleep(1); print(resident())
assert [r['name'] for r in kept] == ['record %d' % i for i in range(0, 100000, 1000)]
"""
    )
    rests = list(map(int, run([python.path, "-c", code]).check_sound().stdout.split()))
    # The first rounds settle where survivors lie.
    assert max(rests[2:]) <= max(rests[:2]) * 1.1, rests


def test_a_forked_child_leaves_shared_pages_alone(run, python):
    """Where objects died all over the heap, a child's new ones would copy a page for each hole that they fill."""
    code = """
import gc, os
class Record:
    __slots__ = ('a', 'b', 'c')
gc.disable()
records = [Record() for _ in range(400000)]
del records[::4]
def private():
    with open('/proc/self/smaps_rollup') as file:
        return sum(int(line.split()[1]) for line in file if line.startswith('Private_Dirty')) * 1024
def child():
    before = private()
    new = [Record() for _ in range(60000)]
    print(private() - before, flush=True)
    os._exit(0)
pid = os.fork() or child()
print(os.waitpid(pid, 0)[1])
"""

    def dirtied(mode):
        result = run([python.path, "-c", code], {"ACE_MODE": mode})
        assert result.returncode == 0, result
        lines = result.stdout.split()
        assert lines[1] == "0"
        return int(lines[0])

    sealed, filled = dirtied("learn"), dirtied("off")
    assert filled > 10e6, "each page has a hole for one object in four"
    assert sealed < 0.6 * filled, (sealed, filled)


def test_mode_off_keeps_it(run, python):
    code = (
        RESIDENT
        + """
import gc
x = [[i] for i in range(200000)]
before = resident()
x = x[::1000]; gc.collect(); print(before, resident())
"""
    )
    result = run([python.path, "-c", code], {"ACE_MODE": "off"}).check_sound()
    before, after = map(int, result.stdout.split())
    heap = result.heap("python")
    assert heap["returned_bytes"] == 0 and heap["collections_full"] >= 1
    assert after > 0.7 * before


def test_kinds_are_counted_exactly(run, python):
    """With kinds on, mem and obj are two groups, whose live blocks add up to those in slabs."""
    result = run([python.path, "-c", "x = [{'a': i} for i in range(10000)]"], {"ACE_KINDS": "on"}).check_sound()
    heap = result.heap("python")
    assert len(heap["kinds"]) == 2
    assert sum(kind["live_blocks"] for kind in heap["kinds"]) == heap["tiny_live_blocks"]
    assert sum(kind["live_bytes"] for kind in heap["kinds"]) == heap["tiny_live_bytes"]


def test_the_limit_is_a_memory_error(run, python):
    """A program that runs into its limit gets a MemoryError, and can go on once it has let go of something."""
    code = """
kept = []
try:
    while True: kept.append(bytearray(1000))
except MemoryError:
    n = len(kept)
    kept.clear()
kept = [bytearray(1000) for _ in range(n // 2)]
print(n)
"""
    result = run([python.path, "-c", code], {"ACE_LIMIT": "64m"}).check_sound()
    assert 20000 < int(result.stdout) < 64 * 1024 * 1024 // 1000
    heap = result.heap("python")
    more = 1 << 20  # for what handles the error
    assert 64 << 20 <= heap["limit_bytes"] <= (64 << 20) + more and heap["limit_failures"] >= 1
    assert heap["peak_resident_bytes"] <= (64 << 20) + more


def test_the_limit_in_a_thread(run, python):
    code = """
import threading
caught = []
def f():
    kept = []
    try:
        while True: kept.append([0] * 50)
    except MemoryError: caught.append(1)
t = threading.Thread(target=f); t.start(); t.join(); print(len(caught))
"""
    assert run([python.path, "-c", code], {"ACE_LIMIT": "64m"}).check_sound().stdout == "1\n"


def test_the_limit_of_raw_alone(run, python):
    code = """
import ctypes
allocate = ctypes.pythonapi.PyMem_RawMalloc
allocate.restype, allocate.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
print(sum(allocate(1 << 20) is not None for _ in range(100)))
"""
    result = run([python.path, "-c", code], {"ACE_DOMAINS": "raw", "ACE_LIMIT": "64m"}).check_sound()
    assert 50 < int(result.stdout) < 64


def test_more_than_the_machine_has_is_a_memory_error(run, python):
    """And not a process that the system ends when the memory is written to."""
    with open("/proc/sys/vm/overcommit_memory") as file:
        if file.read().strip() == "1":
            pytest.skip("here the system gives any amount")
    code = """
for make in (lambda: bytes(1 << 45), lambda: bytearray(1 << 45), lambda: [None] * (1 << 42)):
    try: make()
    except MemoryError: print('MemoryError')
"""
    assert run([python.path, "-c", code]).check_sound().stdout == 3 * "MemoryError\n"
