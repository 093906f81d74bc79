"""What `ace run --report` shows after a run: hosts, heaps, phases, kinds, and what should be zero."""

from __future__ import annotations

from typing import Dict, List, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .console import duration, new_table, size, warning
from .process_report import Host, Report

# A run may have hundreds of heaps: the screen shows the largest, the totals are over all.
HEAPS_SHOWN = 10
PHASES_SHOWN = 3


def run_report(command: Sequence[str], outcome: str, report: Report) -> Group:
    """The screen after a run: hosts, heaps, phases, kinds, and what should be zero."""
    parts: List[RenderableType] = [Text("ACE-Alloc", style="bold").append("  %s: %s" % (" ".join(command), outcome))]
    if not report.hosts:
        parts.append(warning("nothing was reported: no CPython or Lua started, or it ended without its exit handlers, "
                             "as by a signal"))  # fmt: skip
    parts.extend(_host_line(host) for host in _distinct(report.hosts))
    if report.heaps:
        parts.append(_heaps(report))
        parts.append(phases_table(report))
        if any(len(heap.stats.get("kinds", [])) > 1 for heap in report.heaps):
            kinds = kinds_table(report)
            parts.append(kinds if kinds.row_count else Text("Kinds of objects in slabs: none of their blocks is left"))
        parts.append(zeros_line(report))
    if report.damaged:
        parts.append(warning("%d lines of the report are damaged" % report.damaged))
    return Group(*parts)


def _distinct(hosts: List[Host]) -> List[str]:
    """One line for all processes that say the same."""
    counts: Dict[str, int] = {}
    for host in hosts:
        state = "active" if host.active else "inactive: %s" % (host.reason or "no reason given")
        line = "%s: %s" % (host.title, state)
        counts[line] = counts.get(line, 0) + 1
    return ["%s (%d processes)" % (line, count) if count > 1 else line for line, count in counts.items()]


def _host_line(line: str) -> Text:
    return Text("  host  ").append(line, style="yellow" if ": inactive" in line else "green")


def _heaps(report: Report) -> Table:
    table = new_table(
        "Heaps at exit", ["heap", "process", "live", "blocks", "resident", "peak", "returned", "collections", "audit"],
        spare=("blocks", "process", "collections", "peak", "live", "returned"),
    )  # fmt: skip
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


def phases_table(report: Report) -> Table:
    table = new_table("Phases (pages returned: one by one; what went back whole is with the heap)",
                      ["heap", "process", "phase", "entries", "time", "taken", "pages returned"],
                      spare=("process", "entries"))  # fmt: skip
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


def kinds_table(report: Report) -> Table:
    table = new_table("Kinds of objects in slabs", ["heap", "process", "group", "live", "blocks"],
                      spare=("process",))  # fmt: skip
    for heap in report.largest()[:HEAPS_SHOWN]:
        for group, kind in enumerate(heap.stats.get("kinds", [])):
            if kind["live_blocks"]:
                blocks = "{:,}".format(kind["live_blocks"])
                table.add_row(Text(heap.name), str(heap.pid), str(group), size(kind["live_bytes"]), blocks)
    return table


def zeros_line(report: Report) -> Text:
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
