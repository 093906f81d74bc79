"""The hosts on this machine, and the trial that shows whether ACE can enter one."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from . import preload, process_report, program

TRIAL_SECONDS = 30.0
NAMES = re.compile(r"(python3(\.\d+)?t?|pypy3|luajit(-\S+)?|lua(5\.\d)?|redis-server|nginx|openresty)$")


class Candidate(NamedTuple):
    """A program that may be a host. label: its path, and what is worth knowing about it."""

    path: str
    label: str


class Attempt(NamedTuple):
    entered: bool
    text: str


def candidates() -> List[Candidate]:
    """The known VMs on PATH, those of pyenv, and the servers that embed one; each executable once."""
    found = []
    seen = set()
    for path in _places():
        real = os.path.realpath(path)
        shim = _is_shim(path)
        # Shims are small scripts of equal text: the first for a name stands for all, by its own path.
        key = path if shim else real
        if key not in seen:
            seen.add(key)
            also = "" if real == path or shim else " -> " + real
            found.append(Candidate(path, path + (" (pyenv shim)" if shim else also)))
    return found


def _places() -> Iterator[str]:
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    folders.append("/usr/sbin")  # servers live there, outside a user's PATH
    for folder in dict.fromkeys(folder for folder in folders if folder):
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for name in names:
            path = os.path.join(folder, name)
            if NAMES.match(name) and os.path.isfile(path) and os.access(path, os.X_OK):
                if not (_is_shim(path) and name != "python3"):
                    yield path
    root = Path(os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv")))
    yield from sorted(str(path) for path in root.glob("versions/*/bin/python3"))


def _is_shim(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return b"pyenv" in file.read(512) if file.read(2) == b"#!" else False
    except OSError:
        return False


def attempt(candidate: Candidate, library: str) -> Attempt:
    """Starts the host on ACE with a one-line program and reads what the library said about it."""
    found = program.inspect(candidate.path)
    if found.obstacle:
        return Attempt(False, found.obstacle)
    with tempfile.TemporaryDirectory(prefix="ace-doctor-") as folder:
        lines = os.path.join(folder, "report.jsonl")
        settings = {"ACE_REPORT": lines, "ACE_VERBOSE": "off"}
        settings.update(dict.fromkeys(("ACE_RECORD", "ACE_LOG", "ACE_PLAYBOOK"), "none"))  # the user's are not for this
        environment = preload.environment(library, settings, os.environ)
        try:
            status, output = _start(candidate.path, folder, environment)
        except OSError as error:
            return Attempt(False, "it cannot be started: %s" % error.strerror)
        written = process_report.read(lines)
    return _verdict(status, output, written)


def _start(path: str, folder: str, environment: Dict[str, str]) -> Tuple[Optional[int], str]:
    """Runs the one-line program; (exit status or None after TRIAL_SECONDS, what it printed)."""
    name = os.path.basename(path)
    server = name == "redis-server"
    # A new session, so that whatever the host starts can be ended with it.
    process = subprocess.Popen(
        [path] + _one_line_program(name, folder), cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        if server:
            _await_socket(os.path.join(folder, "socket"), process)
            process.terminate()
        output, _ = process.communicate(timeout=TRIAL_SECONDS)
        return process.returncode, output
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            return None, ""
        raise


def _one_line_program(name: str, folder: str) -> List[str]:
    if name.startswith(("python", "pypy")):
        return ["-c", "pass"]
    if name.startswith("lua"):
        return ["-e", "local t = {}"]
    if name == "redis-server":
        # It makes its Lua state at start; no port, no files.
        return ["--port", "0", "--unixsocket", os.path.join(folder, "socket"), "--save", "", "--appendonly", "no"]
    # nginx makes its Lua state when it tests a configuration with Lua in it.
    configuration = os.path.join(folder, "nginx.conf")
    with open(configuration, "w") as file:
        module = Path("/usr/lib/nginx/modules/ngx_http_lua_module.so")
        for loaded in (module.with_name("ndk_http_module.so"), module):
            if name == "nginx" and loaded.exists():
                file.write("load_module %s;\n" % loaded)
        file.write("pid nginx.pid; events {} http { access_log off; init_by_lua_block { local t = {} } }\n")
    return ["-t", "-p", folder, "-e", "stderr", "-c", configuration]


def _await_socket(path: str, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + TRIAL_SECONDS
    while not os.path.exists(path) and process.poll() is None:
        if time.monotonic() > end:
            raise subprocess.TimeoutExpired(process.args, TRIAL_SECONDS)
        time.sleep(0.05)


def _verdict(status: Optional[int], output: str, written: process_report.Report) -> Attempt:
    if status is None:
        return Attempt(False, "it did not end within %d s" % TRIAL_SECONDS)
    active = [host for host in written.hosts if host.active]
    if active and status == 0:
        broken = [heap.audit for heap in written.heaps if heap.audit not in ("ok", "not audited")]
        if broken:
            return Attempt(False, "entered, but a heap is damaged: %s" % broken[0])
        return Attempt(True, active[0].title)
    refused = [host for host in written.hosts if not host.active]
    if refused:
        return Attempt(False, "%s: %s" % (refused[0].title, refused[0].reason))
    if "init_by_lua_block" in output:  # nginx knows no such directive
        return Attempt(False, "it has no Lua")
    last = output.strip().splitlines()[-1:] or ["it printed nothing"]
    if status != 0:
        return Attempt(False, "it ended with status %d: %s" % (status, last[0]))
    return Attempt(False, "the library saw no CPython and no Lua in it")
