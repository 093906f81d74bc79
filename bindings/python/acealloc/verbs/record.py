"""`ace record`: runs a program on ACE and keeps what it asked for."""

from __future__ import annotations

import argparse
import contextlib
import glob
import gzip
import os
import re
import tempfile
import zlib
from typing import Callable, Iterator, List, Optional

from .. import preload, program, supervise
from ..console import print_error, warning
from ..errors import Failure
from ..render_experiments import recording
from ..tables import require_place
from ..trace import Trace, pack
from .run import command_of, run_child

MAGIC = b"ACEtrace"  # src/trace/format.h
FURTHER = re.compile(r"\.(\d+)(\.\d+)?")  # .PID, and .PID.2 of a process that became another program
USAGE = "ace record [-o FILE] [--malloc] [--] COMMAND ..."


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "record",
        help="record what a program asks of its allocator",
        usage=USAGE,
        allow_abbrev=False,
        description="Runs COMMAND on ACE and writes each allocation, free, resizing and hint of a CPython or Lua to "
        "FILE, with times and threads, in some four bytes an event. Further processes get files of their own, "
        "FILE.PID; a process that becomes another program FILE.PID.2.",
    )
    parser.add_argument("-o", "--output", metavar="FILE", default="run.ace", help="where to (%(default)s); FILE.gz "
                        "is compressed when the program has ended")  # fmt: skip
    parser.add_argument("--malloc", action="store_true", help="record what any program asks of malloc instead "
                        "(docs/malloc.md)")  # fmt: skip
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="the program and its arguments")
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    command = command_of(arguments, USAGE)
    require_place(arguments.output)
    final = os.path.abspath(arguments.output)
    output = preload.option_path(unpacked_name(final))
    packs = output != final
    if packs and os.path.lexists(output):
        raise Failure("%s is there, which %s would be compressed from: give another name by -o, or move it"
                      % (output, final))  # fmt: skip
    path = program.find(command[0])
    library = preload.library()
    found = program.inspect(path)
    if found.obstacle:
        raise Failure("%s cannot be recorded: %s" % (found.executable, found.obstacle))
    if os.path.lexists(final) and not (os.path.isfile(final) and is_trace(final)):
        raise Failure("%s is there, and is no trace: give another name by -o, or delete it" % final)
    # One of the two: both would write to one file, and a VM's heaps are not malloc's.
    first = preload.malloc_library(library) if arguments.malloc else library
    environment = preload.environment(first, {"ACE_RECORD": output}, os.environ)
    former = [file for file in (packed_files_of if packs else files_of)(output) if is_former(file, final)]
    with put_aside(former) as replace:
        kept = files_of(output)
        status = run_child(path, command, environment)
        written = [file for file in files_of(output) if file not in kept and os.path.getsize(file) and is_trace(file)]
        if not written:
            what = "nothing called malloc" if arguments.malloc else "no CPython or Lua was entered (see `ace doctor`)"
            still = "; kept: " + ", ".join(former) if former else ""
            print_error(warning("nothing was recorded: %s%s" % (what, still)))
        whole = bool(written)
        for file in written:
            try:
                print_error(recording(Trace(pack(file) if packs else file)))
            except Failure as failure:  # the program's status is still its own
                print_error(warning(str(failure)))
                whole = False
        if whole and former:
            replace()
            print_error(warning("replaced: " + ", ".join(former)))
    return supervise.end_as(status)


@contextlib.contextmanager
def put_aside(files: List[str]) -> Iterator[Callable[[], None]]:
    """Has the files out of the way, in a folder beside them, and puts them back; yields what deletes them instead. What
    the program itself has put in the place of one stays, with that one beside it."""
    if not files:
        yield lambda: None
        return
    with tempfile.TemporaryDirectory(prefix=".ace-record-", dir=os.path.dirname(files[0])) as folder:
        moved = {file: os.path.join(folder, os.path.basename(file)) for file in files}
        try:
            for file, aside in moved.items():
                os.rename(file, aside)
            yield moved.clear
        finally:
            for file, aside in moved.items():
                if not os.path.exists(aside):
                    continue
                if os.path.lexists(file) and not is_trace(file):
                    file += ".former"
                    print_error(warning("the former recording is kept as %s" % file))
                os.replace(aside, file)


def files_of(output: str) -> List[str]:
    """The file, and those of further processes."""
    further = [name for name in glob.glob(glob.escape(output) + ".*") if FURTHER.fullmatch(name[len(output) :])]
    return [name for name in [output, *sorted(further)] if os.path.isfile(name)]


def packed_files_of(output: str) -> List[str]:
    """The same, compressed."""
    further = [name for name in glob.glob(glob.escape(output) + ".*.gz") if FURTHER.fullmatch(name[len(output) : -3])]
    return [name for name in [output + ".gz", *sorted(further)] if os.path.isfile(name)]


def is_trace(file: str) -> bool:
    """Is it a trace, or the beginning of one, compressed or not? Other people's files are left alone."""
    start = beginning(file, len(MAGIC))
    return start is not None and start in (MAGIC, b"")


def is_former(file: str, final: str) -> bool:
    """Was it made by a recording into `final`? A further process's file is named by the number in its header; another
    trace may be called alike by chance, as run.1 beside run."""
    if file == final:
        return True
    number = FURTHER.match(unpacked_name(file), len(unpacked_name(final)))
    start = beginning(file, 1 << 14)
    return bool(number and start and start[: len(MAGIC)] == MAGIC and b',"pid":%s,' % number[1].encode() in start)


def unpacked_name(file: str) -> str:
    return file[: -len(".gz")] if file.endswith(".gz") else file


def beginning(file: str, size: int) -> Optional[bytes]:
    """The first bytes, unpacked where it is compressed; None where it cannot be read."""
    try:
        with open(file, "rb") as plain:
            start = plain.read(size)
        if start[:2] == b"\x1f\x8b":
            with gzip.open(file) as packed:
                start = packed.read(size)
    except (OSError, EOFError, zlib.error):
        return None
    return start
