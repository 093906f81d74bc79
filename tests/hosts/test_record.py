"""Recording stock interpreters: what the trace says is what the report says, and the program's result is the same."""

import json
import os
import struct
import subprocess
import sys
import zlib

import pytest
from conftest import PRELOAD

MALLOC = PRELOAD.parents[2] / "src/shim/libace-malloc.so"

pytestmark = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import acealloc"], capture_output=True).returncode != 0,
    reason="the package acealloc is not installed here",
)

PYTHON = """
import gc, threading
kept = [{'n': n, 'text': str(n)} for n in range(20000)]
def work(): kept.append([bytes(n) for n in range(2000)])
threads = [threading.Thread(target=work) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
gc.collect()
print(len(kept), sum(len(k) for k in kept))
"""
LUA = """
local kept = {}
for i = 1, 20000 do kept[i] = {i, 'text ' .. i} end
for i = 1, 20000, 2 do kept[i] = nil end
collectgarbage() collectgarbage()
local n = 0
for _ in pairs(kept) do n = n + 1 end
print(n)
"""


def run(interpreter, code, folder, **settings):
    script = folder / "program"
    script.write_text(code)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ACE_", "PYTHON", "LD_"))}
    env.update(LD_PRELOAD=str(PRELOAD), **settings)
    done = subprocess.run([interpreter, str(script)], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def recorded(interpreter, code, folder):
    """The trace, and the lines of the report of the same run; its output is as without recording."""
    from acealloc import Trace

    file, report = folder / "run.ace", folder / "report"
    said = run(interpreter, code, folder, ACE_RECORD=str(file), ACE_REPORT=str(report))
    assert said == run(interpreter, code, folder)
    assert sorted(name.name for name in folder.iterdir()) == ["program", "report", "run.ace"]
    return Trace(file), [json.loads(line) for line in report.read_text().splitlines()]


def test_cpython(python, tmp_path):
    trace, lines = recorded(python.path, PYTHON, tmp_path)
    host = next(line for line in lines if "host" in line)
    heaps = [line for line in lines if "host" not in line]
    t = trace.totals
    assert trace.header["host"] == "CPython " + host["version"] and trace.header["pid"] == host["pid"]
    assert (t["status"], t["unknown"]) == ("whole", 0)
    assert t["allocations"] > 60000 and t["reallocs"] > 10 and t["hints"] > 10
    assert t["threads"] == 5 and t["heaps"] >= 2
    assert t["live_blocks"] == sum(heap["live_blocks"] for heap in heaps)
    assert t["live_bytes"] <= sum(heap["live_bytes"] for heap in heaps)
    assert t["bytes"] < 5 * t["events"] + 4096
    most = max(moment.live_bytes for moment in trace.live())
    assert 0.5 * t["peak_live_bytes"] < most <= t["peak_live_bytes"]
    assert {"COLLECT_BEGIN", "COLLECT_END"} <= {hint.hint.name for hint in trace.hints()}


def test_what_is_held_for_long_between_few_events(python, tmp_path):
    code = "import time\nheld = bytearray(100 << 20); time.sleep(0.5); del held; time.sleep(0.3)"
    trace, _ = recorded(python.path, code, tmp_path)
    live = trace.live()
    begins = next(moment.seconds for moment in live if moment.live_bytes >= 100 << 20)
    ends = next(moment.seconds for moment in live if moment.seconds > begins and moment.live_bytes < 50 << 20)
    assert 0.4 < ends - begins < 30


def test_own_is_the_recorded_version(python, tmp_path):
    """pymalloc in the interpreter that the trace is of."""
    from acealloc import replay

    trace, _ = recorded(python.path, "print(sum(len([n]) for n in range(1000)))", tmp_path)
    (run,) = replay(trace, ["own"], detail=False, fast=True).runs
    assert run.allocator == "own" and run.samples


def test_a_realloc_that_fails_keeps_the_size(python, tmp_path):
    code = """
import ctypes
resize = ctypes.pythonapi.PyMem_RawRealloc
resize.restype, resize.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_size_t)
print(resize(resize(None, 100), 1 << 45))
"""
    trace, _ = recorded(python.path, code, tmp_path)
    assert trace.totals["peak_live_bytes"] < 1 << 30


def test_an_allocation_of_several_counts_them_all(python, tmp_path):
    """And one that fails for nothing."""
    code = """
import ctypes
for allocate in ctypes.pythonapi.PyMem_RawCalloc, ctypes.pythonapi.PyMem_Calloc, ctypes.pythonapi.PyObject_Calloc:
    allocate.restype, allocate.argtypes = ctypes.c_void_p, (ctypes.c_size_t, ctypes.c_size_t)
    print(allocate(1000, 10000) is not None, allocate(1 << 20, 1 << 25))
"""
    trace, _ = recorded(python.path, code, tmp_path)
    assert 30_000_000 < trace.totals["peak_live_bytes"] < 1 << 30


def test_a_realloc_of_malloc_that_fails_keeps_the_size(tmp_path):
    from acealloc import Trace

    source, program, file = tmp_path / "fails.c", tmp_path / "fails", tmp_path / "run.ace"
    source.write_text("""
#include <stdlib.h>
volatile size_t too_much = (size_t)1 << 45;
int main(void) {
  void *kept = malloc(100);
  return realloc(kept, too_much) != NULL;
}
""")
    subprocess.run(["cc", "-w", "-o", program, source], check=True)
    env = dict(os.environ, LD_PRELOAD=str(MALLOC), ACE_RECORD=str(file))
    subprocess.run([program], env=env, check=True, timeout=60)
    assert Trace(file).totals["peak_live_bytes"] < 1 << 30


def test_lua(lua, tmp_path):
    trace, lines = recorded(lua, LUA, tmp_path)
    t = trace.totals
    assert (t["status"], t["unknown"], t["live_blocks"], t["live_bytes"]) == ("whole", 0, 0, 0), "the state was closed"
    assert t["allocations"] > 40000 and t["frees"] >= t["allocations"] and t["threads"] == 1
    assert t["peak_live_bytes"] > 1 << 20
    assert {"COLLECT_BEGIN", "SWEEP", "COLLECT_END"} <= {hint.hint.name for hint in trace.hints()}


@pytest.mark.parametrize("end", ["sys.exit()", "os._exit(0)"])
def test_each_process_has_a_file(tmp_path, end):
    from acealloc import Trace

    code = """
import os, subprocess, sys
kept = [[n] for n in range(1000)]
pid = os.fork()
if pid == 0:
    more = [[n] for n in range(5000)]
    %s
os.waitpid(pid, 0)
print(subprocess.run(['/usr/bin/python3', '-c', 'print(1)'], stdout=subprocess.PIPE).stdout.decode(), pid)
""" % end
    said = run("/usr/bin/python3", code, tmp_path, ACE_RECORD=str(tmp_path / "run.ace")).split()
    files = sorted(tmp_path.glob("run.ace*"))
    assert said[0] == "1" and len(files) == 3 and tmp_path / ("run.ace." + said[1]) in files
    totals = [Trace(file).totals for file in files]
    assert [t["status"] for t in totals] == ["whole"] * 3
    assert all(0 < t["microseconds"] < 60e6 for t in totals)
    assert Trace(tmp_path / ("run.ace." + said[1])).totals["allocations"] > 5000


def test_a_killed_process_leaves_what_it_wrote(tmp_path):
    from acealloc import Trace

    code = """
import os, signal
for _ in range(30): kept = [[n] for n in range(20000)]
os.kill(os.getpid(), signal.SIGKILL)
"""
    script = tmp_path / "program"
    script.write_text(code)
    env = dict(os.environ, LD_PRELOAD=str(PRELOAD), ACE_RECORD=str(tmp_path / "run.ace"))
    subprocess.run(["/usr/bin/python3", str(script)], env=env)
    t = Trace(tmp_path / "run.ace").totals
    assert t["status"] == "truncated" and t["allocations"] > 100000 and t["bytes_read"] == t["bytes"]


def test_a_limit_of_files_sizes_ends_the_recording_alone(tmp_path):
    """Its signal would end the program."""
    file = tmp_path / "run.ace"
    code = "local t = {} for i = 1, 1000000 do t[i % 1000] = {i} end print('went on')"
    done = subprocess.run(["sh", "-c", "ulimit -f 64; exec lua5.4 -e \"$0\"", code], capture_output=True, text=True,
                          env=dict(os.environ, LD_PRELOAD=str(PRELOAD), ACE_RECORD=str(file)), timeout=60)  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "went on\n")
    assert "File too large; what came before is kept" in done.stderr
    from acealloc import Trace

    assert Trace(file).totals["status"] == "truncated" and file.stat().st_size <= 64 << 10


def test_no_limit_of_files_sizes_ends_a_program(tmp_path):
    """Neither by a report, nor by what is said of a recording in a file."""
    command = "ulimit -f 0; exec lua5.4 -e 'local t = {} for i = 1, 100000 do t[i] = {} end' 2>> %s" % (tmp_path / "said")
    env = dict(os.environ, LD_PRELOAD=str(PRELOAD), ACE_RECORD=str(tmp_path / "run.ace"),
               ACE_REPORT=str(tmp_path / "report"))  # fmt: skip
    assert subprocess.run(["sh", "-c", command], env=env, timeout=60).returncode == 0


def test_a_recording_that_fails_keeps_the_former(tmp_path):
    file = tmp_path / "run.ace"
    assert ace_record("-o", file, "--", "lua5.4", "-e", "x = {}").returncode == 0
    before = file.read_bytes()
    done = ace_record("-o", file, "--", "sh", "-c", "ulimit -f 0; exec lua5.4 -e 'x = {}'")
    assert done.returncode == 0 and "replaced" not in done.stderr and "nothing was recorded" in done.stderr
    assert file.read_bytes() == before
    ace_record("-o", file, "--", "sh", "-c", "echo mine > %s" % file)
    assert file.read_text() == "mine\n" and (tmp_path / "run.ace.former").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.ace", "run.ace.former"]


def test_a_program_that_closes_all_descriptors(tmp_path):
    """As one does that goes to the background: what it opens then has the recording's number."""
    from acealloc import Trace

    code = """
import os, time
os.closerange(3, 256)
mine = os.open(%r, os.O_RDWR | os.O_CREAT)
os.write(mine, b'first\\n')
end = time.monotonic() + 1.5
while time.monotonic() < end: kept = [[n] for n in range(20000)]
if os.fork() == 0:
    kept = [[n] for n in range(20000)]
    os.write(mine, b'child\\n')
    raise SystemExit
os.wait()
os.write(mine, b'last\\n')
""" % str(tmp_path / "mine")
    run("/usr/bin/python3", code, tmp_path, ACE_RECORD=str(tmp_path / "run.ace"))
    assert (tmp_path / "mine").read_bytes() == b"first\nchild\nlast\n"
    files = sorted(tmp_path.glob("run.ace*"))
    assert len(files) == 2
    for file in files:
        assert Trace(file).totals["status"] == "whole" and Trace(file).totals["allocations"] > 20000


def test_a_process_that_becomes_another_program(tmp_path):
    from acealloc import Trace

    code = """
import os, sys
kept = [[n] for n in range(1000)]
left = int(os.environ.get('LEFT', 3))
if left: os.execve(sys.executable, [sys.executable, sys.argv[0]], dict(os.environ, LEFT=str(left - 1)))
print(os.getpid())
"""
    pid = run("/usr/bin/python3", code, tmp_path, ACE_RECORD=str(tmp_path / "run.ace")).strip()
    names = ["run.ace", *("run.ace.%s%s" % (pid, more) for more in ("", ".2", ".3"))]
    assert sorted(file.name for file in tmp_path.glob("run.ace*")) == names
    assert Trace(tmp_path / names[-1]).totals["status"] == "whole"


def test_words_that_are_no_utf8(tmp_path):
    from acealloc import Trace

    odd, long = os.fsdecode(b"caf\xe9"), "\u65e5" * 400
    done = ace_record("-o", tmp_path / "run.ace", "--", "/usr/bin/python3", "-c", "raise SystemExit(3)", odd, long)
    assert done.returncode == 3 and "events in" in done.stderr
    command = Trace(tmp_path / "run.ace").header["command"]
    assert command[3] == odd and command[4].startswith("\u65e5" * 200)


def test_a_chunk_that_ends_in_an_event(tmp_path):
    from acealloc import Trace

    write_trace(tmp_path / "run.ace", (0, 1, bytes([0x80, 0x04, 0x02])), (0, 1, bytes([0x80])))
    totals = Trace(tmp_path / "run.ace").totals
    assert (totals["status"], totals["allocations"]) == ("damaged", 1)


@pytest.mark.parametrize("heap", [0xFFFFFFFF, 0x3FFFFFFF])
def test_a_chunk_of_an_impossible_heap(tmp_path, heap):
    from acealloc import Trace

    write_trace(tmp_path / "run.ace", (heap, 1, bytes([0x80, 0x04, 0x02])))
    assert Trace(tmp_path / "run.ace").totals["status"] == "damaged"


def test_an_address_that_went_to_another_heap(tmp_path):
    """Two heaps' chunks are not in one order: the second takes the address before the first's free is in the file."""
    from acealloc import Trace

    def number(value):
        few = bytes([value & 0x7F | (0x80 if value > 0x7F else 0)])
        return few + (number(value >> 7) if value > 0x7F else b"")

    def alloc(size):
        return number(size * 4 * 8) + number(0x1000 // 8 * 2)

    free = number((0x1000 // 8 * 2) * 8 + 2)
    write_trace(tmp_path / "run.ace", (0, 1, alloc(1000)), (1, 1, alloc(100)), (0, 1, free))
    trace = Trace(tmp_path / "run.ace")
    assert trace.totals["peak_live_bytes"] == 1000 and trace.totals["live_bytes"] == 100
    assert trace.totals["unknown"] == 0
    assert max(moment.live_bytes for moment in trace.live()) <= 1000


def write_trace(file, *chunks):
    """chunks: (heap, number of events, payload)"""
    text = b'{"host":"x","pid":1,"page":4096,"time":0,"command":["x"]}'
    content = b"ACEtrace" + struct.pack("<II", 1, len(text)) + text
    for heap, events, payload in chunks:
        head = struct.pack("<IIIIIIQ", 0x4B434541, len(payload), events, zlib.crc32(payload), heap, 0, 0)
        content += head + payload
    file.write_bytes(content)


def ace_record(*arguments):
    env = dict(os.environ, ACE_PRELOAD=str(PRELOAD))
    return subprocess.run([sys.executable, "-m", "acealloc.cli", "record", *map(str, arguments)], capture_output=True,
                          text=True, env=env, timeout=300)  # fmt: skip


def test_the_command(tmp_path):
    file = tmp_path / "run.ace"
    file.write_text("ACEtrace: a former one")
    done = ace_record("-o", file, "--", "/usr/bin/python3", "-c", "import json; print(len(json.dumps(list(range(9)))))")
    assert (done.returncode, done.stdout) == (0, "27\n")
    assert "CPython 3" in done.stderr and "events in" in done.stderr and "most live" in done.stderr
    assert ace_record("-o", file, "--", "/usr/bin/python3", "-c", "raise SystemExit(3)").returncode == 3


def test_the_command_says_what_is_wrong(tmp_path):
    assert "there is no command" in ace_record("-o", tmp_path / "run.ace").stderr
    assert "there is no folder" in ace_record("-o", tmp_path / "no" / "run.ace", "--", "true").stderr
    os.mkfifo(tmp_path / "pipe")
    for no_file in (tmp_path / "pipe", "/dev/null"):  # the one would wait for a reader
        assert "is no trace: give another name" in ace_record("-o", no_file, "--", "true").stderr
    done = ace_record("-o", tmp_path / "run.ace", "--", "true")
    assert done.returncode == 0 and "nothing was recorded" in done.stderr


def test_what_is_no_trace(tmp_path):
    from acealloc import Trace
    from acealloc.errors import Failure

    file = tmp_path / "file"
    for content in (b"", b"ACEtrace", b"x" * 1000):
        file.write_bytes(content)
        with pytest.raises(Failure, match="no trace"):
            Trace(file)
    for header in (b"", b"[]", b"{}", b"[" * 100000, b"\xff", b'{"host":1,"pid":1,"page":4096,"time":0,"command":["x"]}',
                   b'{"host":"x","pid":1,"page":4096,"time":0,"command":[1]}'):  # fmt: skip
        file.write_bytes(b"ACEtrace" + struct.pack("<II", 1, len(header)) + header)
        with pytest.raises(Failure, match="header is damaged"):
            Trace(file)
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(Failure, match="is no file"):
            Trace(place)
    with pytest.raises(Failure, match="there is no trace"):
        Trace(tmp_path / "absent")
