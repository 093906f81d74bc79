"""`ace top`: a live view of running processes' heaps."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import sys
import termios
import time
import tty
from typing import Callable, Iterator, List

from rich.console import Group, RenderableType
from rich.live import Live

from ..console import print_out, warning
from ..errors import Failure
from ..render_watched import process_list, process_view
from ..watched import CannotWatch, WatchedProcess, watch_each, watchable
from .stats import NOBODY, add_pids, ask


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "top",
        help="watch the heaps of running processes",
        allow_abbrev=False,
        description="Shows the heaps of the processes PID, or a list of all that were started with option stats_page, "
        "again and again. q ends it.",
    )
    add_pids(parser)
    parser.add_argument("--interval", type=seconds, default=1.0, metavar="SECONDS", help="between two looks (1)")
    parser.add_argument("--once", action="store_true", help="look once and end, as where the output is no terminal, "
                        "or a dumb one")  # fmt: skip
    parser.set_defaults(main=main)


def seconds(text: str) -> float:
    value = float(text)
    if not 0.05 <= value <= 3600:
        raise argparse.ArgumentTypeError("%s is not between 0.05 and 3600 seconds" % text)
    return value


def main(arguments: argparse.Namespace) -> int:
    pids: List[int] = arguments.pids
    if pids:
        ask(pids)  # fails where one cannot be watched from the beginning
    if arguments.once or not sys.stdout.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
        if not pids and not watchable():
            raise Failure(NOBODY)
        print_out(frame(pids))
        return 0
    with contextlib.suppress(KeyboardInterrupt), _keyboard() as key_within:
        with Live(frame(pids), screen=True, auto_refresh=False) as live:
            while key_within(arguments.interval) not in (b"q", b"Q"):
                live.update(frame(pids), refresh=True)
    return 0


def frame(pids: List[int]) -> RenderableType:
    found = watch_each(pids or watchable())
    problems = [warning(str(one)) for one in found if isinstance(one, CannotWatch)]
    processes = [one for one in found if isinstance(one, WatchedProcess)]
    if pids:
        return Group(*map(process_view, processes), *problems)
    if not found:
        return warning(NOBODY)
    return Group(*([process_list(processes)] if processes else []), *problems)


def _sleep(wait: float) -> bytes:
    time.sleep(wait)
    return b""


@contextlib.contextmanager
def _keyboard() -> Iterator[Callable[[float], bytes]]:
    """Gives a function that waits for a key, for so many seconds at most."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield _sleep
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield lambda wait: os.read(terminal, 1) if select.select([terminal], [], [], wait)[0] else b""
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)

