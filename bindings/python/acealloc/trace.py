"""Recorded runs: what `ace record` has written."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import tempfile
import zlib
from typing import Any, Dict, List, NamedTuple, Tuple

from ._core import Hint, _Trace
from .errors import Failure
from .tables import AnyPath

# docs/trace.md
HEADER: Dict[str, Tuple[type, ...]] = {
    "host": (str,), "pid": (int,), "page": (int,), "time": (int, float), "command": (list,)
}  # fmt: skip


class Moment(NamedTuple):
    """How much of a heap was live at a time."""

    seconds: float
    heap: int
    live_bytes: int


class TracedHint(NamedTuple):
    """What the host told a heap."""

    seconds: float
    heap: int
    hint: Hint
    value: int


class Trace:
    """A recorded run.

    `header` says what was recorded (host, pid, page, time, command), `totals` how much: events, allocations, frees,
    reallocs, hints; `file_bytes`, what the file takes; `unknown`, frees of blocks that were not recorded; allocated,
    live (at the end) and peak bytes, as the program asked for them; microseconds; and `status`: whole, truncated (the
    process was killed, or still runs) or damaged, where only the first `bytes_read` bytes count. The file may have been
    compressed by gzip: `plain_path` is then a copy that is not, as long as this lives. Failure where it is no trace.
    """

    def __init__(self, path: AnyPath) -> None:
        self.path = self.plain_path = os.fspath(path)
        self._is_damaged = False  # as a compressed file
        if os.path.exists(self.path) and not os.path.isfile(self.path):
            raise Failure("%s is no file" % self.path)
        try:
            if _is_packed(self.path):
                self.plain_path = self._unpacked()
            self._trace = _Trace(os.fsencode(self.plain_path))
            self.header = _header(self._trace)
        except (OSError, ValueError) as error:
            raise Failure(_told(error, self.path)) from None
        self.totals: Dict[str, Any] = self._trace.totals()
        self.totals["file_bytes"] = os.path.getsize(self.path)
        if self._is_damaged:
            self.totals["status"] = "damaged"

    def _unpacked(self) -> str:
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="ace-trace-")
            plain = os.path.join(self._folder.name, "run.ace")
            with gzip.open(self.path, "rb") as packed, open(plain, "wb") as file:
                # Of a part what there is counts: the trace then ends without saying so.
                try:
                    shutil.copyfileobj(packed, file, 1 << 16)
                except EOFError:
                    pass
                except (zlib.error, gzip.BadGzipFile):
                    self._is_damaged = True
        except OSError as error:
            place = tempfile.gettempdir()
            raise Failure("%s cannot be unpacked into %s: %s" % (self.path, place, error.strerror)) from None
        return plain

    def live(self) -> List[Moment]:
        """Live bytes over time: of each heap about a moment a millisecond, where anything was asked of it."""
        return [Moment(at / 1e6, heap, size) for at, heap, size in self._trace.live()]

    def require_events(self) -> None:
        """Failure where there is nothing to replay."""
        if self.totals["events"] == 0:
            raise Failure("%s holds no events (it is %s): record it anew" % (self.path, self.totals["status"]))

    def hints(self) -> List[TracedHint]:
        """What the host told its heaps, in order; without what only a later version knows."""
        known = {int(hint) for hint in Hint}
        return [TracedHint(at / 1e6, heap, Hint(code), value)
                for at, heap, code, value in self._trace.hints() if code in known]  # fmt: skip

    def __repr__(self) -> str:
        return "<Trace '%s': %s, %d events, %s>" % (
            self.path, self.header.get("host"), self.totals["events"], self.totals["status"],
        )  # fmt: skip


def _header(trace: _Trace) -> Dict[str, Any]:
    """ValueError where it is not what a recorder writes."""
    try:
        header = json.loads(trace.header)
    except (ValueError, RecursionError):
        header = None
    if (
        not isinstance(header, dict)
        or not all(isinstance(header.get(name), kind) for name, kind in HEADER.items())
        or not all(isinstance(word, str) for word in header["command"])
    ):
        raise ValueError("its header is damaged: no host, pid, page, time and command")
    return header


def _told(error: Exception, path: str) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no trace %s" % path
    if isinstance(error, OSError) and error.strerror:
        return "%s cannot be read: %s" % (path, error.strerror)
    return "%s: %s" % (path, error)


def _is_packed(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"\x1f\x8b"
    except OSError:
        return False


def pack(path: str) -> str:
    """Compresses a trace by gzip and returns the new path. The old file goes when the new one is there; where that
    cannot be written, Failure, and the old file is kept."""
    packed = path + ".gz"
    new = packed + ".new"
    try:
        with open(path, "rb") as file, gzip.open(new, "wb", compresslevel=1) as out:
            shutil.copyfileobj(file, out, 1 << 20)
        os.rename(new, packed)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise Failure("%s cannot be compressed: %s; %s is kept" % (packed, error.strerror, path)) from None
    except KeyboardInterrupt:
        os.unlink(new)
        raise
    os.unlink(path)
    return packed
