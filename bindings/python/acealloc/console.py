"""What all screens of `ace` are made of: where they go, tables, bars, and sizes and times for people."""

from __future__ import annotations

import copy
import dataclasses
import os
import sys
from contextlib import contextmanager
from typing import Any, Callable, Collection, Iterator, Sequence, Tuple

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text


def print_out(content: RenderableType) -> None:
    """To standard output; piped into a file it is as wide as it needs, not 80 columns."""
    _console(sys.stdout).print(content, crop=False)


def print_error(content: RenderableType) -> None:
    """To standard error, so that a program's own output stays clean. Where that is full nothing is said: the exit
    status must stay the program's."""
    try:
        _console(sys.stderr).print(content, crop=False)
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
    return _Console(file=file, highlight=False, markup=False, width=None if file.isatty() else 140)


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


LEAST_NAME, LONGEST_WORD = 16, 16  # characters: a longer name is shortened, a longer word broken, where need be


class FittingTable(Table):
    """Where it is wider than the terminal, headings are broken between words, names shortened, and texts go on in a
    next line; then columns are left out, those of `spare` first and in this order, then the last ones. Numbers stay
    whole. What is no terminal has room for all columns and names."""

    spare: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.update(width=10_000)
        ranges = [self._range(console, wide, column) for column in self.columns]
        room = options.max_width
        kept = list(range(len(ranges)))
        first_called = {str(self.columns[i].header): i for i in reversed(kept)}
        spare = [first_called[name] for name in self.spare if name in first_called]
        if console.is_terminal:
            first, *others = [i for i in kept if i not in spare]
            kept = [first]
            for i in [*others, *reversed(spare)]:
                wider = sorted([*kept, i])
                if len(wider) == 2 or self._needs(wider, [ranges[one][0] for one in wider], console) <= room:
                    kept = wider
        widths = [ranges[i][1] for i in kept]
        excess = self._needs(kept, widths, console) - room
        slack = [widths[place] - ranges[i][0] for place, i in enumerate(kept)]
        while excess > 0 and any(slack):
            widest = max((place for place in range(len(kept)) if slack[place]), key=lambda place: widths[place])
            widths[widest] -= 1
            slack[widest] -= 1
            excess -= 1
        shown = self._of(kept, widths)
        yield from Table.__rich_console__(shown, console, options.update(width=room + max(excess, 0)))

    def _range(self, console: Console, wide: ConsoleOptions, column: Column) -> Tuple[int, int]:
        """How wide it must be, and is at the most."""
        heading = str(column.header)
        words = max(map(cell_len, heading.split()), default=1)
        cells = [Measurement.get(console, wide, cell) for cell in column.cells]
        whole = max((cell.maximum for cell in cells), default=0)
        most = max(whole, cell_len(heading), 1)
        if column.overflow == "fold":
            return max(words, min(LONGEST_WORD, max((cell.minimum for cell in cells), default=0))), most
        if column.overflow == "ellipsis":
            return min(most, max(LEAST_NAME, cell_len(heading))) if console.is_terminal else most, most
        return max(words, whole), most

    def _of(self, kept: Sequence[int], widths: Sequence[int]) -> Table:
        """A table of these columns."""
        shown = copy.copy(self)
        shown.columns = [
            dataclasses.replace(column, _index=place, width=width, no_wrap=column.overflow == "ellipsis")
            for place, (column, width) in enumerate(zip((self.columns[i] for i in kept), widths))
        ]
        return shown

    def _needs(self, kept: Sequence[int], widths: Sequence[int], console: Console) -> int:
        """How wide it is with what stands between its columns."""
        wide = console.options.update(width=10_000)
        return Table.__rich_measure__(self._of(kept, widths), console, wide).maximum


def new_table(
    title: str,
    columns: Sequence[str],
    numbers: bool = True,
    texts: Collection[str] = (),
    spare: Sequence[str] = (),
) -> Table:
    """A table whose first column is names, and whose others are right-aligned where they are numbers.

    texts: columns that may go on in a next line. spare: those that are left out first where there is no room."""
    table = FittingTable(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.spare = spare
    for i, column in enumerate(columns):
        table.add_column(
            column,
            justify="right" if numbers and i and column not in texts else "left",
            overflow="fold" if column in texts else "crop" if i or not numbers else "ellipsis",
        )
    return table
