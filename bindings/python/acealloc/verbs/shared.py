"""What the verbs that replay have in common: arguments, what is checked of them, and what an interruption leaves."""

from __future__ import annotations

import argparse
from typing import List, Optional, Sequence, Tuple, Union

from ..allocators import Policy
from ..console import print_error, progress_bar, warning
from ..errors import Failure
from ..measured import Replay, histogram_of
from ..replaying import Interrupted, replay
from ..tables import require_place
from ..trace import Trace


def add_replaying(parser: argparse.ArgumentParser, rounds: int, against: Optional[str], others: str) -> None:
    """The arguments of verbs that replay a trace on allocators; replay_as_asked does what they say."""
    parser.add_argument("trace", metavar="FILE", help="what `ace record` has written")
    parser.add_argument("--against", metavar="A,B", default=against, help=others)
    parser.add_argument("--policy", metavar="[NAME:]OPTION=VALUE,...", action="append", default=[],
                        help="ACE with these options, too; may be given several times")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=rounds, metavar="N", help="runs of each, interleaved "
                        "(%(default)s)")  # fmt: skip
    parser.add_argument("--fast", action="store_true", help="do not wait where the program waited; the same placement "
                        "in every replay")  # fmt: skip
    _add_core(parser)
    parser.add_argument("--keep", metavar="DIR", help="keep the results there; what is there is not run again")


def add_comparing(parser: argparse.ArgumentParser, rounds: int, meant: str, rows: str) -> None:
    """The arguments of verbs that compare with the default on several traces."""
    parser.add_argument("traces", metavar="FILE", nargs="+", help="what `ace record` has written")
    parser.add_argument("--rounds", type=int, default=rounds, metavar="N", help=meant)
    parser.add_argument("--wait", action="store_true", help="wait where the program waited, by the real clock")
    _add_core(parser)
    parser.add_argument("--csv", metavar="FILE", help="write %s there" % rows)


def _add_core(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--core", type=int, metavar="N", help="which processor (any)")


def check(arguments: argparse.Namespace) -> None:
    """Failure where a number of rounds or trials is none, or a file cannot be written."""
    for name in ("rounds", "trials"):
        if getattr(arguments, name, 1) < 1:
            raise Failure("--%s must be at least 1" % name, 2)
    if getattr(arguments, "csv", None):
        require_place(arguments.csv)


def names_of(against: str) -> List[str]:
    return [name for name in against.split(",") if name]


def replay_as_asked(
    arguments: argparse.Namespace, trace: Trace, others: Sequence[str], detail: bool = True
) -> Tuple[Replay, int]:
    """The replay on `others`, on ACE and under the policies, and the exit status: 130 where it was interrupted, and
    holds what was measured by then."""
    if detail:
        histogram_of({})  # Failure before anything is measured, where what shows it is not here
    allocators: List[Union[str, Policy]] = [*others, "ace", *map(Policy.parse, arguments.policy)]
    try:
        with progress_bar("replay") as progress:
            return replay(trace, allocators, rounds=arguments.rounds, detail=detail, fast=arguments.fast,
                          core=arguments.core, keep=arguments.keep, progress=progress), 0  # fmt: skip
    except Interrupted as interruption:
        said = "nothing was measured by then"
        if interruption.result.summaries():
            said = "what was measured by then follows; with --keep DIR the same command would go on there"
            if arguments.keep:
                said = "what was measured by then follows, and is kept in %s for the same command" % arguments.keep
        print_error(warning("interrupted: " + said))
        return interruption.result, 130
