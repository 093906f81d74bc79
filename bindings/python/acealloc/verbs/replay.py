"""`ace replay`: a recorded run on ACE and on other allocators."""

from __future__ import annotations

import argparse
import math
from typing import List, Optional, Tuple, Union

from ..allocators import Policy
from ..console import print_out, progress_bar
from ..errors import Failure
from ..render_experiments import opened, replayed
from ..replaying import replay


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "replay",
        help="run a recorded program's allocations again, on ACE and on other allocators",
        allow_abbrev=False,
        description="Replays what `ace record` has written, in processes of their own: on ACE with its defaults, with "
        "the options of each --policy, and on the allocators of --against; and shows the time, the memory over time "
        "and how long single calls took.",
    )
    parser.add_argument("trace", metavar="FILE", help="what `ace record` has written")
    parser.add_argument(
        "--against", metavar="A,B", default="own", help="own (what the VM has by itself); none; glibc, mimalloc, "
        "jemalloc, tcmalloc, NAME=PATH of a library, each of these also with -hinted (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--policy", metavar="[NAME:]OPTION=VALUE,...", action="append", default=[], help="ACE with these options; may "
        "be given several times",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="runs of each, interleaved (%(default)s)")
    parser.add_argument("--fast", action="store_true", help="do not wait where the program waited; the same placement "
                        "in every replay")  # fmt: skip
    parser.add_argument("--no-detail", action="store_true", help="leave out the runs that take latencies and pages")
    parser.add_argument("--core", type=int, metavar="N", help="which processor (any)")
    parser.add_argument("--keep", metavar="DIR", help="keep the results there; what is there is not run again")
    parser.add_argument("--live", metavar="SECONDS,MB", help="what the program itself took on the first of --against: "
                        "processor seconds and resident MB at the peak; shows what the others would take")  # fmt: skip
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    if arguments.rounds < 1:
        raise Failure("--rounds must be at least 1")
    trace = opened(arguments.trace)
    others = [name for name in arguments.against.split(",") if name]
    live = _live(arguments.live, others)
    allocators: List[Union[str, Policy]] = [*others, "ace", *map(Policy.parse, arguments.policy)]
    with progress_bar("replay") as progress:
        result = replay(
            trace, allocators, rounds=arguments.rounds, detail=not arguments.no_detail, fast=arguments.fast,
            core=arguments.core, keep=arguments.keep, progress=progress,
        )  # fmt: skip
    predicted = result.predict(live[0], live[1], others[0]) if live else None
    print_out(replayed(result, predicted))
    return 0


def _live(text: Optional[str], others: List[str]) -> Optional[Tuple[float, int]]:
    if text is None:
        return None
    seconds, comma, megabytes = text.partition(",")
    try:
        took = float(seconds), float(megabytes) * 1e6
        if not comma or not others or not all(0 < value < math.inf for value in took):
            raise ValueError
        return took[0], int(took[1])
    except ValueError:
        raise Failure("--live %s: it must be SECONDS,MB, above 0, of the first allocator of --against" % text) from None
