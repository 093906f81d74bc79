"""Runs the swelling examples stock, on ACE and on mimalloc, in turn, and shows who holds how much memory.

Called by scripts/demo, with the Python of the virtual environment. Resident memory is sampled from
/proc/PID/statm while a program runs; all that was sampled is kept as CSV beside the pictures.
"""

import argparse
import csv
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from acealloc import libraries, preload, process_report
from demo_pictures import draw_html, draw_png
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SAMPLE_SECONDS = 0.02
# The end of a rest is seen a little late, when the program is at work again.
REST_MARGIN_SECONDS = 0.2
PAGE = os.sysconf("SC_PAGESIZE")
MB = 1e6

OWN, ACE, MIMALLOC = "its own", "ACE", "mimalloc"
NOT_POSSIBLE = (
    "LuaJIT on mimalloc is missing: its built-in allocator calls no malloc, so there is nothing that a preloaded "
    "malloc could take over."
)


@dataclass(frozen=True)
class Program:
    """A host and the example that it runs, with the allocators that it can be run on."""

    name: str
    command: list
    allocators: tuple


@dataclass
class Run:
    """One run: samples are (seconds since the start, resident bytes)."""

    program: str
    allocator: str
    turn: int
    seconds: float
    samples: list
    rest_ends: list  # seconds at which a rest was over

    @property
    def peak(self):
        return max(resident for _, resident in self.samples)

    @property
    def at_rest(self):
        """The memory held when the last rest is nearly over."""
        before = self.rest_ends[-1] - REST_MARGIN_SECONDS
        return [resident for at, resident in self.samples if at <= before][-1]

    @property
    def area(self):
        """Resident memory integrated over time, in byte seconds."""
        pairs = zip(self.samples, self.samples[1:])
        return sum((later - at) * (resident + after) / 2 for (at, resident), (later, after) in pairs)


def programs(quick):
    """The hosts that this machine has, with about 240 MB for each (60 MB where `quick`)."""
    rounds, rest, share = (2, 1.0, 4) if quick else (2, 2.0, 1)
    python = getattr(sys, "_base_executable", sys.executable)
    found = [
        Program(
            "python3",
            [python, EXAMPLES / "swell.py", "--records", 520_000 // share, "--rounds", rounds, "--rest", rest],
            (OWN, ACE, MIMALLOC),
        )
    ]
    # The same record is larger in Lua than in LuaJIT.
    for name, records, allocators in (
        ("luajit", 700_000, (OWN, ACE)),
        ("lua5.4", 600_000, (OWN, ACE, MIMALLOC)),
    ):
        path = shutil.which(name)
        if path:
            found.append(Program(name, [path, EXAMPLES / "swell.lua", records // share, rounds, rest], allocators))
    return [Program(p.name, [str(word) for word in p.command], p.allocators) for p in found]


def environment(allocator, lines):
    """The environment that puts a program on an allocator; on ACE it reports to the file `lines`."""
    clean = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "PYTHONMALLOC") and k[:4] != "ACE_"}
    if allocator == ACE:
        return preload.environment(preload.library(), {"ACE_REPORT": str(lines)}, clean)
    if allocator == MIMALLOC:
        # CPython calls malloc only for what its own allocator declines, unless told otherwise.
        return dict(clean, LD_PRELOAD=mimalloc(), PYTHONMALLOC="malloc")
    return clean


def mimalloc():
    return libraries.mimalloc() or sys.exit("demo: the package %s brought no library" % libraries.MIMALLOC)


def measure(program, allocator, turn, output):
    """Runs the program once, and samples its memory until it ends. Exits where the program fails."""
    lines = output / "ace-report.jsonl"
    lines.unlink(missing_ok=True)
    log = output / ("%s-%s.log" % (program.name, allocator.replace(" ", "-")))
    samples, rest_ends = [], []
    with open(log, "w") as sink:
        start = time.monotonic()
        process = subprocess.Popen(
            program.command, env=environment(allocator, lines), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
        )
    with open("/proc/%d/statm" % process.pid) as statm, open(log) as printed:
        while process.poll() is None:
            try:
                statm.seek(0)
                resident = int(statm.read().split()[1]) * PAGE
            except (OSError, IndexError):
                break  # it ended just now
            at = time.monotonic() - start
            if resident:
                samples.append((at, resident))
            rest_ends += [at] * rests_over(printed.read())
            time.sleep(SAMPLE_SECONDS)
        status = process.wait()
        seconds = time.monotonic() - start
        rest_ends += [seconds] * rests_over(printed.read())
    if status != 0 or not rest_ends:
        raise SystemExit("demo: %s on %s ended with status %d; it printed:\n%s" % (
            program.name, allocator, status, log.read_text()))  # fmt: skip
    if allocator == ACE:
        require_active(program, lines)
    return Run(program.name, allocator, turn, seconds, samples, rest_ends)


def rests_over(text):
    """How many rests have ended: the examples print a line at the end of each phase."""
    return len(re.findall(r"^round \d+ +rest\b", text, re.MULTILINE))


def require_active(program, lines):
    """A run on ACE counts only where ACE was in it, and its heaps are whole."""
    written = process_report.read(str(lines))
    if not any(host.active for host in written.hosts):
        raise SystemExit("demo: ACE did not enter %s: %s" % (
            program.name, "; ".join(host.reason for host in written.hosts) or "it wrote no report"))  # fmt: skip
    broken = [heap.audit for heap in written.heaps if heap.audit not in ("ok", "not audited")]
    if broken:
        raise SystemExit("demo: a heap of %s is damaged: %s" % (program.name, broken[0]))


def measure_all(chosen, turns, output, console):
    """All programs on all their allocators, `turns` times, an allocator after the other."""
    plan = [(turn, p, a) for turn in range(1, turns + 1) for p in chosen for a in p.allocators]
    runs = []
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(plan))
        for turn, program, allocator in plan:
            progress.update(task, description="turn %d: %s on %s" % (turn, program.name, allocator))
            runs.append(measure(program, allocator, turn, output))
            progress.advance(task)
    return runs


def table(chosen, runs):
    """Medians over the turns, each with its ratio to the VM's own allocator."""
    result = Table(
        title="Medians; in brackets the ratio to the VM's own allocator; area: resident memory integrated over time",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for column in ("program", "allocator"):
        result.add_column(column)
    measures = (
        ("time, s", lambda run: run.seconds, "%.2f"),
        ("peak, MB", lambda run: run.peak / MB, "%.0f"),
        ("at rest, MB", lambda run: run.at_rest / MB, "%.0f"),
        ("area, MB.s", lambda run: run.area / MB, "%.0f"),
    )
    for title, _, _ in measures:
        result.add_column(title, justify="right")
    for program in chosen:
        for allocator in program.allocators:
            cells = []
            for _, measure_of, form in measures:
                value, own = (
                    statistics.median(measure_of(r) for r in runs if (r.program, r.allocator) == (program.name, a))
                    for a in (allocator, OWN)
                )
                cells.append((form + " (%.2f)") % (value, value / own))
            result.add_row(program.name, allocator, *cells, style="bold green" if allocator == ACE else "")
        result.add_section()
    return result


def keep(runs, chosen, output):
    """The raw samples, a line for each run, and what they were measured with."""
    with open(output / "samples.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["program", "allocator", "turn", "seconds", "resident_bytes"])
        for run in runs:
            rows.writerows(
                (run.program, run.allocator, run.turn, "%.4f" % at, resident) for at, resident in run.samples
            )
    with open(output / "runs.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["program", "allocator", "turn", "seconds", "peak_bytes", "at_rest_bytes", "area_byte_seconds"])
        for run in runs:
            rows.writerow((run.program, run.allocator, run.turn, "%.3f" % run.seconds, run.peak, run.at_rest,
                           "%.0f" % run.area))  # fmt: skip
    with open(output / "machine.csv", "w", newline="") as file:
        csv.writer(file).writerows([("what", "value"), *machine(chosen)])


def machine(chosen):
    """What the figures depend on."""
    cpu = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    yield "processor", "%s, %d cores" % (cpu[0] if cpu else platform.machine(), os.cpu_count())
    yield "kernel", platform.release()
    yield "libc", " ".join(platform.libc_ver())
    yield "page bytes", PAGE
    yield "transparent huge pages", huge.read_text().strip() if huge.exists() else "none"
    yield "acealloc", version("acealloc")
    yield "mimalloc", version("cmeel-mimalloc")
    for program in chosen:
        flag = "--version" if program.name == "python3" else "-v"
        said = subprocess.run([program.command[0], flag], capture_output=True, text=True)
        yield program.name, (said.stdout + said.stderr).strip().splitlines()[0]
        yield program.name + " command", " ".join([program.name, Path(program.command[1]).name, *program.command[2:]])


def at_least_one(text):
    if int(text) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return int(text)


def main():
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a quarter of the memory, one turn: half a minute")
    parser.add_argument("--turns", type=at_least_one, help="how often each is run (3; 1 with --quick)")
    parser.add_argument("--output", type=Path, default=Path("demo-results"), help="a folder (./demo-results)")
    options = parser.parse_args()

    console = Console()
    options.output.mkdir(parents=True, exist_ok=True)
    chosen = programs(options.quick)
    runs = measure_all(chosen, options.turns or (1 if options.quick else 3), options.output, console)
    keep(runs, chosen, options.output)
    png = draw_png(chosen, runs, options.output / "memory.png")
    html = draw_html(chosen, runs, options.output / "memory.html")
    console.print(table(chosen, runs))
    console.print(NOT_POSSIBLE, style="dim")
    console.print("picture: %s\nzoomable: %s\nraw samples, runs, machine: %s" % (
        png.resolve(), html.resolve(), options.output.resolve() / "*.csv"), soft_wrap=True)  # fmt: skip


if __name__ == "__main__":
    main()
