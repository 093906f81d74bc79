"""Tables as files, and where files can be written."""

from __future__ import annotations

import csv
import os
from typing import Any, Callable, Mapping, Sequence, Union

from .errors import Failure

AnyPath = Union[str, "os.PathLike[str]"]


def require_place(path: AnyPath) -> None:
    """Failure where no file can be written there: to be asked before something is measured for it."""
    name = os.fspath(path)
    if not name:
        raise Failure("a file needs a name")
    if os.path.isdir(name) or name.endswith("/"):
        raise Failure("%s is a folder: name a file in it" % name)
    folder = os.path.dirname(os.path.abspath(name))
    if not os.path.isdir(folder):
        raise Failure("there is no folder %s" % folder)
    written = name if os.path.exists(name) else folder
    if not os.access(written, os.W_OK):
        raise Failure("%s cannot be written to" % written)


def require_ours(path: AnyPath, what: str, is_ours: Callable[[bytes], bool]) -> None:
    """Failure where a file is there that begins with something else, so that nobody's file is written to."""
    name = os.fspath(path)
    if not os.path.isfile(name):
        return
    try:
        with open(name, "rb") as file:
            start = file.read(1 << 20)
    except OSError as error:
        raise Failure("%s cannot be read: %s" % (name, error.strerror)) from None
    if start and not is_ours(start):
        raise Failure("%s is there, and is no %s: give another name, or delete it" % (name, what))


def write_csv(path: AnyPath, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes the rows under the names of all their columns, in the order of their appearance. Failure where the file
    cannot be written."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    try:
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise Failure("%s cannot be written: %s" % (os.fspath(path), error.strerror)) from None
