"""`ace simulate`: the learner of mode `learn` against fixed delays and the offline optimum."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from rich.progress import track

from .. import options, simulate
from ..allocators import Policy
from ..console import print_out
from ..errors import Failure
from ..render_experiments import simulation
from ..tables import require_place, write_csv

OPTION = next(option for option in options() if option.name == "memory_price")
NAMED = {"full": "8g", "conservative": "128m"}  # as in src/wire/options.cpp
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "simulate",
        help="play traces of idle intervals to the code that mode learn decides by",
        allow_abbrev=False,
        description="Plays generated traces of idle intervals to the learner, to every fixed delay, and to one who "
        "knows the future, and compares what memory cost.",
    )
    parser.add_argument("--intervals", type=int, default=5000, metavar="N", help="of each trace (default: 5000)")
    parser.add_argument("--seed", type=int, default=1, help="of the traces (default: 1)")
    parser.add_argument("--memory-price", type=price, default=OPTION.default, metavar="BYTES",
                        help="as the option memory_price: so many bytes, held for a second, are worth a second of "
                        "processor time (%(default)s)")  # fmt: skip
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the figures there as well")
    parser.set_defaults(main=main)


def price(text: str) -> int:
    """An argparse type: what the option of that name takes, in bytes."""
    try:
        Policy("checked", memory_price=text)
    except Failure as failure:
        raise argparse.ArgumentTypeError(str(failure)) from None
    text = NAMED.get(text, text).lower()
    digits = text.rstrip("kmg")
    return int(digits) * UNITS[text[len(digits) :]]


def main(arguments: argparse.Namespace) -> int:
    if arguments.intervals < 100:
        raise Failure("--intervals %d: a trace needs at least 100" % arguments.intervals, 2)
    if arguments.csv:
        require_place(arguments.csv)
    traces = simulate.standard_traces(arguments.intervals, arguments.seed)
    outcomes = [simulate.measure(name, trace, byte_seconds=arguments.memory_price)
                for name, trace in track(traces.items(), "simulating", transient=True)]  # fmt: skip
    print_out(simulation(outcomes, simulate.targets(arguments.intervals, (arguments.seed,),
                                                    byte_seconds=arguments.memory_price)))  # fmt: skip
    if arguments.csv:
        write_csv(arguments.csv, list(map(dataclasses.asdict, outcomes)))
    return 0
