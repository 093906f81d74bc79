"""The command `ace`: verbs, and errors as exit statuses."""

from __future__ import annotations

import argparse
import os
import sys
from typing import List, Optional

from . import __version__, abi_version
from .errors import Failure
from .render import forget_output
from .verbs import ablate, doctor, explain, options, record, replay, report, run, simulate, stats, sweep, top


def main(argv: Optional[List[str]] = None) -> int:
    """Runs one verb and returns the exit status: 2 for a wrong command line, else the verb's own."""
    parser = argparse.ArgumentParser(
        prog="ace", description="Runs stock CPython, LuaJIT and Lua programs on the ACE allocator.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version="ace %s (ABI %d)" % (__version__, abi_version()))
    verbs = parser.add_subparsers(metavar="VERB", dest="verb", required=True)
    for verb in (run, top, stats, record, replay, report, sweep, ablate, explain, simulate, doctor, options):
        verb.add_to(verbs)
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        chosen = verbs.choices[arguments.verb]
        names = [action.option_strings[0] for action in chosen._actions if action.option_strings]
        chosen.error("there is no option %s; there are %s" % (unknown[0], ", ".join(names)))
    if hasattr(sys.stdout, "reconfigure"):
        # Names of files and programs may be any bytes. Standard error writes what it cannot encode by its number.
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        status = int(arguments.main(arguments))
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except Failure as failure:
        complain("ace %s: %s" % (arguments.verb, failure))
        return failure.status
    except BrokenPipeError:  # who read our output has left
        forget_output(sys.stdout)
        return 1
    except OSError as error:
        where = "" if error.filename is None else "%s: " % error.filename
        complain("ace %s: %s%s" % (arguments.verb, where, error.strerror))
        if sys.stdout is not None:
            forget_output(sys.stdout)
        return 1
    except KeyboardInterrupt:
        return 130


def complain(text: str) -> None:
    """A line on standard error, where that is open."""
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        forget_output(sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
