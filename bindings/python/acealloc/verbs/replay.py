"""`ace replay`: a recorded run on ACE and on other allocators."""

from __future__ import annotations

import argparse
import math
from typing import List, Optional, Tuple

from ..console import print_out
from ..errors import Failure
from ..render_experiments import opened, replayed
from .shared import add_replaying, check, names_of, replay_as_asked


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "replay",
        help="run a recorded program's allocations again, on ACE and on other allocators",
        allow_abbrev=False,
        description="Replays what `ace record` has written, in processes of their own: on ACE with its defaults, with "
        "the options of each --policy, and on the allocators of --against; and shows the time, the memory over time "
        "and how long single calls took.",
    )
    add_replaying(parser, 1, "own", "own (what the VM has by itself); none; glibc, mimalloc, jemalloc, tcmalloc, "
                  "NAME=PATH of a library, each of these also with -hinted (%(default)s)")  # fmt: skip
    parser.add_argument("--no-detail", action="store_true", help="leave out the runs that take latencies and pages")
    parser.add_argument("--live", metavar="SECONDS,MB", help="what the program itself took on the first of --against: "
                        "processor seconds and resident MB at the peak; shows what the others would take")  # fmt: skip
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    check(arguments)
    others = names_of(arguments.against)
    live = _live(arguments.live, others)
    result, status = replay_as_asked(arguments, opened(arguments.trace), others, not arguments.no_detail)
    has_run = [one.allocator for one in result.summaries()]
    predicted = result.predict(live[0], live[1], others[0]) if live and others[0] in has_run else None
    if has_run:
        print_out(replayed(result, predicted))
    return status


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
        said = "--live %s: it must be SECONDS,MB, above 0, of the first allocator of --against" % text
        raise Failure(said, 2) from None
