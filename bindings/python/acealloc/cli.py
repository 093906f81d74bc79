"""The command `ace`: verbs, and errors as exit statuses."""

from __future__ import annotations

import argparse
import codecs
import os
import signal
import sys
from types import FrameType
from typing import List, Optional, Tuple, Union

from . import __version__, abi_version
from .console import forget_output
from .errors import Failure
from .verbs import ablate, doctor, explain, options, record, replay, report, run, simulate, stats, sweep, top


def main(argv: Optional[List[str]] = None) -> int:
    """Runs one verb and returns the exit status: 2 for a wrong command line, else the verb's own."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it is closed: what is said there goes nowhere
            setattr(sys, name, open(os.devnull, "w"))
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
        wrong = next((word for word in unknown if word.startswith("-")), None)
        if wrong is None:
            chosen.error("'%s' is one argument too many" % unknown[0])
        names = [action.option_strings[0] for action in chosen._actions if action.option_strings]
        chosen.error("there is no option %s; there are %s" % (wrong, ", ".join(names)))
    if hasattr(sys.stdout, "reconfigure"):
        # Names of files and programs may be any bytes, and standard output of any encoding. Standard error writes what
        # it cannot encode by its number.
        codecs.register_error("ace", as_far_as_possible)
        sys.stdout.reconfigure(errors="ace")
    if arguments.verb not in ("run", "record"):  # which hand signals on to the program
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # nohup has it ignored
                signal.signal(number, end_by)
    try:
        status = int(arguments.main(arguments))
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
        forget_output(sys.stdout)
        return 1
    except KeyboardInterrupt:
        return 130


def as_far_as_possible(error: UnicodeError) -> Tuple[Union[str, bytes], int]:
    """Writes bytes that are no text as they are, and by its number what the encoding does not have."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


def end_by(number: int, frame: Optional[FrameType]) -> None:
    """Ends as after an error, so that temporary folders and children go as well."""
    raise SystemExit(128 + number)


def complain(text: str) -> None:
    """A line on standard error."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        forget_output(sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
