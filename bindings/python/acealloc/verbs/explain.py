"""`ace explain`: what a decision log says."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import decisions
from ..errors import Failure
from ..render import explanation, print_out


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "explain",
        help="say what mode learn decided, on what evidence, and what that gained",
        allow_abbrev=False,
        description="Reads a decision log, which a run in mode learn or observe writes with --log FILE, replays it, "
        "and shows for each heap what was learned and what it gained or cost. Exit status 1 where a replay decides "
        "otherwise than the log says.",
    )
    parser.add_argument("log", metavar="LOG", type=Path, help="the file that the option log named")
    parser.add_argument("--steps", type=int, default=12, metavar="N", help="show the last N changes of mind (12)")
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    try:
        log = decisions.read(arguments.log)
    except FileNotFoundError:
        raise Failure("there is no log %s" % arguments.log) from None
    except OSError as error:
        raise Failure("%s cannot be read: %s" % (arguments.log, error.strerror)) from None
    except decisions.NoLog as error:
        raise Failure(str(error)) from error
    print_out(explanation(log, arguments.steps))
    return 1 if any(heap.differs for heap in log.heaps) else 0
