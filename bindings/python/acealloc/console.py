"""What all screens of `ace` are made of: where they go, tables, bars, and sizes and times for people."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Sequence

from rich import box
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text


def print_out(content: RenderableType) -> None:
    """To standard output; piped into a file it is as wide as it needs, not 80 columns."""
    _console(sys.stdout).print(content)


def print_error(content: RenderableType) -> None:
    """To standard error, so that a program's own output stays clean. Where that is full nothing is said: the exit
    status must stay the program's."""
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


def new_table(title: str, columns: Sequence[str], numbers: bool = True) -> Table:
    """A table whose first column is text and whose others are right-aligned where they are numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if numbers and i else "left", overflow="fold")
    return table
