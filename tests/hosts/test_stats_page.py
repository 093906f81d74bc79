"""Stock interpreters that are watched: what `ace stats` says of them is what they count themselves, and what becomes of
their pages when they fork, become other programs, end or are killed."""

import contextlib
import fcntl
import json
import os
import pathlib
import pty
import re
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
import types
import urllib.request

import pytest
from conftest import PRELOAD

pytestmark = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import acealloc"], capture_output=True).returncode != 0,
    reason="the package acealloc is not installed here",
)

ACE = [sys.executable, "-m", "acealloc.cli"]
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("ACE_", "PYTHON", "LD_", "LUA_"))}
CLEAN["ACE_PRELOAD"] = str(PRELOAD)

# Each tells its statistics and waits for a line, again and again.
PYTHON = """
import gc, json, sys, _ace
kept = [{'n': n, 'text': str(n)} for n in range(30000)] + [bytes(1000) for _ in range(3000)]
dropped = [[n] for n in range(30000)]
del dropped
gc.collect()
json.dumps(_ace.stats())
for line in iter(lambda: (print(json.dumps(_ace.stats()), flush=True), sys.stdin.readline())[1], ''): exec(line)
"""
LUA = """
local ace = require "ace"
kept = {} for i = 1, 30000 do kept[i] = {i, "text " .. i} end
for i = 1, 30000 do local dropped = {i} end
collectgarbage() collectgarbage()
repeat
  local words = {}
  for name, value in pairs(ace.stats()) do
    if type(value) == "number" then words[#words + 1] = ('"%s": %.0f'):format(name, value) end
  end
  io.write("{", table.concat(words, ", "), "}\\n") io.flush()
until not io.read()
"""
# What telling and asking do not change.
SAME = (
    "collections_full collections_partial collected_objects limit_bytes limit_failures system_failures "
    "foreign_pointers misrouted_pointers large_live_bytes large_live_blocks"
).split()
# To tell its statistics a program needs some memory, whose pages come and may go again.
NEARLY_SAME = {"mapped_bytes": 4 << 20, "metadata_bytes": 64 << 10, "resident_bytes": 256 << 10,
               "peak_resident_bytes": 256 << 10, "faulted_bytes": 256 << 10, "mid_live_bytes": 128 << 10}  # fmt: skip


def ace(*arguments, status=0, **more):
    done = subprocess.run([*ACE, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=CLEAN, **more)
    assert done.returncode == status, done
    return done.stdout if status == 0 else done.stderr


class Program:
    """A program on ACE that can be watched, and that tells its own statistics."""

    def __init__(self, process):
        self.process, self.pid = process, process.pid
        self.own = json.loads(process.stdout.readline())

    def tell(self, line=""):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        self.own = json.loads(self.process.stdout.readline())
        return self.own

    def pages(self):
        return pages_of(self.pid)

    def stats(self):
        return json.loads(ace("stats", self.pid, "--json"))


def pages_of(pid):
    return [page for page in pathlib.Path("/dev/shm").glob("ace-stats.*") if page.name.split(".")[2] == str(pid)]


@contextlib.contextmanager
def running(interpreter, code, folder, *options):
    script = folder / "program"
    script.write_text(code)
    # Without the worker a program that rests is at rest.
    command = [*ACE, "run", "--stats-page", "on", "--worker", "off", *options, "--", interpreter, str(script)]
    process = subprocess.Popen(command, env=CLEAN, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Program(process)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
        for page in pages_of(process.pid):
            page.unlink()


def agree(said, own):
    """What another process sees of a heap, and what its holder counts."""
    assert {name: said[name] for name in SAME} == {name: own[name] for name in SAME}
    for name, most in NEARLY_SAME.items():
        assert abs(said[name] - own[name]) <= most, name
    # Blocks that are kept for re-issue, some of each size class.
    assert own["live_bytes"] * 0.99 <= said["live_bytes"] <= own["live_bytes"] * 1.05 + (256 << 10)


def test_cpython(python, tmp_path):
    with running(python.path, PYTHON, tmp_path, "--limit", "512m", "--kinds", "on") as program:
        said = program.stats()
        assert said["pid"] == program.pid and said["host"] == "CPython %d.%d.%d" % python.version
        assert said["command"][-1] == str(tmp_path / "program") and abs(said["started"] - time.time()) < 300
        heaps = {heap["name"]: heap for heap in said["heaps"]}
        assert set(heaps) == set(program.own)
        for name, own in program.own.items():
            agree(heaps[name], own)
        vm = heaps["python"]
        assert vm["limit_bytes"] == 512 << 20 and vm["live_bytes"] > 10 << 20 and vm["collections_full"] >= 1
        assert sum(kind["live_blocks"] for kind in vm["kinds"][1:]) > 60000
        assert program.tell("more = [bytes(2000) for _ in range(10000)]")
        again = {heap["name"]: heap for heap in program.stats()["heaps"]}["python"]
        assert again["live_bytes"] - vm["live_bytes"] > 20_000_000
        agree(again, program.own["python"])
        program.process.stdin.close()
        assert program.process.wait(60) == 0
        assert program.pages() == []


def test_lua(lua, tmp_path):
    with running(lua, LUA, tmp_path) as program:
        said = program.stats()
        assert said["host"].startswith("Lua")
        (heap,) = said["heaps"]
        agree(heap, program.own)
        assert heap["live_bytes"] > 1 << 20 and heap["collections_full"] >= 1
        program.process.stdin.close()
        assert program.process.wait(60) == 0
        assert program.pages() == []


FORKS = """
import gc, os, warnings
warnings.simplefilter('error')
for _ in range(10):
    gc.collect()
    child = os.fork()
    if child == 0:
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert len(os.listdir('/proc/self/task')) == 1
"""


def test_a_fork_finds_no_other_thread(python, tmp_path):
    """From 3.12 on CPython would warn of one."""
    script = tmp_path / "program"
    script.write_text(FORKS)
    said = ace("run", "--stats-page", "on", "--", python.path, script)
    assert said == ""
    ace("stats", "--openmetrics")  # removes what the children left


SYSTEM = "/usr/bin/python3"


@pytest.fixture
def program(tmp_path):
    with running(SYSTEM, PYTHON, tmp_path) as one:
        yield one


def threads_of(pid):
    """{name: (its state, how often it went to sleep)}"""
    found = {}
    for task in pathlib.Path("/proc/%d/task" % pid).iterdir():
        words = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
        found[words["Name"].strip()] = words["State"].split()[0], int(words["voluntary_ctxt_switches"])
    return found


def test_nobody_watches(program):
    """Nothing is published and the publisher does not wake, whatever the program does."""
    from acealloc import watch

    with watch(program.pid) as watched:
        assert watched.published == 1
        while (before := threads_of(program.pid)["ace-publisher"])[0] != "S":
            time.sleep(0.01)
        for _ in range(20):
            program.tell("kept = [[n] for n in range(50000)]; del kept; gc.collect()")
        assert watched.published == 1
        assert threads_of(program.pid)["ace-publisher"] == before
        watched.refresh()
        assert watched.published == 2 and watched.total("collections_full") >= 20
        assert watched.heaps()[0].stats["hints"] > 0


def test_without_the_option_there_is_no_page(tmp_path):
    with running(SYSTEM, PYTHON, tmp_path, "--stats-page", "off") as program:
        assert program.pages() == [] and "ace-publisher" not in threads_of(program.pid)
        said = ace("stats", program.pid, status=1)
        assert "has no statistics page: start it by `ace run --stats-page on -- COMMAND`" in said
        assert "has no statistics page" in ace("top", program.pid, "--once", status=1)


FORK = """
import os, signal
if os.fork() == 0:
    gc.collect()
    signal.pause()
gc.collect()
"""


def children_of(pid):
    return list(map(int, pathlib.Path("/proc/%d/task/%d/children" % (pid, pid)).read_text().split()))


def test_the_child_of_a_fork_has_a_page_of_its_own(program):
    program.tell("exec(%r)" % FORK)
    (child,) = children_of(program.pid)
    try:
        end = time.monotonic() + 60
        while not pages_of(child) and time.monotonic() < end:
            time.sleep(0.01)
        own = json.loads(ace("stats", child, "--json"))
        assert own["pid"] == child
        assert len(pages_of(child)) == 1 and len(program.pages()) == 1
        assert program.stats()["pid"] == program.pid, "the parent's thread is back since it collected"
    finally:
        os.kill(child, signal.SIGKILL)
    # It has left its page behind; who looks removes it.
    while os.path.exists("/proc/%d/stat" % child) and " Z " not in open("/proc/%d/stat" % child).read():
        time.sleep(0.01)
    assert "there is no process %d" % child in ace("stats", child, status=1)
    ace("top", "--once")
    assert pages_of(child) == []


def test_who_is_killed_leaves_a_page_that_is_removed(program):
    (page,) = program.pages()
    program.process.kill()
    program.process.wait()
    assert page.exists()
    # It fails where no other process is to be seen either.
    done = subprocess.run([*ACE, "top", "--once"], capture_output=True, text=True, timeout=120, env=CLEAN)
    assert str(program.pid) not in done.stdout.split() and not page.exists()
    assert done.returncode == (0 if done.stdout else 1), done


def test_another_program_has_another_page(program):
    (page,) = program.pages()
    before = page.stat().st_ino
    program.process.stdin.write("import os; os.execv(sys.executable, [sys.executable, sys.argv[0]])\n")
    program.process.stdin.flush()
    program.own = json.loads(program.process.stdout.readline())
    assert program.pages() == [page] and page.stat().st_ino != before
    agree({heap["name"]: heap for heap in program.stats()["heaps"]}["python"], program.own["python"])


def test_a_program_without_ace_has_none(program):
    (page,) = program.pages()
    program.process.stdin.write("import os; os.execve('/bin/sleep', ['sleep', '300'], {})\n")
    program.process.stdin.flush()
    while os.readlink("/proc/%d/exe" % program.pid) != os.path.realpath("/bin/sleep"):
        time.sleep(0.01)
    assert "has become another program, without a statistics page" in ace("stats", program.pid, status=1)
    assert not page.exists()
    assert "has no statistics page" in ace("stats", program.pid, status=1)


def test_a_stopped_process_does_not_answer(program):
    os.kill(program.pid, signal.SIGSTOP)
    assert "did not answer within 2 s: it is stopped" in ace("stats", program.pid, status=1)
    os.kill(program.pid, signal.SIGCONT)
    assert program.stats()["pid"] == program.pid


def test_a_second_core_in_the_process_keeps_out(tmp_path):
    """The module acealloc._core brings one: its heaps are not the interpreter's."""
    code = "import acealloc; heap = acealloc.Heap('second'); heap.alloc(100)\n" + PYTHON
    with running(sys.executable, code, tmp_path) as program:
        assert {heap["name"] for heap in program.stats()["heaps"]} == {"python", "python raw"}
        assert list(threads_of(program.pid)).count("ace-publisher") == 1


def test_a_page_of_another_release(program):
    (page,) = program.pages()
    with page.open("r+b") as file:
        file.seek(8)
        file.write((7).to_bytes(4, "little"))
    said = ace("stats", program.pid, status=1)
    assert "is a statistics page of version 7, of another release of ACE; this one reads version 1" in said
    with page.open("r+b") as file:
        file.write(b"XXXXXXXX")
    assert "is no statistics page" in ace("stats", program.pid, status=1)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_page_that_another_user_has_made(program):
    (page,) = program.pages()
    os.chown(page, 65534, -1)
    assert "was made by another user, nobody" in ace("stats", program.pid, status=1)


def test_a_page_that_claims_to_be_huge(program):
    """It is another's, and may say anything."""
    os.kill(program.pid, signal.SIGSTOP)
    (page,) = program.pages()
    with page.open("r+b") as file:
        file.seek(32)
        asked = int.from_bytes(file.read(4), "little")
        file.seek(40)
        file.write((asked + 1).to_bytes(4, "little") + bytes(4) + b"\xff\xff\xff\xff")
    few = lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))  # noqa: E731
    assert "did not answer within 2 s" in ace("stats", program.pid, status=1, preexec_fn=few)


def test_no_such_process():
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert "there is no process %d" % gone.pid in ace("stats", gone.pid, status=1)
    assert "there is no process %d" % gone.pid in ace("top", gone.pid, "--once", status=1)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_process_of_another_user(program):
    def done_by_another(*words):
        code = "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534); os.execv(%r, %r)" % (
            sys.executable, [*ACE, *words])  # fmt: skip
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=CLEAN)

    done = done_by_another("stats", str(program.pid))
    if "acealloc" in done.stderr and "belongs" not in done.stderr:
        pytest.skip("another user cannot read the package here")
    assert done.returncode == 1 and "belongs to another user, root" in done.stderr, done
    of_all = done_by_another("stats")
    assert of_all.returncode == 1 and "belongs to another user" in of_all.stderr
    assert "no process has" not in of_all.stderr
    assert json.loads(done_by_another("stats", "--json").stdout) == {"processes": []}


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("unshare") is None, reason="only root can mount a full folder")
def test_a_full_folder(tmp_path):
    script = tmp_path / "program"
    script.write_text("import _ace; print(len(_ace.stats()))")
    command = "mount -t tmpfs -o size=8k none /dev/shm && exec %s run --stats-page on -- %s %s" % (
        " ".join(ACE), SYSTEM, script)  # fmt: skip
    done = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, env=CLEAN)
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("nothing can be mounted here: %s" % done.stderr)
    assert (done.returncode, done.stdout) == (0, "2\n")
    assert done.stderr.count("cannot be watched") == 1 and done.stderr.endswith(": No space left on device\n")


# ------------------------------------------------------------------------------------------- what `ace` shows


def test_top_lists_processes(program):
    said = ace("top", "--once")
    (line,) = [line for line in said.splitlines() if line.split()[:1] == [str(program.pid)]]
    assert "CPython 3" in line and "MiB" in line and "█" in line


def test_top_shows_a_process(program):
    program.tell("gc.collect()")
    said = ace("top", program.pid, "--once")
    assert "%d  CPython 3" % program.pid in said
    for word in ("live / resident", "metadata", "limit", "trims", "decisions", "phase", "collect", "python raw"):
        assert word in said, said
    assert "Foreign pointers 0" in said and re.search(r"^ python .* run \d+\.\d+ m?s ", said, re.M), said
    # `ace stats` shows the same, a moment later.
    assert re.findall("[a-z]{3,}", ace("stats", program.pid)) == re.findall("[a-z]{3,}", said)


def test_top_shows_kinds_and_decisions(tmp_path):
    with running(SYSTEM, PYTHON, tmp_path, "--kinds", "on") as program:
        program.tell("kept = [[n] for n in range(800000)]; del kept; gc.collect()")
        said = ace("top", program.pid, "--once")
        assert "Kinds of objects in slabs" in said and "Last decisions" in said, said
        assert "full collapsed" in said or "full kept" in said


def read_until(controller, pattern):
    seen, deadline = b"", time.monotonic() + 60
    while not re.search(pattern, seen):
        assert time.monotonic() < deadline, "nothing but %r" % seen
        assert select.select([controller], [], [], 60)[0], "nothing more than %r" % seen
        seen = seen[-10000:] + os.read(controller, 65536)


def read_to_end(controller):
    with contextlib.suppress(OSError):  # the other side is closed
        while os.read(controller, 65536):
            pass


def test_top_is_live_and_ends_with_q(program):
    """In a terminal of its own, which shows what has changed."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
    # What pytest's workers say of their terminal does not count.
    size = {"COLUMNS": "160", "LINES": "50"}
    top = subprocess.Popen([*ACE, "top", str(program.pid), "--interval", "0.1"], env=dict(CLEAN, TERM="xterm", **size),
                           stdin=terminal, stdout=terminal, stderr=subprocess.PIPE)  # fmt: skip
    os.close(terminal)

    read_until(controller, rb"live / resident")
    program.tell("held = [bytes(100000) for _ in range(3000)]")  # 286 MiB
    read_until(controller, rb"3\d\d\.\d MiB")
    os.write(controller, b"q")
    read_to_end(controller)
    assert top.wait(60) == 0, top.stderr.read()
    top.stderr.close()
    os.close(controller)


def test_top_without_standard_input(program):
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
    command = "exec %s top %d --interval 0.1 <&-" % (" ".join(ACE), program.pid)
    top = subprocess.Popen(["sh", "-c", command], env=dict(CLEAN, TERM="xterm", COLUMNS="160", LINES="50"),
                           stdout=terminal, stderr=subprocess.PIPE)  # fmt: skip
    os.close(terminal)
    read_until(controller, rb"live / resident")
    top.send_signal(signal.SIGINT)
    read_to_end(controller)
    _, said = top.communicate(timeout=60)
    assert (top.returncode, said) == (0, b"")
    os.close(controller)


def families(text):
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    return {family.name: family for family in text_string_to_metric_families(text)}


def test_openmetrics_of_any_name(tmp_path):
    """A heap's is cut at a character; a program's may have bytes that are no UTF-8."""
    odd = tmp_path / os.fsdecode(b"pr\xfcf.py")
    program = "import acealloc, sys\nheap = acealloc.Heap('\u65e5' * 20)\nprint('up', flush=True)\nsys.stdin.read()\n"
    odd.write_text(program)
    environment = dict(os.environ, ACE_STATS_PAGE="on")
    with subprocess.Popen([sys.executable, odd], env=environment, stdin=-1, stdout=-1) as process:
        assert process.stdout.readline() == b"up\n"
        text = ace("stats", process.pid, "--openmetrics")
        process.stdin.close()
    assert 'heap="%s"' % ("\u65e5" * 10) in text and "pr?f.py" in text
    families(text)


def test_openmetrics(program):
    from acealloc import stats_fields, watch

    text = ace("stats", program.pid, "--openmetrics")
    assert text.endswith("# EOF\n")
    assert "# TYPE ace_resident_bytes gauge\n" in text and "# UNIT ace_resident_bytes bytes\n" in text
    assert "# HELP ace_resident_bytes pages for blocks that were touched and not given back" in text
    found = families(text)
    labels = {"pid": str(program.pid), "host": watch(program.pid).host, "heap": "python"}
    values = {sample.name: sample.value for family in found.values() for sample in family.samples
              if sample.labels == labels}  # fmt: skip
    own = program.own["python"]
    assert values["ace_heaps"] == 1
    assert values["ace_collections_full_total"] == own["collections_full"]
    assert values["ace_mapped_bytes"] == own["mapped_bytes"]
    assert 0 <= values["ace_purge_seconds_total"] < 60
    for name, _, unit, _ in stats_fields():
        if name != "phase":
            family = found["ace_" + (name if unit != "ns" else name[:-2] + "seconds")]
            assert family.unit == {"bytes": "bytes", "ns": "seconds", "count": ""}[unit]
            assert len(family.samples) == 2
    phases = {sample.labels["phase"]: sample.value for sample in found["ace_phase_entries"].samples
              if sample.labels["heap"] == "python"}  # fmt: skip
    assert phases["collect"] >= own["collections_full"] >= 1
    (info,) = found["ace_process"].samples
    assert info.labels["pid"] == str(program.pid) and "program" in info.labels["command"]


def test_counters_never_fall(tmp_path):
    """Prometheus takes a fall for a restart of the process, and counts all again; but heaps end."""
    from acealloc import watch
    from acealloc.metrics import HeapCollector
    from prometheus_client.core import CounterMetricFamily

    lines = """
import acealloc, sys
heaps = {}
for line in sys.stdin:
    name = line[1:].strip()
    if line[0] == "+":
        heap = acealloc.Heap("state")
        heaps[name] = heap
        heap.hint(acealloc.Hint.COLLECT_BEGIN)
        heap.hint(acealloc.Hint.COLLECT_END)
    else:
        heaps.pop(name).close()
    print(line, end="", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", lines], env=dict(os.environ, ACE_STATS_PAGE="on"), stdin=-1,
                          stdout=-1, text=True) as process:  # fmt: skip

        def told(line):
            process.stdin.write(line + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == line + "\n"

        def counters():
            families = [family for family in collector.collect() if isinstance(family, CounterMetricFamily)]
            return {(sample.name, *sample.labels.values()): sample.value for family in families
                    for sample in family.samples if sample.labels["heap"] == "state"}  # fmt: skip

        told("+a")
        collector = HeapCollector(lambda: [watch(process.pid)])
        seen = []
        for line in ("+b", "-a", "-b", "+c", "+d"):
            told(line)
            seen.append(counters())
        process.stdin.close()
    for before, after in zip(seen, seen[1:]):
        assert all(after[key] >= value for key, value in before.items())
    hints = next(key for key in seen[0] if key[0] == "ace_hints_total")
    assert [numbers[hints] for numbers in seen] == [4, 4, 4, 6, 8]


def test_counters_over_a_missed_answer_and_heaps_without_room():
    """Nothing has ended then, and nothing is counted twice."""
    from acealloc.metrics import HeapCollector
    from acealloc.watched import birth_of

    process = types.SimpleNamespace(pid=os.getpid(), birth=birth_of(os.getpid()), host="host", command=["program"],
                                    ace="0.1.0", started=1.0, left_out=0)  # fmt: skip
    answers = [process]
    collector = HeapCollector(lambda: answers)

    def hints_of(*heaps):
        process.heaps = lambda: [types.SimpleNamespace(name="state", stats={"hints": hints}) for hints in heaps]
        families = {family.name: family for family in collector.collect()}
        return families["ace_hints"].samples[0].value

    assert hints_of(60, 40) == 100
    answers.clear()
    assert hints_of() == 100
    answers.append(process)
    assert hints_of(70, 40) == 110
    process.left_out = 1
    assert hints_of(70) == 110
    process.left_out = 0
    assert hints_of(70, 45) == 115
    assert hints_of(45) == 115
    assert hints_of(46) == 116


def test_the_text_file(program, tmp_path):
    path = tmp_path / "ace.prom"
    path.write_text("a former one")
    ace("stats", "--textfile", path)
    text = path.read_text()
    assert [file.name for file in tmp_path.iterdir() if file.name != "program"] == ["ace.prom"]
    from prometheus_client.parser import text_string_to_metric_families

    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert any(sample.name == "ace_live_bytes" and sample.labels["pid"] == str(program.pid) for sample in samples)
    assert "only files that end in .prom" in ace("stats", "--textfile", "ace.txt", status=2)
    assert "cannot be written: No such file" in ace("stats", "--textfile", tmp_path / "no" / "ace.prom", status=1)


def test_prometheus_is_served(program):
    server = subprocess.Popen([*ACE, "stats", "--serve", "127.0.0.1:0"], env=CLEAN, stderr=subprocess.PIPE, text=True)
    try:
        url = server.stderr.readline().split()[-1]
        request = urllib.request.Request(url, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        for _ in range(2):
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
                found = families(answer.read().decode())
            pids = {sample.labels["pid"] for sample in found["ace_live_bytes"].samples}
            assert str(program.pid) in pids
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            said = ace("stats", "--serve", "127.0.0.1:%d" % taken.getsockname()[1], status=1)
            assert "cannot be served: Address already in use" in said
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 130
        server.stderr.close()


def test_where_it_is_served():
    assert "':9700' is no ADDRESS:PORT" in ace("stats", "--serve", ":9700", status=2)
    server = subprocess.Popen([*ACE, "stats", "--serve", "[::1]:0"], env=CLEAN, stderr=subprocess.PIPE, text=True)
    said = server.stderr.readline()
    server.kill()
    server.communicate()
    if "cannot be served" in said:
        pytest.skip("there is no IPv6 here")
    assert re.search(r"http://\[::1\]:\d+/metrics$", said), said


def test_several_watch_at_once(program):
    command = [*ACE, "stats", str(program.pid), "--json"]
    watchers = [subprocess.Popen(command, env=CLEAN, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for watcher in watchers:
        said, _ = watcher.communicate(timeout=120)
        assert watcher.returncode == 0
        assert {heap["name"] for heap in json.loads(said)["heaps"]} == {"python", "python raw"}


def test_asking_one_process_looks_at_no_other(program, monkeypatch):
    """Hundreds may have pages."""
    from acealloc import watched

    looked_at, birth_of = set(), watched.birth_of
    other = watched._page_of(os.getpid(), birth_of(os.getpid()))
    other.touch()
    monkeypatch.setattr(watched, "birth_of", lambda pid: looked_at.add(pid) or birth_of(pid))
    try:
        with watched.watch(program.pid, timeout=float("inf")) as process:
            assert process.pid == program.pid and looked_at == {program.pid}
    finally:
        other.unlink()


def test_no_folder_for_pages(program, monkeypatch):
    from acealloc import watched

    monkeypatch.setattr(watched, "_PAGE_FOLDER", "/nowhere")
    assert watched.watchable() == []
    with pytest.raises(watched.CannotWatch, match="has no statistics page"):
        watched.watch(program.pid)


def test_the_classes(program):
    import acealloc

    assert program.pid in acealloc.watchable()
    watched = acealloc.watch(program.pid)
    assert watched.pid == program.pid and watched.host.startswith("CPython") and watched.ace == acealloc.version()
    assert watched.left_out == 0 and "heaps" in repr(watched)
    before = watched.total("live_bytes")
    program.tell("held = [bytes(1000) for _ in range(10000)]")
    assert watched.total("live_bytes") == before, "until it is asked again"
    watched.refresh()
    assert watched.total("live_bytes") > before + 10_000_000
    program.process.kill()
    program.process.wait()
    with pytest.raises(acealloc.CannotWatch, match="process %d has ended" % program.pid):
        watched.refresh(timeout=0.2)
    watched.close()
    with pytest.raises(acealloc.CannotWatch, match="close"):
        watched.refresh()
