"""What `ace top` and `ace stats` show of a watched program, on terminals, as text and as metrics."""

import contextlib
import fcntl
import os
import pty
import re
import select
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
from watched_program import ACE, CLEAN, PYTHON, SYSTEM, ace, needs_package, running

pytestmark = needs_package


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
