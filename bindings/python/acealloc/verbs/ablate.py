"""`ace ablate`: what each feature of the seed paper gains or costs on recorded runs."""

from __future__ import annotations

import argparse
import dataclasses

from ..ablating import DECIDING, ablate
from ..console import print_error, print_out, progress_bar, warning
from ..render_experiments import ablated, opened
from ..tables import write_csv
from .shared import add_comparing, check


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "ablate",
        help="exchange one feature of ACE at a time and compare",
        allow_abbrev=False,
        description="Replays recorded runs with one feature of the seed paper exchanged at a time, in turn with the "
        "default, and says what each gains or costs in time and memory.",
    )
    rounds = "on each trace (%%(default)s); a time counts from %d comparisons on, of all traces together" % DECIDING
    add_comparing(parser, 6, rounds, "the table")
    parser.add_argument("--source", metavar="DIR", help="a checkout of ACE, in which the designs are built that no "
                        "option changes (takes minutes); left out without it")  # fmt: skip
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    check(arguments)
    traces = list(map(opened, arguments.traces))
    rows = []
    status = 0
    try:
        with progress_bar("ablate") as progress:
            for row in ablate(traces, source=arguments.source, rounds=arguments.rounds,
                                    fast=not arguments.wait, core=arguments.core, progress=progress):  # fmt: skip
                rows.append(row)
    except KeyboardInterrupt:
        print_error(warning("interrupted: what was measured by then follows"))
        status = 130
    print_out(ablated(rows, arguments.source is not None))
    if arguments.csv:
        write_csv(arguments.csv, list(map(dataclasses.asdict, rows)))
    return status
