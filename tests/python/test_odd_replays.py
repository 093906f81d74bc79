"""Replays of traces that are written by hand, and in odd surroundings: what recorders seldom write, and users have."""

import os
import re
import struct
import subprocess
import sys
import threading
import types
import zlib
from pathlib import Path

import acealloc
import pytest
from acealloc import ablating, allocators, comparing, packages, searchers, searching
from acealloc.errors import Failure
from acealloc.page import Page

ACE = [sys.executable, "-m", "acealloc.cli"]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("ACE_", "LD_PRELOAD", "PYTHON"))}
THIS_PYTHON = "CPython %d.%d.%d" % sys.version_info[:3]


def ace(*arguments, **env):
    words = [*ACE, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, env={**CLEAN, **env})


# ---- docs/trace.md


def number(value):
    few = bytes([value & 0x7F | (0x80 if value > 0x7F else 0)])
    return few + (number(value >> 7) if value > 0x7F else b"")


class Chunk:
    """Events of one heap from a time on, in microseconds."""

    def __init__(self, heap=0, at=0):
        self.heap, self.at, self.payload, self.events, self.last = heap, at, b"", 0, 0

    def _add(self, op, payload, *numbers):
        self.payload += number(payload * 8 + op) + b"".join(map(number, numbers))
        self.events += 1
        return self

    def _distance(self, address):
        distance, self.last = address // 8 - self.last, address // 8
        return 2 * distance if distance >= 0 else -2 * distance - 1

    def alloc(self, address, size, kind=0):
        return self._add(0, size * 4 + kind, self._distance(address))

    def free(self, address):
        return self._add(2, self._distance(address))

    def realloc(self, old, size, new):
        return self._add(3, self._distance(old), size, self._distance(new))

    def hint(self, code, value=0):
        return self._add(4, code, value)

    def time(self, microseconds):
        return self._add(6, microseconds)

    def bytes(self):
        head = (0x4B434541, len(self.payload), self.events, zlib.crc32(self.payload), self.heap, 0, self.at)
        return struct.pack("<IIIIIIQ", *head) + self.payload


def write(file, *chunks, host="Lua 5.4", end=0):
    text = b'{"host":"%s","pid":1,"page":4096,"time":0,"command":["%s"]}' % (host.encode(), sys.executable.encode())
    end = struct.pack("<IIIIIIQ", 0x444E4541, 0, 0, 0, 0, 0, max([end, *(chunk.at for chunk in chunks)]))
    content = b"ACEtrace" + struct.pack("<II", 1, len(text)) + text
    file.write_bytes(content + b"".join(chunk.bytes() for chunk in chunks) + end)
    return file


def plan(trace, file):
    """The numbers at the begin of its plan (bindings/python/replay/plan.h), and the steps: type, number, size."""
    subprocess.run([Path(acealloc.__file__).with_name("ace-replay"), "plan", trace, file], check=True)
    content = file.read_bytes()
    words = struct.iter_unpack("<II", content[56:])
    return struct.unpack("<7Q", content[:56]), [(bits >> 28, bits & (1 << 26) - 1, size) for bits, size in words]


ALLOC, FREE, HEAP, END_HEAP, TIME, HIGH = 0, 2, 5, 6, 7, 8
BEGIN, END = map(int, (acealloc.Hint.COLLECT_BEGIN, acealloc.Hint.COLLECT_END))


# ---- what is in the trace


def test_moments_of_several_heaps_are_in_order(tmp_path):
    late = Chunk(0, 5000).alloc(0x1000, 100).hint(BEGIN)
    early = Chunk(1, 1000).alloc(0x2000, 3000).hint(END).time(2000).free(0x2000).time(1000)
    trace = acealloc.Trace(write(tmp_path / "run.ace", late, early, end=9000))
    moments = [(round(1e6 * moment.seconds), moment.heap, moment.live_bytes) for moment in trace.live()]
    assert moments == sorted(moments) and moments[-2:] == [(9000, 0, 100), (9000, 1, 0)]
    assert [int(hint.hint) for hint in trace.hints()] == [END, BEGIN]
    assert trace.totals["peak_live_bytes"] == 3000 and trace.totals["microseconds"] == 9000


def test_the_pages_are_those_around_what_freed_most(tmp_path):
    """A collection, and a while thereafter in which the program takes little; or a fall of what was live."""
    chunk = Chunk()
    for n in range(1, 1001):
        chunk.alloc(0x1000 * n, 1000)
    for first, last in ((1, 801), (801, 901)):
        chunk.hint(BEGIN)
        for n in range(first, last):
            chunk.free(0x1000 * n)
        chunk.hint(END)
        for n in range(2000 + first, 2200 + first):
            chunk.time(1000).alloc(0x1000 * n, 1000)
    told, steps = plan(write(tmp_path / "run.ace", chunk), tmp_path / "plan")
    within = [kind for kind, _, _ in steps[told[5] : told[6]]]
    assert within.count(FREE) == 800 and 10 <= within.count(ALLOC) <= 20

    chunk = Chunk()
    for n in range(1, 1001):
        chunk.alloc(0x1000 * n, 1000)
    for n in range(1, 901):
        chunk.free(0x1000 * n)
    told, steps = plan(write(tmp_path / "run.ace", chunk.alloc(0x1000, 100)), tmp_path / "plan")
    assert [kind for kind, _, _ in steps[told[5] : told[6]]] == [FREE] * 900


def test_a_trace_of_a_week_and_of_heaps_that_end(tmp_path):
    week = 7 * 24 * 3600 * 10**6
    first = Chunk(0).alloc(0x1000, 100).time(week).free(0x1000)
    _, steps = plan(write(tmp_path / "run.ace", first, Chunk(1, 10).alloc(0x2000, 100)), tmp_path / "plan")
    assert (END_HEAP, 0, 0) in steps and (END_HEAP, 1, 0) not in steps
    high = next(size for kind, _, size in steps if kind == HIGH)
    low = steps[steps.index((HIGH, 0, high)) + 1]
    assert low[0] == TIME and (high << 32) + low[2] == week


@pytest.mark.parametrize("host, allocator", [(THIS_PYTHON, "own"), (THIS_PYTHON, "ace"), ("LuaJIT 2.1", "own")])
def test_an_address_that_went_to_another_heap(host, allocator, tmp_path):
    """The free of the block that was there before comes after the next one's allocation: it is done before, and by the
    heap that it belongs to."""
    turns = range(1, 200)
    first, second, third = Chunk(0, 0), Chunk(1, 1000), Chunk(0, 2000)
    for n in turns:
        first.alloc(0x10000 * n, 100, 1)
        second.alloc(0x10000 * n, 3000)
        if n % 2:
            third.free(0x10000 * n)
        else:
            third.realloc(0x10000 * n, 200, 0x10000 * n + 0x8000)
    fourth = Chunk(1, 3000)
    for n in turns:
        fourth.free(0x10000 * n).alloc(0x10000 * n, 5000)
    file = write(tmp_path / "run.ace", first, second, third, fourth, Chunk(1, 4000).free(0x10000), host=host)
    (run,) = acealloc.replay(file, [allocator], detail=False, fast=True).runs
    assert run.samples[-1][2] == 5000 * (len(turns) - 1) + 200 * (len(turns) // 2)
    assert run.peak_live_bytes < 5000 * len(turns) + 200 * len(turns)


def test_a_plan_is_in_the_order_of_time(tmp_path):
    late, early = Chunk(0, 5000).alloc(0x1000, 10), Chunk(1, 1000).alloc(0x2000, 20)
    trace = write(tmp_path / "run.ace", late, early, Chunk(0, 9000).alloc(0x3000, 30))
    told, steps = plan(trace, tmp_path / "plan")
    assert steps == [(HEAP, 1, 0), (ALLOC, 0, 20), (TIME, 0, 4000), (HEAP, 0, 0), (ALLOC, 1, 10), (TIME, 0, 4000),
                     (ALLOC, 2, 30)]  # fmt: skip
    assert told[4] == 8000


def test_places_and_heaps_are_used_again(tmp_path):
    """A plan has no more slots than live blocks, and a heap that has ended holds nothing."""
    chunks = []
    for heap in range(80):
        chunk = Chunk(heap, 1000 * heap)
        for n in range(100):
            chunk.alloc(0x100000 * (n + 1), 50_000).free(0x100000 * (n + 1))
        chunks.append(chunk.time(10))
    trace = write(tmp_path / "run.ace", *chunks, host="LuaJIT 2.1", end=10**6)
    told, steps = plan(trace, tmp_path / "plan")
    assert told[2] == 1 and [kind for kind, *_ in steps].count(END_HEAP) == 80
    held = acealloc.Policy("held", mode="off")
    for run in acealloc.replay(trace, ["own", held], detail=False, fast=True, rounds=1).runs:
        assert run.samples[-1][1] < 2 << 20, run.allocator


def test_blocks_of_no_size(tmp_path):
    """malloc and realloc may give none, or take the old one."""
    chunk = Chunk().alloc(0x1000, 0).realloc(0x1000, 0, 0x2000).alloc(0x3000, 10).realloc(0x3000, 0, 0x3000)
    trace = write(tmp_path / "run.ace", chunk.time(1000).free(0x2000).free(0x3000).time(1000))
    (run,) = acealloc.replay(trace, ["glibc"], detail=False, fast=True, rounds=1).runs
    assert run.samples[-1][2] == 0


def test_what_is_live_between_two_looks(tmp_path):
    """It grows within a short time, and the block that grows is written to."""
    chunk = Chunk().alloc(0x1000, 100).realloc(0x1000, 20 << 20, 0x2000).time(20).free(0x2000).time(10**6)
    (run,) = acealloc.replay(write(tmp_path / "run.ace", chunk), ["glibc"], detail=False, fast=True, rounds=1).runs
    assert run.peak_live_bytes == 20 << 20 and run.peak_bytes > 19 << 20
    assert run.samples[0][1] < 1 << 16, "what was there before is the replay's own"


def test_the_places_of_all_blocks_count(tmp_path):
    def placement(*sizes):
        chunk = Chunk()
        for n, size in enumerate(sizes):
            chunk.alloc(0x1000 * (n + 1), size)
        file = write(tmp_path / "run.ace", chunk.time(1000))
        return acealloc.replay(file, ["ace"], detail=False, fast=True, rounds=1).runs[0].placement

    assert placement(100, 100) == placement(100, 100) != placement(100, 5000)


def test_hints_of_a_later_version(tmp_path):
    """Are left out, whatever their number is."""
    chunk = Chunk().hint(1).alloc(0x1000, 100).hint(0x31000005).hint(4095).time(10000).free(0x1000).time(10000)
    file = write(tmp_path / "run.ace", chunk)
    assert [int(hint.hint) for hint in acealloc.Trace(file).hints()] == [1]
    (run,) = acealloc.replay(file, ["ace"], detail=False, fast=True).runs
    assert run.samples[-1][2] == 0 and run.peak_live_bytes == 100


@pytest.mark.parametrize("chunk", [Chunk().alloc(0x1000, 100), Chunk().free(0x1000), Chunk().hint(1), Chunk().time(5)],
                         ids=["block", "free", "hint", "time"])  # fmt: skip
def test_a_trace_of_one_event(chunk, tmp_path):
    file = write(tmp_path / "run.ace", chunk)
    done = ace("report", file, "--rounds", "1", "--against", "own,none", "-o", tmp_path / "page.html")
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr
    assert "<svg" in (tmp_path / "page.html").read_text()
    (same,) = comparing.compare(acealloc.Trace(file), [acealloc.Policy("same")], 1, True)
    assert same.mean == pytest.approx(1, abs=0.5), "nothing is as much as nothing"


def test_a_trace_of_nothing_but_frees_from_before(tmp_path):
    chunk = Chunk()
    for n in range(1, 100):
        chunk.free(0x1000 * n)
    trace = acealloc.Trace(write(tmp_path / "run.ace", chunk))
    assert trace.totals["unknown"] == 99
    assert acealloc.replay(trace, ["ace"], fast=True).frame()["peak_bytes"]["ace"] < 1 << 20


def test_a_frame_without_runs(tmp_path):
    trace = acealloc.Trace(write(tmp_path / "run.ace", Chunk().alloc(0x1000, 100)))
    frame = acealloc.Replay(trace, ["ace"], []).frame()
    assert len(frame) == 0 and "peak_bytes" in frame.columns


def test_a_file_whose_name_is_no_text(tmp_path):
    odd = os.path.join(os.fsencode(tmp_path), b"\xff.ace")
    with open(odd, "wb") as file:
        file.write(b"nothing of the kind")
    with pytest.raises(Failure, match="it is no trace that this version reads"):
        acealloc.Trace(os.fsdecode(odd))
    write(Path(os.fsdecode(odd)), Chunk().alloc(0x1000, 100).time(10000))
    folder = os.path.join(os.fsencode(tmp_path), b"\xfe")
    os.mkdir(folder)
    done = ace("replay", os.fsdecode(odd), "--fast", "--no-detail", TMPDIR=os.fsdecode(folder))
    assert done.returncode == 0, done.stderr


def test_temporary_files_of_odd_names(tmp_path):
    file = write(tmp_path / "run.ace", Chunk().alloc(0x1000, 100, 1).time(10000), host=THIS_PYTHON)
    folder = os.path.join(os.fsencode(tmp_path), b"\xfe")
    os.mkdir(folder)
    done = ace("replay", file, "--fast", "--no-detail", "--against", "own", TMPDIR=os.fsdecode(folder))
    assert done.returncode == 0, done.stderr


# ---- what is around the replay

LIBRARY = r"""
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
extern char **environ;
extern void *__libc_malloc(size_t size);

/* The second half of large blocks is memory of another nature. */
void *malloc(size_t size) {
  char *block = __libc_malloc(size);
  if (block != NULL && size >= (4 << 20)) {
    size_t middle = ((size_t)block + size / 2) & ~(size_t)4095;
    if (madvise((void *)middle, size / 2 & ~(size_t)4095, MADV_DONTDUMP) != 0) abort();
  }
  return block;
}

__attribute__((constructor)) static void begin(void) {
  for (char **entry = environ; *entry != NULL; ++entry) {
    if (strstr(*entry, "MALLOC") == NULL && strstr(*entry, "GLIBC") == NULL) continue;
    fprintf(stderr, "steered by %s\n", *entry);
    _exit(3);
  }
  for (int line = 0; line < 10000; ++line) fprintf(stderr, "a library that says much: \xff, %d\n", line);
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The path of a library with a malloc."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "odd.c").write_text(LIBRARY)
    command = ["cc", "-O1", "-fno-builtin", "-shared", "-fPIC", "-o", folder / "odd.so", folder / "odd.c"]
    subprocess.run(list(map(str, command)), check=True)
    return folder / "odd.so"


def test_settings_of_the_environment_reach_no_allocator(library, tmp_path):
    file = write(tmp_path / "run.ace", Chunk().alloc(0x1000, 100).time(10000))
    settings = dict(MIMALLOC_PURGE_DELAY="0", MALLOC_CONF="narenas:1", MALLOC_ARENA_MAX="1",
                    TCMALLOC_RELEASE_RATE="9", GLIBC_TUNABLES="glibc.malloc.arena_max=1")  # fmt: skip
    done = ace("replay", file, "--fast", "--no-detail", "--against", "odd=%s" % library, **settings)
    assert done.returncode == 0 and re.search("^ odd ", done.stdout, re.M), done.stderr[-500:]


def test_who_is_told_of_full_collections_and_rests(tmp_path):
    source, library, calls = tmp_path / "told.c", tmp_path / "told.so", tmp_path / "calls"
    source.write_text('''
#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>
extern void *__libc_malloc(size_t size);
void *malloc(size_t size) { return __libc_malloc(size); }
int malloc_trim(size_t pad) {
  int file = open(CALLS, O_WRONLY | O_CREAT | O_APPEND, 0600);
  return write(file, ".", 1) + close(file);
}
''')
    command = ["cc", "-fno-builtin", "-shared", "-fPIC", '-DCALLS="%s"' % calls, "-o", library, source]
    subprocess.run(command, check=True)
    chunk = Chunk().alloc(0x1000, 100).hint(BEGIN, 0).hint(END).hint(BEGIN, 1).hint(END)
    trace = write(tmp_path / "run.ace", chunk.hint(int(acealloc.Hint.IDLE_BEGIN)).hint(int(acealloc.Hint.IDLE_END)))
    acealloc.replay(trace, ["told-hinted=%s" % library], detail=False, fast=True, rounds=1)
    assert calls.read_text() == ".."


def test_a_result_that_finds_no_room(tmp_path):
    trace = write(tmp_path / "run.ace", Chunk().alloc(0x1000, 100))
    plan(trace, tmp_path / "plan")
    replayer = Path(acealloc.__file__).with_name("ace-replay")
    done = subprocess.run([replayer, "run", tmp_path / "plan", "/dev/full", "none"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "/dev/full: No space left on device\n")


def test_the_page_map_sees_blocks_over_several_mappings(library, tmp_path):
    size = 16 << 20
    chunk = Chunk().alloc(0x100000, size).time(10000).free(0x100000).time(10000)
    (run,) = acealloc.replay(write(tmp_path / "run.ace", chunk), ["odd=%s" % library], rounds=1, fast=True).runs[1:]
    assert sum(page > 250 for page in run.pages["before"]) >= size // 4096 - 1
    assert sum(page == 0 for page in run.pages["before"]) < 20, "what was there before counts for nobody"


def test_own_starts_no_other_program(tmp_path):
    """Than a CPython: what embeds one is left alone."""
    program = tmp_path / "host"
    program.write_text("#!/bin/sh\ntouch %s/started\necho %d.%d\n" % (tmp_path, *sys.version_info[:2]))
    program.chmod(0o755)
    trace = types.SimpleNamespace(header={"host": THIS_PYTHON, "command": [str(program)]})
    found = allocators.target_of("own", trace).python
    assert "python" in os.path.basename(found) and not (tmp_path / "started").exists()


@pytest.mark.parametrize("verb, package, said", [
    (["replay"], "hdrh", "latencies need hdrhistogram"), (["report"], "hdrh", "latencies need hdrhistogram"),
    (["report"], "matplotlib", "pictures need matplotlib"),
])  # fmt: skip
def test_what_is_missing_is_told_before_anything_is_measured(verb, package, said, tmp_path):
    (tmp_path / "packages" / package).mkdir(parents=True)
    (tmp_path / "packages" / package / "__init__.py").write_text("raise ImportError")
    file = write(tmp_path / "run.ace", Chunk().alloc(0x1000, 100).time(10000))
    more = ["-o", tmp_path / "page.html"] if verb == ["report"] else []
    done = ace(*verb, file, "--fast", "--against", "own", "--keep", tmp_path / "kept", *more,
               PYTHONPATH=str(tmp_path / "packages"))  # fmt: skip
    assert done.returncode == 1 and said in done.stderr
    assert not (tmp_path / "kept").exists()


def test_all_that_is_missing_is_told_at_once(monkeypatch):
    for name in "optuna", "pandas":
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Failure, match=r"^searching needs optuna: pip install 'optuna>=3' 'pandas>=1.3'$"):
        packages.need("optuna", "searching needs")


def test_a_compressed_trace_that_finds_no_room(tmp_path):
    """What is unpacked is larger than a file may be."""
    chunk = Chunk()
    for n in range(1, 5000):
        chunk.alloc(0x1000 * n, 100)
    plain = write(tmp_path / "run.ace", chunk)
    subprocess.run(["gzip", str(plain)], check=True)
    command = "ulimit -f 8; exec %s -m acealloc.cli replay run.ace.gz" % sys.executable
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=CLEAN, cwd=tmp_path)
    assert done.returncode == 1 and "run.ace.gz cannot be unpacked into " in done.stderr, done.stderr


def test_the_oldest_matplotlib(tmp_path, monkeypatch):
    """3.5 has subplots without the keywords that came later."""
    from matplotlib.figure import FigureBase

    later = FigureBase.subplots

    def subplots(self, nrows=1, ncols=1, *, sharex=False, sharey=False, subplot_kw=None, gridspec_kw=None):
        return later(self, nrows, ncols, sharex=sharex, sharey=sharey, subplot_kw=subplot_kw, gridspec_kw=gridspec_kw)

    monkeypatch.setattr(FigureBase, "subplots", subplots)
    trace = write(tmp_path / "run.ace", Chunk().alloc(0x1000, 100000).time(10000).free(0x1000).time(10000))
    Page(acealloc.replay(trace, ["own", "ace"], fast=True)).write(tmp_path / "page.html")


def test_a_checkout_in_a_folder_with_a_space(tmp_path):
    script = tmp_path / "my ace" / "bench" / "ablation"
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\necho building\necho '%s/my ace/replayer'\n" % tmp_path)
    script.chmod(0o755)
    assert ablating._design("tail", tmp_path / "my ace").replayer == "%s/my ace/replayer" % tmp_path


# ---- searches


@pytest.fixture
def search(tmp_path, monkeypatch):
    """search(trials): goes on with a study of which each replay is as good as the default. search.storage: its URL."""
    trace = acealloc.Trace(write(tmp_path / "run.ace", Chunk().alloc(0x1000, 100)))
    same = comparing.Compared("", 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    monkeypatch.setattr(searching, "compare", lambda *_: [same])
    monkeypatch.setattr(searchers, "LOOK_SECONDS", 0.01)

    def go_on(trials):
        return acealloc.sweep([trace], trials=trials, storage=go_on.storage)

    go_on.storage = "sqlite:///%s" % (tmp_path / "study.db")
    go_on.same = same
    return go_on


def test_several_searchers_make_no_trial_too_many(search, monkeypatch):
    """Where they are at once at all trials but the last, of which there is only one."""
    together = threading.Barrier(2)

    def compare(*_):
        try:
            together.wait(2)
        except threading.BrokenBarrierError:
            pass
        return [search.same]

    search(1)
    monkeypatch.setattr(searching, "compare", compare)
    found = []
    searchers = [threading.Thread(target=lambda: found.append(len(search(6).trials))) for _ in range(2)]
    for searcher in searchers:
        searcher.start()
    for searcher in searchers:
        searcher.join()
    assert found == [6, 6]
    assert len([one for one in search(6).trials if one["by_hand"]]) == 5


def begin_a_trial(storage, process):
    import optuna

    trial = optuna.load_study(study_name="ace", storage=storage).ask()
    trial.set_user_attr("process", process)
    return trial


def test_a_searcher_of_this_machine_is_waited_for(search, monkeypatch):
    """However long it takes: it is there."""
    monkeypatch.setattr(searchers, "PATIENCE_SECONDS", 0.0)
    search(5)
    trial = begin_a_trial(search.storage, "%s:%d" % (os.uname().nodename, os.getpid()))
    found = []
    searcher = threading.Thread(target=lambda: found.append(search(6)))
    searcher.start()
    searcher.join(1.5)
    assert found == []
    trial.set_user_attr("options", {})
    trial.set_user_attr("peak_bytes", 1.0)
    trial.study.tell(trial, (1.0, 1.0))
    searcher.join()
    assert len(found[0].trials) == 6


@pytest.mark.parametrize("process, patience", [("here", 1000.0), ("elsewhere:1", 0.0)])
def test_a_searcher_that_was_killed_is_not_waited_for(process, patience, search, monkeypatch):
    monkeypatch.setattr(searchers, "PATIENCE_SECONDS", patience)
    search(5)
    if process == "here":
        gone = subprocess.Popen(["true"])
        gone.wait()
        process = "%s:%d" % (os.uname().nodename, gone.pid)
    begin_a_trial(search.storage, process)
    assert len(search(6).trials) == 6


def test_a_storage_that_fails_at_the_beginning(search, monkeypatch):
    import optuna

    def fail(*_):
        raise optuna.exceptions.StorageInternalError("it is locked")

    monkeypatch.setattr(optuna.study.Study, "set_user_attr", fail)
    with pytest.raises(Failure, match="failed: it is locked"):
        search(1)


def test_an_error_without_words():
    assert searching._said(KeyError()) == "KeyError" and searching._said(ValueError("a\nb")) == "a"
