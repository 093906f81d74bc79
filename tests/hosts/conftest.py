"""Host tests: stock interpreters run with libace-preload.so, and their reports are read.

The build folder is that of the environment variable ACE_BUILD, else `build` in the repository. A test asks for
the fixture `python`, `cpython` or `lua` and is run once for each interpreter found on this machine; those
that are absent are named in the header.
"""

import contextlib
import dataclasses
import glob
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("ACE_BUILD", REPOSITORY / "build"))
PRELOAD = BUILD / "bindings" / "preload" / "libace-preload.so"
PYTHON_VERSIONS = ((3, 8), (3, 9), (3, 10), (3, 11), (3, 12), (3, 13), (3, 14), (3, 15))
LUA_NAMES = ("luajit", "lua5.1", "lua5.3", "lua5.4", "lua5.5")

# Who runs the tests in the background may have it ignored; the programs under test are ended by it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclasses.dataclass(frozen=True)
class Python:
    """A CPython on this machine; `version` is (major, minor, micro)."""

    path: str
    version: tuple

    @property
    def name(self):
        return "%s-%s" % (".".join(map(str, self.version)), "system" if self.path.startswith("/usr/") else "own")


def _describe(path):
    """The CPython at `path`, or None where it is none that can be entered."""
    code = "import sys; print(sys.implementation.name, *sys.version_info[:3])"
    try:
        answer = subprocess.run([path, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60)
    except OSError:
        return None
    words = answer.stdout.split()
    if answer.returncode != 0 or len(words) != 4 or words[0] != "cpython":
        return None
    return Python(path, tuple(map(int, words[1:])))


def _find_pythons():
    """The system's python3 and those of pyenv, each file once."""
    root = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    system = ["/usr/bin/python3", *sorted(glob.glob("/usr/bin/python3.[0-9]*[0-9]"))]
    paths = [*system, *sorted(glob.glob(os.path.join(root, "versions", "3.*", "bin", "python3")))]
    real = dict.fromkeys(os.path.realpath(path) for path in paths if os.path.exists(path))
    pythons = filter(None, map(_describe, real))
    return [python for python in pythons if python.version[:2] in PYTHON_VERSIONS]


PYTHONS = _find_pythons()
LUAS = {name: path for name in LUA_NAMES if (path := shutil.which(name))}


def _absent():
    found = [python.version[:2] for python in PYTHONS]
    absent = ["CPython %d.%d" % version for version in PYTHON_VERSIONS if version not in found]
    return ", ".join(absent + [name for name in LUA_NAMES if name not in LUAS]) or "none"


def pytest_report_header(config):
    return [
        "preloaded: %s" % PRELOAD,
        "interpreters: %s" % ", ".join(["CPython " + python.name for python in PYTHONS] + list(LUAS)),
    ]


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line("interpreters that are absent here, hence not tested: %s" % _absent())


def pytest_generate_tests(metafunc):
    if "python" in metafunc.fixturenames:
        metafunc.parametrize("python", PYTHONS, ids=lambda python: python.name)
    if "lua" in metafunc.fixturenames:
        metafunc.parametrize("lua", list(LUAS.values()), ids=list(LUAS))


@pytest.fixture(scope="session")
def preload():
    """The preloaded library's path."""
    if not PRELOAD.exists():
        pytest.fail("%s is missing: build first, or say where by ACE_BUILD" % PRELOAD)
    return str(PRELOAD)


@pytest.fixture(scope="session")
def free_watch(tmp_path_factory):
    """free_watch.c, built."""
    library = tmp_path_factory.mktemp("free_watch") / "libfree-watch.so"
    source = pathlib.Path(__file__).with_name("free_watch.c")
    subprocess.run(["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return str(library)


@dataclasses.dataclass
class Run:
    """A program that has ended: what it printed, and what ACE and free_watch wrote about each process."""

    command: list
    returncode: int
    stdout: str
    stderr: str
    hosts: list  # the hosts' lines, in the order in which the processes ended
    heaps: list  # the heaps' lines
    watch: list  # free_watch's lines

    def host(self):
        """The line of the only process that wrote one."""
        assert len(self.hosts) == 1, self.hosts
        return self.hosts[0]

    def heap(self, name):
        """The line of the only heap of this name."""
        (heap,) = [heap for heap in self.heaps if heap["name"] == name]
        return heap

    def check_sound(self):
        """Nothing went astray, and every heap's audit passed. Returns the run."""
        assert self.returncode == 0, self
        assert self.hosts and all(host["active"] for host in self.hosts), self
        assert all(host["foreign"] == 0 for host in self.hosts), self.hosts
        assert all(heap["audit"] == "ok" for heap in self.heaps), self.heaps
        assert self.watch and all(line["knows_ace"] and line["seen"] > 0 for line in self.watch), self.watch
        assert all(line["leaked"] == 0 for line in self.watch), self.watch
        return self


def _lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def run(preload, free_watch, tmp_path):
    """run(command, env={}, stock=False, timeout=120): runs it with ACE preloaded (or stock) and reads what came
    of it. The environment is the tests' own without Python's and ACE's variables, and with `env` added."""
    count = 0

    def run_one(command, env=None, stock=False, timeout=120, **options):
        nonlocal count
        count += 1
        report, watch = tmp_path / ("report-%d" % count), tmp_path / ("watch-%d" % count)
        full = {k: v for k, v in os.environ.items() if not k.startswith(("ACE_", "PYTHON", "LD_"))}
        if not stock:
            full.update(LD_PRELOAD="%s:%s" % (preload, free_watch), ACE_REPORT=str(report), FREE_WATCH=str(watch))
        full.update(env or {})
        # A session of its own: where the time is up, children that hold the pipes end with it.
        process = subprocess.Popen(
            command,
            env=full,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        )
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        lines = _lines(report)
        return Run(
            list(map(str, command)),
            process.returncode,
            stdout,
            stderr,
            [line for line in lines if "host" in line],
            [line for line in lines if "host" not in line],
            _lines(watch),
        )

    return run_one


@dataclasses.dataclass
class Served:
    """A server; once it has ended, with what ACE wrote about its processes."""

    process: subprocess.Popen
    log: pathlib.Path
    hosts: list = dataclasses.field(default_factory=list)
    heaps: list = dataclasses.field(default_factory=list)

    def await_socket(self, path):
        """Waits until it listens there."""
        for _ in range(600):
            with socket.socket(socket.AF_UNIX) as connection:
                if connection.connect_ex(str(path)) == 0:
                    return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        pytest.fail("not ready after 30 s: %s" % self.log.read_text())


@pytest.fixture
def serve(preload, tmp_path):
    """serve(command, path, stock=False, env={}): a context in which a server runs, with ACE preloaded or stock, and
    listens at the socket `path`; at its end the server is told to end, which it must do well, and the reports are
    read. Without free_watch, which hands free to libc: some servers have a malloc of their own."""
    count = 0

    @contextlib.contextmanager
    def serve_one(command, path, stock=False, env=None):
        nonlocal count
        count += 1
        report, log = tmp_path / ("served-%d" % count), tmp_path / ("log-%d" % count)
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("ACE_", "LD_"))}
        if not stock:
            environment.update(LD_PRELOAD=preload, ACE_REPORT=str(report))
        environment.update(env or {})
        with log.open("w") as out:
            process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
        server = Served(process, log)
        try:
            server.await_socket(path)
            yield server
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, log.read_text()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        lines = _lines(report)
        server.hosts = [line for line in lines if "host" in line]
        server.heaps = [line for line in lines if "host" not in line]

    return serve_one


@pytest.fixture
def program(tmp_path):
    """A CPython that is watched: see watched_program.py."""
    from watched_program import PYTHON, SYSTEM, running

    with running(SYSTEM, PYTHON, tmp_path) as one:
        yield one
