"""What `ace top` and `ace stats` show of running processes."""

from __future__ import annotations

import time
from typing import List, Sequence

from rich.bar import Bar
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from ._core import phases
from .console import duration, new_table, size, warning
from .process_report import Report
from .render_report import HEAPS_SHOWN, PHASES_SHOWN, kinds_table, phases_table, zeros_line
from .watched import WatchedProcess

BAR = 16  # characters


def process_list(processes: Sequence[WatchedProcess]) -> Table:
    """A line for each process, the largest first."""
    columns = ["process", "host", "up", "heaps", "live", "live / resident", "resident", "returned", "full", "command"]
    table = new_table("", columns, spare=("full", "heaps", "up", "live / resident", "returned", "live", "host"))
    for column in (table.columns[1], table.columns[5], table.columns[9]):
        column.justify = "left"
    table.columns[0].overflow, table.columns[9].overflow = "crop", "ellipsis"
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
    parts: List[RenderableType] = [title, _watched_heaps(process), phases_table(report)]
    if any(len(heap.stats.get("kinds", [])) > 1 for heap in report.heaps):
        parts.append(kinds_table(report))
    if any("decisions" in heap.stats for heap in report.heaps):
        parts.append(_decisions(report))
    parts.append(zeros_line(report))
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
    table = new_table("Heaps", [*columns, "returned", "trims", "decisions"], spare=(
        "trims", "decisions", "metadata", "live / resident", "limit", "collections", "returned", "phase"))  # fmt: skip
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
    table = new_table("Last decisions", ["heap", "ago", "fell free", "after", "and then"],
                      texts=("after", "and then"))  # fmt: skip
    for heap in report.largest()[:PHASES_SHOWN]:
        for one in heap.stats.get("decisions", {}).get("recent", []):
            held = {"now": "it went back at once", "later": "held for " + duration(one["delay_ns"])}
            table.add_row(Text(heap.name), duration(one["ago_ns"]), size(one["slack"]), one["context"],
                          held.get(one["action"], "held until it is needed"))  # fmt: skip
    return table
