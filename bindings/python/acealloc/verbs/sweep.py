"""`ace sweep`: a search for options that suit a program."""

from __future__ import annotations

import argparse

from ..console import print_error, print_out, progress_bar, warning
from ..errors import Failure
from ..render_experiments import opened, swept
from ..searching import parse_space, sweep
from ..tables import require_place


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "sweep",
        help="search for the options that suit a recorded run",
        allow_abbrev=False,
        description="Replays recorded runs with options that Optuna chooses, for less time and less memory, beside the "
        "default; begins with those that one would set by hand. What is done is in the storage: an interrupted search "
        "goes on, and several processes may work on one at once.",
    )
    parser.add_argument("traces", metavar="FILE", nargs="+", help="what `ace record` has written")
    parser.add_argument("--trials", type=int, default=40, metavar="N", help="of the whole study (%(default)s)")
    parser.add_argument("--option", metavar="NAME=A,B|NAME=LOW..HIGH", action="append", default=[],
                        help="search this option, and no other than those given (mode, memory_price, idle_delay, "
                        "huge_pages)")  # fmt: skip
    parser.add_argument("--storage", metavar="URL", default="sqlite:///ace-sweep.db", help="(%(default)s); "
                        "postgresql://USER@HOST/DATABASE for several machines")  # fmt: skip
    parser.add_argument("--study", metavar="NAME", default="ace", help="of the study in the storage (%(default)s)")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="replays of each (%(default)s)")
    parser.add_argument("--wait", action="store_true", help="wait where the program waited, by the real clock")
    parser.add_argument("--core", type=int, metavar="N", help="which processor (any)")
    parser.add_argument("--csv", metavar="FILE", help="write all trials there")
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    if arguments.trials < 1 or arguments.rounds < 1:
        raise Failure("--trials and --rounds must be at least 1", 2)
    if arguments.csv:
        require_place(arguments.csv)
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
