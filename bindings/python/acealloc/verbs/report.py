"""`ace report`: a page that shows how a recorded run does on ACE and elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..allocators import usual
from ..console import print_error, print_out, warning
from ..page import Page, is_page, make_folder
from ..page_pictures import pyplot
from ..render_experiments import opened, replayed
from ..tables import require_ours, require_place
from .shared import add_replaying, check, names_of, replay_as_asked


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "report",
        help="a page with pictures of how a recorded run does on ACE and elsewhere",
        allow_abbrev=False,
        description="Replays what `ace record` has written on the allocators of --against and on ACE, and writes one "
        "HTML page that holds everything: who takes how much time and memory, and why.",
    )
    add_replaying(parser, 3, None, "as for `ace replay` (own, glibc, mimalloc and jemalloc, as far as they are here)")
    parser.add_argument("-o", "--output", metavar="PAGE", default="report.html", help="(%(default)s)")
    parser.add_argument("--png", metavar="DIR", help="write the pictures there, too")
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    check(arguments)
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
        others = names_of(arguments.against)
    pyplot()  # Failure before anything is measured, where what draws it is not here
    result, status = replay_as_asked(arguments, trace, others)
    if result.summaries():
        print_out(replayed(result))
    if status == 0:
        Page(result).write(output, pictures)
        print_out("The page: %s" % output.absolute())
    return status
