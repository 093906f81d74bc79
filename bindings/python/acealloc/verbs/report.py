"""`ace report`: a page that shows how a recorded run does on ACE and elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import List, Union

from ..allocators import Policy, usual
from ..console import print_error, print_out, progress_bar, warning
from ..errors import Failure
from ..page import Page, is_page, make_folder
from ..render_experiments import opened, replayed
from ..replaying import replay
from ..tables import require_ours, require_place


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "report",
        help="a page with pictures of how a recorded run does on ACE and elsewhere",
        allow_abbrev=False,
        description="Replays what `ace record` has written on the allocators of --against and on ACE, and writes one "
        "HTML page that holds everything: who takes how much time and memory, and why.",
    )
    parser.add_argument("trace", metavar="FILE", help="what `ace record` has written")
    parser.add_argument("-o", "--output", metavar="PAGE", default="report.html", help="(%(default)s)")
    parser.add_argument("--against", metavar="A,B", help="as for `ace replay` (own, glibc, mimalloc and jemalloc, as "
                        "far as they are here)")  # fmt: skip
    parser.add_argument("--policy", metavar="[NAME:]OPTION=VALUE,...", action="append", default=[],
                        help="ACE with these options, too; may be given several times")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="(%(default)s)")
    parser.add_argument("--fast", action="store_true", help="do not wait where the program waited")
    parser.add_argument("--core", type=int, metavar="N", help="which processor (any)")
    parser.add_argument("--keep", metavar="DIR", help="keep the results there; what is there is not run again")
    parser.add_argument("--png", metavar="DIR", help="write the pictures there, too")
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    if arguments.rounds < 1:
        raise Failure("--rounds must be at least 1")
    output = Path(arguments.output)
    require_place(arguments.output)
    require_ours(arguments.output, "page of `ace report`", is_page)
    pictures = Path(arguments.png) if arguments.png else None
    if pictures is not None:
        make_folder(pictures)
    trace = opened(arguments.trace)
    if arguments.against is None:
        others, absent = usual(trace)
        for reason in absent:
            print_error(warning("left out: " + reason))
    else:
        others = [name for name in arguments.against.split(",") if name]
    allocators: List[Union[str, Policy]] = [*others, "ace", *map(Policy.parse, arguments.policy)]
    with progress_bar("replay") as progress:
        result = replay(trace, allocators, rounds=arguments.rounds, fast=arguments.fast, core=arguments.core,
                        keep=arguments.keep, progress=progress)  # fmt: skip
    print_out(replayed(result))
    Page(result).write(output, pictures)
    print_out("The page: %s" % output.absolute())
    return 0
