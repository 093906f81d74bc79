"""The heap API: what Python sees of the core, and that misuse raises."""

import ctypes
import gc
import os
import subprocess
import sys
import threading
import weakref

import acealloc
import pytest
from acealloc import BadAddress, Heap, Hint

MIB = 1 << 20


@pytest.fixture
def heap():
    with Heap("test") as made:
        yield made
        made.audit()


def fill(heap, count, size):
    return [heap.alloc(size) for _ in range(count)]


def test_a_block_holds_what_was_written(heap):
    block = heap.alloc(100)
    heap.write(block, b"hello")
    assert heap.read(block, 5) == b"hello"
    assert block % 16 == 0
    assert heap.usable_size(block) >= 100


@pytest.mark.parametrize("size", [1, 16, 1000, 5000, 100_000, 5 * MIB])
def test_realloc_keeps_the_contents(heap, size):
    block = heap.alloc(size)
    heap.write(block, b"x" * size)
    grown = heap.realloc(block, 3 * size)
    assert heap.read(grown, size) == b"x" * size
    shrunk = heap.realloc(grown, 1)
    assert heap.read(shrunk, 1) == b"x"
    heap.free(shrunk)
    assert heap.stats()["live_blocks"] == 0


@pytest.mark.parametrize("alignment", [16, 64, 4096, 65536, acealloc.ALIGNMENT_MAX])
def test_zeroed_and_aligned(heap, alignment):
    dirty = heap.alloc(3000)
    heap.write(dirty, b"\xff" * 3000)
    heap.free(dirty)
    block = heap.alloc(3000, zero=True, alignment=alignment)
    assert block % alignment == 0
    assert heap.read(block, 3000) == bytes(3000)


def test_a_walk_is_of_one_moment():
    """What it gives is made by Python, whose collector may run then, and a finalizer that uses the heap."""
    heap = Heap("walked")
    blocks = fill(heap, 50_000, 48)

    class Freeing:
        def __del__(self):
            for block in blocks:
                heap.free(block)
            heap.trim()

    garbage = Freeing()
    garbage.itself = garbage
    del garbage
    assert len(heap.walk()) == 50_000
    gc.collect()
    assert heap.walk() == []
    heap.close()


def test_a_write_after_free_is_raised_where_it_is_found():
    code = """
import ctypes, acealloc
heap = acealloc.Heap("hardened")
blocks = [heap.alloc(64) for _ in range(3000)]
for block in blocks: heap.free(block)
ctypes.memset(blocks[1500] + 8, 65, 4)
given, raised = [], []
for _ in range(3000):
    try: given.append(heap.alloc(64))
    except acealloc.BadAddress as error: raised.append((error.reason, error.address == blocks[1500]))
for block in given: heap.free(block)
print(raised, heap.stats()["live_blocks"])
"""
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "ACE_HARDENED": "on"}, capture_output=True,
                          text=True)  # fmt: skip
    assert done.stdout == "[('write_after_free', True)] 0\n", done.stderr


@pytest.mark.parametrize("call", [Heap.trim, lambda heap: heap.hint(Hint.PRESSURE)])
def test_a_write_after_free_that_is_found_when_memory_goes_back(call):
    heap = Heap("spoiled")
    blocks = fill(heap, 100, 64)
    for block in blocks[:50]:
        heap.free(block)
    ctypes.memset(blocks[20], 65, 16)
    with pytest.raises(BadAddress) as raised:
        call(heap)
    assert raised.value.reason == "write_after_free"
    heap.close()
    assert Heap("another").alloc(100), "it was said once"


def test_statistics_agree_with_the_walk(heap):
    blocks = fill(heap, 1000, 100) + fill(heap, 10, 10_000) + fill(heap, 2, 3 * MIB)
    for block in blocks[::3]:
        heap.free(block)
    walked = heap.walk()
    stats = heap.stats()
    assert {address for address, _, _ in walked} == set(blocks) - set(blocks[::3])
    assert stats["live_blocks"] == len(walked)
    assert stats["live_bytes"] == sum(usable for _, usable, _ in walked)
    assert stats["resident_bytes"] == stats["faulted_bytes"] - stats["returned_bytes"] - stats["released_bytes"]


def test_statistics_have_every_field_of_the_list(heap):
    stats = heap.stats()
    names = [name for name, *_ in acealloc.stats_fields()]
    assert len(names) > 30
    assert set(stats) == set(names) | {"phases", "kinds"}
    assert list(stats["phases"]) == acealloc.phases()


def test_phases_have_what_happened_in_them(heap):
    kept = fill(heap, 100_000, 64)
    heap.hint(Hint.COLLECT_BEGIN)
    for block in kept[1::2] + kept[::4]:
        heap.free(block)
    heap.hint(Hint.COLLECT_END)
    fill(heap, 1000, 1000)
    stats = heap.stats()
    phases = stats["phases"].values()
    assert stats["phases"]["collect"]["entries"] == 1
    assert sum(phase["faulted_bytes"] for phase in phases) == stats["faulted_bytes"] > 7e6
    assert sum(phase["returned_bytes"] for phase in phases) == stats["returned_bytes"]


def test_kinds_are_counted_exactly():
    with Heap("kinds", kind_groups=3) as heap:
        for kind, count in ((0, 5), (1, 7), (2, 11), (9, 13)):  # kinds beyond the last group share it
            for _ in range(count):
                heap.alloc(64, kind)
        assert [kind["live_blocks"] for kind in heap.stats()["kinds"]] == [5, 7, 24]
        assert sorted(group for _, _, group in heap.walk()) == [0] * 5 + [1] * 7 + [2] * 24


@pytest.mark.parametrize("give_back", [lambda heap: heap.trim(), lambda heap: heap.hint(Hint.COLLECT_END)])
def test_memory_goes_back_around_the_survivors(heap, give_back):
    blocks = fill(heap, 400_000, 64)
    before = heap.stats()["resident_bytes"]
    kept = set(blocks[::1000])
    for block in blocks:
        if block not in kept:
            heap.free(block)
    heap.hint(Hint.COLLECT_BEGIN)
    give_back(heap)
    after = heap.stats()
    assert after["live_blocks"] == len(kept)
    assert after["resident_bytes"] < before / 4
    assert {address for address, _, _ in heap.walk()} == kept


def test_trim_keeps_to_its_budget(heap):
    for block in fill(heap, 100_000, 64):
        heap.free(block)
    assert 0 < heap.trim(budget=256 * 1024) <= 256 * 1024


def test_the_limit_raises_memory_error():
    with Heap("small", limit=4 * MIB) as heap:
        assert heap.limit == 4 * MIB
        with pytest.raises(MemoryError, match="heap 'small'.*limit is 4194304"):
            fill(heap, 100_000, 1000)
        assert heap.stats()["resident_bytes"] <= 4 * MIB
        heap.limit = 0
        assert heap.alloc(8 * MIB)
        heap.audit()


def test_on_limit_may_free_and_retry():
    blocks, asked = [], []

    def on_limit(missing):
        asked.append(missing)
        while blocks:
            heap.free(blocks.pop())
        heap.trim()
        return True

    heap = Heap("soft", limit=4 * MIB, on_limit=on_limit)
    for _ in range(20_000):
        blocks.append(heap.alloc(1000))
    assert asked and all(missing > 0 for missing in asked)
    assert heap.stats()["limit_callbacks"] == len(asked)
    heap.audit()


def test_what_on_limit_raises_comes_through():
    def on_limit(missing):
        raise KeyError("from on_limit")

    with Heap(limit=2 * MIB, on_limit=on_limit) as heap:
        with pytest.raises(KeyError, match="from on_limit"):
            fill(heap, 100_000, 1000)
        heap.audit()


@pytest.mark.parametrize("resizes", [False, True])
def test_on_limit_raises_but_has_made_room(resizes, monkeypatch):
    """Whoever was given the block must learn of it."""
    blocks, told = [], []
    monkeypatch.setattr("sys.unraisablehook", lambda one: told.append(str(one.exc_value)))

    def on_limit(missing):
        for block in blocks:
            heap.free(block)
        heap.trim()
        raise ValueError("afterwards")

    with Heap(limit=4 * MIB, on_limit=on_limit) as heap:
        mine = heap.alloc(MIB)
        heap.write(mine, b"mine")
        blocks[:] = [heap.alloc(MIB) for _ in range(2)]
        new = heap.realloc(mine, 3 * MIB) if resizes else heap.alloc(2 * MIB)
        assert told == ["afterwards"]
        assert {address for address, _, _ in heap.walk()} == {new} | (set() if resizes else {mine})
        assert heap.read(new if resizes else mine, 4) == b"mine"
        heap.audit()


def test_an_interrupt_of_on_limit_comes_through():
    blocks = []

    def on_limit(missing):
        heap.free(blocks.pop())
        heap.trim()
        raise KeyboardInterrupt

    with Heap(limit=4 * MIB, on_limit=on_limit) as heap:
        blocks[:] = [heap.alloc(3 * MIB)]
        with pytest.raises(KeyboardInterrupt):
            heap.alloc(2 * MIB)
        heap.audit()


@pytest.mark.parametrize("forbidden", [lambda heap: heap.alloc(16), Heap.close, Heap.walk, Heap.audit])
def test_on_limit_may_not_allocate_or_close(forbidden):
    with Heap(limit=2 * MIB, on_limit=lambda missing: forbidden(heap)) as heap:
        with pytest.raises(RuntimeError, match="on_limit may free"):
            fill(heap, 100_000, 1000)
        heap.audit()


def test_other_threads_are_refused_while_on_limit_runs():
    seen = []

    def from_another_thread():
        try:
            heap.stats()
        except RuntimeError as error:
            seen.append(str(error))

    def on_limit(missing):
        thread = threading.Thread(target=from_another_thread)
        thread.start()
        thread.join()
        return False

    with Heap(limit=2 * MIB, on_limit=on_limit) as heap:
        with pytest.raises(MemoryError):
            fill(heap, 100_000, 1000)
        assert seen and "another thread" in seen[0]


# ------------------------------------------------------------------------------------------- misuse


@pytest.mark.parametrize(
    "offset, reason", [(0, "double_free"), (1, "interior"), (16, "interior")], ids=["again", "odd", "inside"]
)
def test_wrong_addresses_raise(heap, offset, reason):
    block = heap.alloc(100)
    keep = heap.alloc(100)
    if offset == 0:
        heap.free(block)
    for call in (heap.free, heap.usable_size, heap.read, lambda a: heap.realloc(a, 10), lambda a: heap.write(a, b"")):
        with pytest.raises(BadAddress) as raised:
            call(block + offset)
        assert raised.value.reason == reason
        assert raised.value.address == block + offset
    assert heap.usable_size(keep)
    heap.audit()


@pytest.mark.parametrize("address", [0, 16, 0x12345, 2**47 - 16, 2**64 - 16])
def test_foreign_addresses_raise(heap, address):
    for call in (heap.free, heap.usable_size, lambda a: heap.realloc(a, 10)):
        with pytest.raises(BadAddress) as raised:
            call(address)
        assert raised.value.reason == "foreign"


def test_a_sized_free_is_checked(heap):
    block = heap.alloc(100)
    with pytest.raises(BadAddress) as raised:
        heap.free(block, 5000)
    assert raised.value.reason == "size_mismatch"
    heap.free(block, 100)
    assert heap.stats()["live_blocks"] == 0


def test_blocks_of_a_closed_heap_are_foreign(heap):
    other = Heap("other")
    block = other.alloc(100)
    with pytest.raises(BadAddress) as raised:
        heap.read(block)
    assert raised.value.reason == "other_heap"
    other.close()
    with pytest.raises(BadAddress) as raised:
        heap.free(block)
    assert raised.value.reason == "foreign"


def test_a_block_freed_through_another_heap_goes_home(heap):
    with Heap("owner") as owner:
        blocks = fill(owner, 100, 64)
        for block in blocks:
            heap.free(block)
        fill(owner, 10_000, 64)  # runs dry, and drains what came from afar
        assert owner.stats()["remote_frees"] == 100
        owner.trim()
        assert owner.stats()["live_blocks"] == 10_000
        owner.audit()
    assert heap.stats()["misrouted_pointers"] == 100


@pytest.mark.parametrize(
    "call, error",
    [
        (lambda heap: heap.alloc(-1), TypeError),
        (lambda heap: heap.alloc(2**63), MemoryError),
        (lambda heap: heap.alloc(2**64 - 1), MemoryError),
        (lambda heap: heap.alloc(2**64), TypeError),
        (lambda heap: heap.alloc("1"), TypeError),
        (lambda heap: heap.alloc(10, acealloc.KIND_MAX), ValueError),
        (lambda heap: heap.alloc(10, alignment=0), ValueError),
        (lambda heap: heap.alloc(10, alignment=24), ValueError),
        (lambda heap: heap.alloc(10, alignment=2 * acealloc.ALIGNMENT_MAX), ValueError),
        (lambda heap: heap.alloc(2**62, alignment=4096), MemoryError),
        (lambda heap: heap.realloc(heap.alloc(10), 2**63), MemoryError),
        (lambda heap: heap.realloc(heap.alloc(10), 20, acealloc.KIND_MAX), ValueError),
        (lambda heap: heap.write(heap.alloc(10), b"x" * 100), ValueError),
        (lambda heap: heap.read(heap.alloc(10), 100), ValueError),
        (lambda heap: heap.hint(99), TypeError),
        (lambda heap: Heap(kind_groups=0), ValueError),
        (lambda heap: Heap(kind_groups=acealloc.KIND_GROUPS_MAX + 1), ValueError),
        (lambda heap: Heap(on_limit=5), TypeError),
    ],
)
def test_bad_arguments(heap, call, error):
    with pytest.raises(error):
        call(heap)


def test_a_copy_that_finds_no_memory():
    code = """
import resource
from acealloc import Heap
heap = Heap()
block = heap.alloc(1 << 30)
most = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + (64 << 20)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
try: heap.read(block)
except MemoryError: print("no memory")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "no memory\n", done


def test_a_closed_heap_raises():
    heap = Heap("gone")
    heap.close()
    heap.close()
    assert heap.closed and repr(heap) == "<Heap 'gone', closed>"
    for call in (
        lambda: heap.alloc(1), lambda: heap.free(16), heap.stats, heap.walk, heap.audit, heap.trim,
        lambda: heap.limit, lambda: heap.hint(Hint.SWEEP),
    ):  # fmt: skip
        with pytest.raises(RuntimeError, match="heap 'gone' is closed"):
            call()


# ------------------------------------------------------------------------------------------ lifetime


def test_the_collector_sees_through_on_limit():
    class Witness:
        pass

    def make():
        witness = Witness()

        def on_limit(missing):  # holds the heap that holds it
            return heap.trim() > 0 and witness is not None

        heap = Heap("cycle", on_limit=on_limit)
        return weakref.ref(witness)

    gone = make()
    assert gone() is not None
    gc.collect()
    assert gone() is None


def test_the_collector_ends_a_heap_that_asks_itself():
    """Nothing else of the cycle can be cleared."""

    class Asking(Heap):
        def __init__(self):
            super().__init__("asking", on_limit=self.more)

        def more(self, missing):
            return self.trim() > 0

    Asking()
    gc.collect()
    assert not any(type(one) is Asking for one in gc.get_objects())


def test_a_closed_heap_lets_go_of_on_limit():
    def on_limit(missing):
        return False

    heap, gone = Heap("closed", on_limit=on_limit), weakref.ref(on_limit)
    del on_limit
    heap.close()
    assert gone() is None


def test_a_lost_heap_gives_its_memory_back():
    def resident():
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * 4096

    before = resident()
    heap = Heap("lost")
    heap.write(heap.alloc(64 * MIB), b"x" * (64 * MIB))
    assert resident() > before + 60 * MIB
    del heap
    gc.collect()
    assert resident() < before + 8 * MIB


def test_heaps_survive_interpreter_exit():
    code = "from acealloc import Heap; h = Heap(); h.alloc(10); import sys; sys.keep = h"
    assert subprocess.run([sys.executable, "-W", "error", "-c", code]).returncode == 0


def test_fork_does_not_warn_of_threads():
    code = (
        "import os; from acealloc import Heap, Hint; h = Heap(); b = h.alloc(10); h.hint(Hint.COLLECT_END);"
        "p = os.fork();\nif p == 0: h.free(b); h.audit(); os._exit(0)\nassert os.waitpid(p, 0)[1] == 0"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_thread_only_where_it_is_let():
    code = """
import os
from acealloc import Heap
for worker in (False, True):
    heap = Heap(worker=worker)
    heap.write(heap.alloc(8 << 20), bytes(8 << 20))
    heap.close()
    print(len(os.listdir("/proc/self/task")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "1\n2\n", "what a large heap held goes back later\n" + done.stderr


def test_threads_share_a_heap(heap):
    def work():
        blocks = []
        for i in range(5000):
            blocks.append(heap.alloc(i % 500))
            if i % 3 == 0:
                heap.free(blocks.pop(len(blocks) // 2))
        for block in blocks:
            heap.free(block)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heap.stats()["live_blocks"] == 0


# ------------------------------------------------------------------------------------------- options


def test_options_are_a_table():
    names = [option.name for option in acealloc.options()]
    assert "mode" in names and len(set(names)) == len(names)
    for option in acealloc.options():
        assert option.environment == "ACE_" + option.name.upper()
        assert option.values and option.description


def test_options_can_be_set():
    before = acealloc.option_get("mode")
    acealloc.option_set("mode", "off")
    try:
        assert acealloc.option_get("mode") == "off"
    finally:
        acealloc.option_set("mode", before)


def test_unknown_options_and_values_name_what_there_is():
    with pytest.raises(ValueError, match="no option 'colour'; there are mode, "):
        acealloc.option_set("colour", "red")
    with pytest.raises(ValueError, match="no option 'colour'"):
        acealloc.option_get("colour")
    with pytest.raises(ValueError, match=r"mode cannot be 'red': it takes off\|static"):
        acealloc.option_set("mode", "red")


def test_tick_says_when_it_is_due():
    assert 0 <= acealloc.tick() <= 2**64 - 1


def test_each_name_is_listed_once():
    names = dir(acealloc)
    assert len(names) == len(set(names)) and set(acealloc.__all__) <= set(names)
