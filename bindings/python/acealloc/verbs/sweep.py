"""`ace sweep`: a search for options that suit a program."""

from __future__ import annotations

import argparse

from ..console import print_error, print_out, progress_bar, warning
from ..render_experiments import opened, swept
from ..searching import parse_space, sweep
from .shared import add_comparing, check


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "sweep",
        help="search for the options that suit a recorded run",
        allow_abbrev=False,
        description="Replays recorded runs with options that Optuna chooses, for less time and less memory, beside the "
        "default; begins with those that one would set by hand. What is done is in the storage: an interrupted search "
        "goes on, and several processes may work on one at once.",
    )
    add_comparing(parser, 1, "replays of each (%(default)s)", "all trials")
    parser.add_argument("--trials", type=int, default=40, metavar="N", help="of the whole study (%(default)s)")
    parser.add_argument("--option", metavar="NAME=A,B|NAME=LOW..HIGH", action="append", default=[],
                        help="search this option, and no other than those given (mode, memory_price, idle_delay, "
                        "huge_pages)")  # fmt: skip
    parser.add_argument("--storage", metavar="URL", default="sqlite:///ace-sweep.db", help="(%(default)s); "
                        "postgresql://USER@HOST/DATABASE for several machines")  # fmt: skip
    parser.add_argument("--study", metavar="NAME", default="ace", help="of the study in the storage (%(default)s)")
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    check(arguments)
    space = parse_space(arguments.option)
    try:
        with progress_bar("sweep") as progress:
            done = sweep(
                list(map(opened, arguments.traces)), trials=arguments.trials, space=space, storage=arguments.storage,
                name=arguments.study, rounds=arguments.rounds, fast=not arguments.wait, core=arguments.core,
                progress=progress,
            )  # fmt: skip
    except KeyboardInterrupt:
        print_error(warning("interrupted: the same command goes on where this one was (%s, --study %s)"
                            % (arguments.storage, arguments.study)))  # fmt: skip
        return 130
    print_out(swept(done))
    if arguments.csv:
        done.write_csv(arguments.csv)
    return 0
