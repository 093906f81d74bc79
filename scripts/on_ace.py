"""What the scripts share that run other people's programs twice, stock and on ACE, and compare what came of them."""

import json
import os
import pathlib
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
PRELOAD = "bindings/preload/libace-preload.so"
MALLOC = "src/shim/libace-malloc.so"


class CannotRun(Exception):
    """Tells what stands in the way, and what to do."""


def add_build_argument(parser):
    parser.add_argument("--build", type=pathlib.Path, default=os.environ.get("ACE_BUILD", REPOSITORY / "build"),
                        help="ACE's build folder ($ACE_BUILD, or build)")  # fmt: skip


def library(build, name=PRELOAD):
    """The path of a library of the build folder. CannotRun where it is not built."""
    path = pathlib.Path(build).resolve() / name
    if not path.is_file():
        raise CannotRun("%s is missing: build ACE first, or say where by --build" % path)
    return path


def environment(preloaded=(), report=None, **settings):
    """The environment of a program: stock without libraries to preload; with them ACE reports to the file. What is set
    here for ACE and the interpreters is left out."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ACE_", "LUA_", "PYTHON", "LD_PRELOAD"))}
    if preloaded:
        env.update(LD_PRELOAD=" ".join(map(str, preloaded)), ACE_REPORT=str(report))
    return dict(env, **settings)


class Reports:
    """What the processes on ACE have written about themselves so far."""

    def __init__(self, path):
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        self.hosts = [line for line in lines if "host" in line]
        self.heaps = [line for line in lines if "host" not in line]
        self.active = sum(host["active"] for host in self.hosts)
        self.foreign = sum(host.get("foreign", 0) for host in self.hosts)
        self.leaked = sum(host.get("leaked", 0) for host in self.hosts)
        # A heap in which other threads may still be has no audit.
        self.broken = sorted({"%s: %s" % (heap["name"], heap["audit"]) for heap in self.heaps
                              if heap.get("audit", "ok") != "ok"})  # fmt: skip

    def why_inactive(self):
        """Empty where ACE was active in every process that wrote."""
        if not self.hosts:
            return "it was not entered"
        return "; ".join(sorted({host["reason"] for host in self.hosts if not host["active"]}))

    def problems(self):
        """What is wrong, in words; nothing where ACE was active and its heaps are sound."""
        found = ["ACE was not active: %s" % self.why_inactive()] if self.why_inactive() else []
        if not found and not self.heaps:
            found.append("no heap was reported")
        found += ["audit of heap %s" % line for line in self.broken]
        if self.foreign or self.leaked:
            found.append("%d foreign pointers, %d leaked blocks" % (self.foreign, self.leaked))
        return found


def differences(stock, hooked):
    """[(test, stock outcome, hooked outcome)] of two {test: outcome}."""
    tests = sorted(set(stock) | set(hooked))
    return [(t, stock.get(t, "absent"), hooked.get(t, "absent")) for t in tests if stock.get(t) != hooked.get(t)]


def confirmed(found, again):
    """(those of the differences that a second round shows again, those that it does not)."""
    tests = {row[0] for row in again}
    return [row for row in found if row[0] in tests], [row for row in found if row[0] not in tests]


def print_rows(title, rows):
    """Prints differences under a title; a fourth item is what is to be said of one."""
    if rows:
        print("\n%s" % title)
    for test, stock, hooked, *note in rows:
        print("  %s: stock %s, on ACE %s%s" % (test, stock, hooked, "".join(note)))


def exit_status(work, options):
    """What `work(options)` returns; 2, with the reason told, where it cannot run."""
    try:
        return work(options)
    except (CannotRun, OSError, subprocess.CalledProcessError) as reason:
        print("%s: %s" % (pathlib.Path(sys.argv[0]).name, reason), file=sys.stderr)
    return 2
