"""Stock interpreters that are watched: what `ace stats` says of them is what they count themselves, and what becomes of
their pages when they fork, become other programs, end or are killed."""

import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
from watched_program import ACE, CLEAN, LUA, PYTHON, SYSTEM, ace, needs_package, pages_of, running

pytestmark = needs_package

# What telling and asking do not change.
SAME = (
    "collections_full collections_partial collected_objects limit_bytes limit_failures system_failures "
    "foreign_pointers misrouted_pointers large_live_bytes large_live_blocks"
).split()
# To tell its statistics a program needs some memory, whose pages come and may go again.
NEARLY_SAME = {"mapped_bytes": 4 << 20, "metadata_bytes": 64 << 10, "resident_bytes": 256 << 10,
               "peak_resident_bytes": 256 << 10, "faulted_bytes": 256 << 10, "mid_live_bytes": 128 << 10}  # fmt: skip


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


def test_a_page_is_no_link(program, tmp_path):
    """Anybody may have put it there, to a file of another user."""
    from acealloc import _core

    (page,) = program.pages()
    (tmp_path / "page").symlink_to(page)
    with pytest.raises(OSError):
        _core._StatsPage(str(tmp_path / "page"))
    assert _core._StatsPage(str(page)).process == program.pid


def test_what_is_too_short_is_no_page(tmp_path):
    from acealloc import _core

    (tmp_path / "page").write_bytes(b"")
    with pytest.raises(ValueError, match="is no statistics page"):
        _core._StatsPage(str(tmp_path / "page"))


def test_who_waits_can_be_interrupted(program):
    from acealloc import _core

    class Alarm(Exception):
        pass

    def ring(*_):
        raise Alarm

    os.kill(program.pid, signal.SIGSTOP)
    (page,) = program.pages()
    former = signal.signal(signal.SIGALRM, ring)
    try:
        with pytest.raises(Alarm) as raised:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            _core._StatsPage(str(page)).ask(20)
    finally:
        signal.signal(signal.SIGALRM, former)
    assert raised.value.__context__ is None, "not after the time is up"


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
