"""What is run: the hosts that this machine has, and their programs with fixed amounts of work."""

import fnmatch
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import Trouble

BENCH = Path(__file__).resolve().parent.parent
PARTS = {
    "luajit": "LuaJIT: programs of our own and are-we-fast-yet's",
    "lua": "Lua 5.4: the same",
    "cpython": "CPython: programs of pyperformance, by pyperf",
    "swell": "memory that swells and rests, in all of these: one record survives in 10, 100, 1000",
    "rhythm": "a service that works, collects and rests in a rhythm that changes, in all of these",
    "frames": "a game's loop on LuaJIT, with a step of the collector in each frame: how long single frames take",
    "services": "servers under load and at rest: Flask under gunicorn, asyncio, a worker that reads JSON and CSV",
    "micro": "operations of the allocator alone, without a VM",
}
SUITE = "are-we-fast-yet"


@dataclass(frozen=True)
class Program:
    """One row of a table. `command` may hold {loops}, {output}, {allocator} and {api}: see measure.py."""

    part: str
    host: str  # luajit, lua5.4, cpython3.11, micro
    host_kind: str  # luajit, lua, cpython, micro
    name: str
    args: str  # for the reader and the raw file: no path
    command: tuple
    folder: str = ""
    compares_output: bool = True
    unsteady: str = ""  # a regular expression: what in the output may differ from run to run
    way: str = "plain"  # what the harness gets from a run: plain, swell, pyperf, micro, service, frames
    pinned: bool = True
    api: str = ""  # micro: plain or heap
    settings: dict = field(default_factory=dict, hash=False)

    @property
    def key(self):
        return (self.part, self.host, self.name, self.args)

    @property
    def title(self):
        return "%s %s" % (self.host, self.name)


@dataclass
class Selection:
    """What was found, and what was skipped and why."""

    programs: list = field(default_factory=list)
    skipped: list = field(default_factory=list)


# name, arguments for LuaJIT, for Lua 5.4, and the same for a quick look: 1 to 3 seconds each, and 0.2 to 0.5.
OUR_LUA = (
    ("binary_trees", "16", "15", "14", "13"),
    ("string_churn", "2500000", "1000000", "400000", "150000"),
    ("table_churn", "2000000", "1000000", "400000", "200000"),
)
# name, inner iterations in the same order; CD and Havlak can verify only some counts. None: not in a quick look.
AWFY_LUA = (
    ("Json", 600, 200, 100, 30),
    ("CD", 250, 250, 100, 100),
    ("DeltaBlue", 60000, 30000, None, None),
    ("Havlak", 15, 15, None, None),
    ("Storage", 2500, 1000, None, None),
    ("Richards", 150, 50, 30, 10),
)
AWFY_UNSTEADY = r"(runtime|average|total|Runtime): \d+us"


def interpreter(name, given):
    path = shutil.which(given or name)
    if given and not path:
        raise Trouble("there is no program %s" % given)
    return path


def lua_programs(part, host, kind, path, suites, quick):
    """The programs of one Lua VM."""
    selection = Selection()
    column = (2 if quick else 0) + (kind != "luajit")
    for name, *sizes in OUR_LUA:
        script = BENCH / "vm" / (name + ".lua")
        selection.programs.append(
            Program(part, host, kind, name, sizes[column], (path, str(script), *sizes[column].split()))
        )
    folder = suite_folder(suites)
    if isinstance(folder, str):
        selection.skipped.append("%s: %s: %s" % (host, SUITE, folder))
        return selection
    for name, *sizes in AWFY_LUA:
        inner = sizes[column]
        if inner is None:
            continue
        command = (path, "harness.lua", name, "1", str(inner))
        selection.programs.append(
            Program(part, host, kind, name, "1 %d" % inner, command, str(folder), unsteady=AWFY_UNSTEADY)
        )
    return selection


def suite_folder(suites):
    """Where are-we-fast-yet's Lua programs are, or a text: why there are none."""
    if suites is None:
        return "say by --suites DIR where DIR/%s is" % SUITE
    folder = Path(suites) / SUITE / "benchmarks" / "Lua"
    return folder if (folder / "harness.lua").is_file() else "%s has no harness.lua: clone the suite there" % SUITE


def commit_of(folder):
    """The commit that is checked out, marked where files were changed."""
    git = ["git", "-c", "safe.directory=*", "-C", str(folder)]
    found = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
    if found.returncode != 0:
        return "unknown (no git repository)"
    changed = subprocess.run([*git, "status", "--porcelain", "."], capture_output=True, text=True).stdout
    return found.stdout.strip() + (" with changes" if changed else "")


def swell_programs(hosts, quick):
    """hosts: (host, kind, path). 4 rounds of 600,000 records each, or less for a quick look."""
    selection = Selection()
    records, rounds, rest = (150_000, 2, 1) if quick else (600_000, 4, 3)
    for host, kind, path in hosts:
        script = str(BENCH / "vm" / ("swell.py" if kind == "cpython" else "swell.lua"))
        for keep in (1000,) if quick else (10, 100, 1000):
            words = (str(records), str(rounds), str(rest), str(keep))
            program = Program("swell", host, kind, "keep-1-in-%d" % keep, " ".join(words), (path, script, *words),
                              way="swell", unsteady=r"(?m)^@.*\n")  # fmt: skip
            selection.programs.append(program)
    return selection


def rhythm_programs(hosts, quick):
    """hosts: (host, kind, path). Some ten seconds each, or five for a quick look; and (again) 60 cycles at once before
    a rest."""
    selection = Selection()
    for host, kind, path in hosts:
        is_python = kind == "cpython"
        script = str(BENCH / "vm" / ("rhythm.py" if is_python else "rhythm.lua"))
        records = "100000" if is_python else "150000"
        for name, *words in (("rhythm", records, "1" if quick else "3", "0.4", "1"),
                             ("again", records, "1", "2", "1", "20" if quick else "60", "1")):  # fmt: skip
            selection.programs.append(Program("rhythm", host, kind, name, " ".join(words), (path, script, *words),
                                              way="swell", unsteady=r"(?m)^@.*\n"))  # fmt: skip
    return selection


def frames_programs(hosts, quick):
    """hosts: (host, kind, path). 15 seconds each, or 3 for a quick look."""
    selection = Selection()
    for host, kind, path in hosts:
        words = ("600" if quick else "3600", "240")
        selection.programs.append(Program("frames", host, kind, "frames", " ".join(words),
                                          (path, str(BENCH / "vm" / "frames.lua"), *words), way="frames",
                                          unsteady=r"(?m)^@.*\n"))  # fmt: skip
    return selection


# workload, arguments, the same for a quick look (None: not in it); half a second to two each. What is not named here
# runs as the program itself chooses.
MICRO = {
    "tiny-hot": ("64 100 1500000 lifo", "64 100 300000 lifo"),
    "random-mixed": ("60000000 400 42", "6000000 400 42"),
    "mid-mt": ("2000000 400 42", "400000 400 42"),
    "churn": ("100000 10000000 16 128 42", "100000 2000000 16 128 42"),
    "realloc-growth": ("64 1048576 20", "64 1048576 4"),
    "aligned": ("10000 5000000 42", "10000 1000000 42"),
    "churn-long": ("60 100000000 42", None),
    "remote": ("1 10000000 64", "1 1000000 64"),
}
# Several threads use no explicit heap, and are not pinned.
MICRO_THREADS = ("mid-mt", "remote")


def micro_binary(build):
    return build / "bench" / "micro" / "ace-micro"


def micro_programs(build, quick=False):
    """What the program ace-micro says it has, each by every interface that ACE has for it."""
    selection = Selection()
    binary = micro_binary(build)
    if not binary.exists():
        selection.skipped.append("micro: the build has no bench/micro/ace-micro")
        return selection
    listed = subprocess.run([str(binary), "list"], capture_output=True, text=True)
    if listed.returncode != 0:
        raise Trouble("'ace-micro list' failed: %s" % listed.stderr.strip())
    for line in filter(None, map(str.strip, listed.stdout.splitlines())):
        workload = line.split()[0]
        args = MICRO.get(workload, ("", ""))[quick]
        if args is None:
            continue
        threads = workload in MICRO_THREADS
        for api in ("plain",) if threads else ("plain", "heap", "heap-sized"):
            command = (str(binary), workload, *args.split(), "--allocator", "{allocator}", "--api", "{api}")
            program = Program("micro", "micro", "micro", "%s %s" % (workload, api), args, command,
                              compares_output=False, way="micro", pinned=not threads, api=api)  # fmt: skip
            selection.programs.append(program)
    return selection


def matching(programs, patterns):
    """Those whose name, or HOST/NAME, fits one of the patterns, as a shell matches them. Trouble where a pattern fits
    nothing."""
    if not patterns:
        return programs
    chosen = []
    for pattern in patterns:
        form = "%s/%s" if "/" in pattern else "%.0s%s"
        fits = [p for p in programs if fnmatch.fnmatch((form % (p.host, p.name)).lower(), pattern.lower())]
        if not fits:
            names = sorted({p.name for p in programs})
            raise Trouble("no program fits '%s'; there are %s" % (pattern, ", ".join(names) or "none"))
        chosen += [p for p in fits if p not in chosen]
    return [p for p in programs if p in chosen]


def steady(program, output):
    """The output without what may differ from run to run."""
    return re.sub(program.unsteady, "", output) if program.unsteady else output
