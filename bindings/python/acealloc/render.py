"""What `ace` shows, as Rich tables; what they show is collected elsewhere. For experiments: render_experiments.py."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Sequence

from rich import box
from rich.bar import Bar
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ._core import Option, phases
from .decisions import HeapLog, Log
from .report import Host, Report

if TYPE_CHECKING:
    from .verbs.doctor import Findings
    from .watched import WatchedProcess

# A run may have hundreds of heaps: the screen shows the largest, the totals are over all.
HEAPS_SHOWN = 10
PHASES_SHOWN = 3


def print_out(content: RenderableType) -> None:
    """To standard output; piped into a file it is as wide as it needs, not 80 columns."""
    _console(sys.stdout).print(content)


def print_error(content: RenderableType) -> None:
    """To standard error, so that a program's own output stays clean. Where that is closed or full nothing is said:
    the exit status must stay the program's."""
    if sys.stderr is None:
        return
    try:
        _console(sys.stderr).print(content)
    except OSError:
        forget_output(sys.stderr)


def forget_output(stream: Any) -> None:
    """What could not be written is not tried again at exit, which would change the exit status."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Rich would end the process here; what a closed pipe means is for who prints to say."""
        raise BrokenPipeError


def _console(file: Any) -> Console:
    return _Console(file=file, highlight=False, width=None if file.isatty() else 140)


def warning(text: str) -> Text:
    return Text("ace: ", style="bold yellow").append(text, style="not bold")


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[float, str], None]]:
    """A bar on standard error, where that is a terminal; yields what tells it a share from 0 to 1 and what goes on."""
    columns = (TextColumn(title), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=_console(sys.stderr), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda share, what: bar.update(task, completed=share, description=what)


def size(count: int) -> str:
    """Bytes for people: 0 B, 12.0 KiB, 240.1 MiB."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024 or unit == "GiB":
            break
        value /= 1024
    return "%d B" % value if unit == "B" else "%.1f %s" % (value, unit)


def duration(ns: int) -> str:
    """Nanoseconds for people: 730 ns, 12.3 us, 4.56 ms, 3.21 s."""
    if ns < 1000:
        return "%d ns" % ns
    if ns < 1e6:
        return "%.1f us" % (ns / 1e3)
    return "%.2f ms" % (ns / 1e6) if ns < 1e9 else "%.2f s" % (ns / 1e9)


def new_table(title: str, columns: Sequence[str], numbers: bool = True) -> Table:
    """A table whose first column is text and whose others are right-aligned where they are numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if numbers and i else "left", overflow="fold")
    return table


def options_table(options: List[Option]) -> Table:
    table = new_table("", ["option", "environment", "default", "values", "what it does"], numbers=False)
    for option in options:
        # The command line takes it as --name; brackets would be markup.
        table.add_row(*map(Text, (option.name, option.environment, option.default, option.values, option.description)))
    return table


# ------------------------------------------------------------------------------------- ace run --report


def run_report(command: Sequence[str], outcome: str, report: Report) -> Group:
    """The screen after a run: hosts, heaps, phases, kinds, and what should be zero."""
    parts: List[RenderableType] = [Text("ACE-Alloc", style="bold").append("  %s: %s" % (" ".join(command), outcome))]
    if not report.hosts:
        parts.append(warning("nothing was reported: no CPython or Lua started, or it ended without its exit handlers, "
                             "as by a signal"))  # fmt: skip
    parts.extend(_host_line(host) for host in _distinct(report.hosts))
    if report.heaps:
        parts.append(_heaps(report))
        parts.append(_phases(report))
        if any(len(heap.stats.get("kinds", [])) > 1 for heap in report.heaps):
            parts.append(_kinds(report))
        parts.append(_should_be_zero(report))
    if report.damaged:
        parts.append(warning("%d lines of the report are damaged" % report.damaged))
    return Group(*parts)


def _distinct(hosts: List[Host]) -> List[str]:
    """One line for all processes that say the same."""
    counts: Dict[str, int] = {}
    for host in hosts:
        state = "active" if host.active else "not active: %s" % (host.reason or "no reason given")
        line = "%s: %s" % (host.title, state)
        counts[line] = counts.get(line, 0) + 1
    return ["%s (%d processes)" % (line, count) if count > 1 else line for line, count in counts.items()]


def _host_line(line: str) -> Text:
    return Text("  host  ").append(line, style="yellow" if "not active" in line else "green")


def _heaps(report: Report) -> Table:
    table = new_table(
        "Heaps at exit", ["heap", "process", "live", "blocks", "resident", "peak", "returned", "collections", "audit"]
    )
    largest = report.largest()
    for heap in largest[:HEAPS_SHOWN]:
        stats = heap.stats
        table.add_row(
            Text(heap.name),
            str(heap.pid),
            size(stats.get("live_bytes", 0)),
            "{:,}".format(stats.get("live_blocks", 0)),
            size(stats.get("resident_bytes", 0)),
            size(stats.get("peak_resident_bytes", 0)),
            size(stats.get("returned_bytes", 0) + stats.get("released_bytes", 0)),
            "%d + %d" % (stats.get("collections_full", 0), stats.get("collections_partial", 0)),
            Text(heap.audit, style="green" if heap.audit == "ok" else "bold red"),
        )
    if len(largest) > 1:
        rest = len(largest) - HEAPS_SHOWN
        table.add_section()
        table.add_row(
            "all %d" % len(largest) + (" (%d not shown)" % rest if rest > 0 else ""),
            "%d process%s" % (report.processes, "es" if report.processes > 1 else ""),
            size(report.total("live_bytes")),
            "{:,}".format(report.total("live_blocks")),
            size(report.total("resident_bytes")),
            "",  # peaks of different times do not add up
            size(report.total("returned_bytes") + report.total("released_bytes")),
            "full + partial",
            "",
        )
    return table


def _phases(report: Report) -> Table:
    table = new_table("Phases", ["heap", "process", "phase", "entries", "time", "taken", "returned"])
    for heap in report.largest()[:PHASES_SHOWN]:
        for phase, numbers in heap.stats.get("phases", {}).items():
            if numbers["entries"]:
                table.add_row(
                    Text(heap.name),
                    str(heap.pid),
                    phase,
                    "{:,}".format(numbers["entries"]),
                    duration(numbers["ns"]),
                    size(numbers["faulted_bytes"]),
                    size(numbers["returned_bytes"]),
                )
    return table


def _kinds(report: Report) -> Table:
    table = new_table("Kinds of objects in slabs", ["heap", "process", "group", "live", "blocks"])
    for heap in report.largest()[:HEAPS_SHOWN]:
        for group, kind in enumerate(heap.stats.get("kinds", [])):
            if kind["live_blocks"]:
                blocks = "{:,}".format(kind["live_blocks"])
                table.add_row(Text(heap.name), str(heap.pid), str(group), size(kind["live_bytes"]), blocks)
    return table


def _should_be_zero(report: Report) -> Text:
    line = Text()
    for label, name in (
        ("foreign pointers", "foreign_pointers"),
        ("misrouted pointers", "misrouted_pointers"),
        ("refused at the limit", "limit_failures"),
        ("refused by the system", "system_failures"),
    ):
        count = report.total(name)
        line.append("%s %d. " % (label.capitalize(), count), style="bold red" if count else "")
    return line


# --------------------------------------------------------------------------------- ace top and ace stats

BAR = 16  # characters


def process_list(processes: Sequence[WatchedProcess]) -> Table:
    """A line for each process, the largest first."""
    table = new_table("", ["process", "host", "up", "heaps", "live", "live / resident", "resident", "returned", "full",
                           "command"])  # fmt: skip
    for column in table.columns:
        column.no_wrap = True
    for column in (table.columns[1], table.columns[5], table.columns[9]):
        column.justify = "left"
    table.columns[9].overflow, table.columns[9].ratio = "ellipsis", 1
    table.expand = True
    for one in sorted(processes, key=lambda process: process.total("resident_bytes"), reverse=True):
        total = one.total
        table.add_row(
            str(one.pid),
            Text(one.host),
            _uptime(one),
            str(len(one.heaps())),
            size(total("live_bytes")),
            _share(total("live_bytes"), total("resident_bytes")),
            size(total("resident_bytes")),
            size(total("returned_bytes") + total("released_bytes")),
            # Several heaps hear of one collection.
            "{:,}".format(max((heap.stats.get("collections_full", 0) for heap in one.heaps()), default=0)),
            _command(one),
        )
    return table


def process_view(process: WatchedProcess) -> Group:
    """All of a process: its heaps, their phases, kinds and last decisions."""
    title = Text("%d" % process.pid, style="bold", no_wrap=True, overflow="ellipsis")
    title.append("  %s, up %s, ACE %s  " % (process.host, _uptime(process), process.ace), style="not bold")
    title.append(_command(process))
    report = process.report
    parts: List[RenderableType] = [title, _watched_heaps(process), _phases(report)]
    if any(len(heap.stats.get("kinds", [])) > 1 for heap in report.heaps):
        parts.append(_kinds(report))
    if any("decisions" in heap.stats for heap in report.heaps):
        parts.append(_decisions(report))
    parts.append(_should_be_zero(report))
    if process.left_out:
        parts.append(warning("%d heaps found no room in the page" % process.left_out))
    return Group(*parts)


def _command(process: WatchedProcess) -> Text:
    """In a line."""
    return Text(" ".join(" ".join(process.command).split()), style="not bold dim")


def _uptime(process: WatchedProcess) -> str:
    minutes, rest = divmod(int(max(0.0, time.time() - process.started)), 60)
    hours, minutes = divmod(minutes, 60)
    return "%d:%02d:%02d" % (hours, minutes, rest) if hours else "%d:%02d" % (minutes, rest)


class _Bar(Bar):
    """Of # where the output has no blocks."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if options.ascii_only:
            yield Text("#" * round(BAR * self.end / self.size))
        else:
            yield from super().__rich_console__(console, options)


def _share(live: int, resident: int) -> Bar:
    """Of a heap that was not touched at all there is nothing to show."""
    return _Bar(max(1, resident), 0, min(live, resident), width=BAR)


def _watched_heaps(process: WatchedProcess) -> Table:
    columns = ["heap", "live", "live / resident", "resident", "metadata", "limit", "phase", "collections"]
    table = new_table("Heaps", [*columns, "returned", "trims", "decisions"])
    for column in table.columns:
        column.no_wrap = True
    for column in (table.columns[2], table.columns[6]):
        column.justify = "left"
    largest = sorted(process.heaps(), key=lambda heap: heap.stats.get("resident_bytes", 0), reverse=True)
    names = phases()
    for heap in largest[:HEAPS_SHOWN]:
        stats = heap.stats
        limit, phase = stats.get("limit_bytes", 0), stats.get("phase", 0)
        table.add_row(
            Text(heap.name),
            size(stats.get("live_bytes", 0)),
            _share(stats.get("live_bytes", 0), stats.get("resident_bytes", 0)),
            size(stats.get("resident_bytes", 0)),
            size(stats.get("metadata_bytes", 0)),
            size(limit) if limit else "none",
            "%s %s" % (names[phase] if phase < len(names) else phase, duration(stats.get("phase_age_ns", 0))),
            "%d + %d" % (stats.get("collections_full", 0), stats.get("collections_partial", 0)),
            size(stats.get("returned_bytes", 0) + stats.get("released_bytes", 0)),
            "{:,}".format(stats.get("purges", 0)),
            "{:,}".format(stats.get("decisions", {}).get("count", 0)),
        )
    if len(largest) > HEAPS_SHOWN:
        table.add_section()
        table.add_row("all %d" % len(largest), *map(size, (process.total("live_bytes"),)),
                      _share(process.total("live_bytes"), process.total("resident_bytes")),
                      size(process.total("resident_bytes")))  # fmt: skip
    return table


def _decisions(report: Report) -> Table:
    table = new_table("Last decisions", ["heap", "ago", "fell free", "after", "and then"])
    table.columns[3].justify = table.columns[4].justify = "left"
    for heap in report.largest()[:PHASES_SHOWN]:
        for one in heap.stats.get("decisions", {}).get("recent", []):
            held = {"now": "it went back at once", "later": "held for " + duration(one["delay_ns"])}
            table.add_row(Text(heap.name), duration(one["ago_ns"]), size(one["slack"]), one["context"],
                          held.get(one["action"], "held until it is needed"))  # fmt: skip
    return table


# -------------------------------------------------------------------------------------------- ace doctor

STYLES = {"ok": "green", "note": "yellow", "bad": "bold red"}


def doctor(findings: Findings) -> Group:
    """Three tables: what is installed, the hosts, what stands in the way."""
    parts: List[RenderableType] = []
    for title, rows, columns, marks in (
        ("Installed", findings.installed, ["", "what", "found"], {"bad": "bad"}),
        ("Hosts, each started on ACE", findings.hosts, ["entered", "program", "result"], {"ok": "yes", "bad": "no"}),
        ("This machine", findings.machine, ["", "what", "found"], {"bad": "bad"}),
    ):
        table = new_table(title, columns, numbers=False)
        for row in rows:
            mark = Text(marks.get(row.state, row.state), style=STYLES[row.state])
            table.add_row(mark, Text(row.what), Text(row.found))
        parts.append(table)
    return Group(*parts)


# ---------------------------------------------------------------------------------------- ace explain


def explanation(log: Log, steps: int) -> Group:
    """For each heap: what was decided in each context and what it cost; then the changes of mind."""
    parts: List[RenderableType] = []
    for heap in log.heaps:
        parts.append(_heap_of_log(heap))
        changes = heap.changes()
        if changes and steps > 0:
            last = ", the last %d of %d" % (steps, len(changes)) if len(changes) > steps else ""
            columns = ["at", "context", "free then", "held before, in break-even times", "held now"]
            table = new_table("Changes of mind" + last, columns)
            begin = heap.steps[0]["t"]
            for step, before in changes[-steps:]:
                opened = step["opened"]
                table.add_row(duration(step["t"] - begin), opened["context"], size(step["slack"]),
                              _hold(heap, before, step["defer"]), _hold(heap, opened["chosen"], step["defer"]))
            parts.append(table)
        if not heap.whole:
            parts.append(warning("this loop began before a fork, in another process: it is not replayed"))
        if heap.differs:
            parts.append(warning("a replay decides otherwise from line %d on: the log is of another build, or was "
                                 "changed" % heap.differs))
    if not log.heaps:
        parts.append(warning("the log holds no decision: no collection or idle time left memory free"))
    if log.damaged:
        parts.append(warning("%d of %d lines are damaged and left out, the first is line %d" % (
            len(log.damaged), log.lines, log.damaged[0])))
    return Group(*parts)


def _hold(heap: HeapLog, expert: int, may_defer: bool) -> str:
    """How long an expert holds: in break-even times, which differ from interval to interval."""
    learner = heap.learner()
    delay = learner.delay(expert, bool(may_defer))
    if delay == 0:
        return "not at all"
    return "for ever" if delay == 2**64 - 1 else str(Fraction(delay, learner.break_even).limit_denominator(8))


def _heap_of_log(heap: HeapLog) -> Table:
    table = new_table('Heap "%s" of process %d: %d steps, break-even after %s for small pages' % (
        heap.name, heap.pid, len(heap.steps), duration(heap.learner().break_even)),
        ["context", "intervals", "cost", "by the prior", "least possible", "gained",
         "held most often, in break-even times"])
    for name, one in heap.contexts().items():
        held = max(one.choices, key=lambda choice: one.choices[choice])
        table.add_row(name, str(one.intervals), duration(one.cost), duration(one.prior), duration(one.least),
                      ("-" if one.cost > one.prior else "") + duration(abs(one.prior - one.cost)), _hold(heap, *held))
    return table
