"""What the figures depend on: machine, versions, and the command. No path of this machine is kept, only last parts."""

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.errors import Trouble
from harness.programs import SUITE, commit_of


def without_paths(word):
    """A word of a command line, its paths cut down to their last part."""
    return re.sub(r"[^=:,\s]*/([^/=:,\s]+)/?", r"\1", word)


def first_line(*command):
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = (said.stdout + said.stderr).strip().splitlines()
    return lines[0] if lines else ""


def text_of(path):
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def processor():
    names = re.findall(r"^model name\s*: (.*)$", text_of("/proc/cpuinfo"), re.MULTILINE)
    return names[0] if names else platform.machine()


def package_of(path):
    """The package and version that brought a library; "" where none did."""
    found = subprocess.run(["sh", "-c", 'command -v dpkg >/dev/null && dpkg -S "$1" 2>/dev/null', "sh", path],
                           capture_output=True, text=True)  # fmt: skip
    if found.returncode == 0:
        owner = found.stdout.partition(": ")[0]
        return "%s %s" % (owner, first_line("dpkg-query", "-W", "-f", "${Version}", owner))
    if "cmeel.prefix" in path:
        try:
            return "cmeel-mimalloc %s" % version("cmeel-mimalloc")
        except PackageNotFoundError:
            pass
    return ""


def library(path):
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    found = {"file": Path(path).name, "sha256": digest}
    package = package_of(path)
    return dict(found, package=package) if package else found


def build_options(build):
    """How ACE was compiled. Trouble where nobody should measure it so."""
    try:
        table = json.loads((build / "meson-info" / "intro-buildoptions.json").read_text())
    except (OSError, ValueError):
        raise Trouble("%s is no build folder of meson: name one by --build" % build.name) from None
    wanted = ("buildtype", "optimization", "debug", "b_ndebug", "b_lto", "b_sanitize")
    options = {option["name"]: option["value"] for option in table if option["name"] in wanted}
    # Newer versions of meson give a list of sanitizers, older ones a word.
    if options.get("optimization") not in ("2", "3") or options.get("b_sanitize") not in (None, "none", []):
        raise Trouble("the build folder %s is not optimized (%s): name another by --build or ACE_BUILD" % (
            build.name, ", ".join("%s=%s" % item for item in options.items())))  # fmt: skip
    return options


def describe(root, program, peers, hosts, suites, core, options):
    """One session of `program`, which was called with this process's arguments. hosts: (name, path)."""
    huge = "/sys/kernel/mm/transparent_hugepage/enabled"
    session = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join([program, *map(without_paths, sys.argv[1:])]),
        "ace_commit": commit_of(root),
        "processor": processor(),
        "cores": os.cpu_count(),
        "core_of_programs": core,
        "memory_kb": int(re.search(r"MemTotal:\s*(\d+)", text_of("/proc/meminfo") or "MemTotal: 0").group(1)),
        "load_at_start": os.getloadavg(),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "page_bytes": os.sysconf("SC_PAGESIZE"),
        "transparent_huge_pages": text_of(huge) or "none",
        "hosts": {name: first_line(path, "-v" if "lua" in name else "--version") for name, path in hosts},
        "peers": {peer.name: dict(library(peer.path), kind=peer.kind,
                                  **({"options": peer.options} if peer.options else {}))
                  for peer in peers if peer.path and not peer.hinted},
        "python_packages": [line for line in text_of(root / "bench" / "requirements-python.txt").splitlines()
                            if "==" in line],
        "sizes": options,
    }  # fmt: skip
    if suites is not None and (Path(suites) / SUITE).is_dir():
        session["suites"] = {SUITE: commit_of(Path(suites) / SUITE)}
    return session
