"""Recorded runs: what `ace record` has written."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, List, NamedTuple, Union

from ._core import Hint, _Trace
from .errors import Failure


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
    reallocs, hints; `unknown`, frees of blocks that were not recorded; allocated, live (at the end) and peak bytes, as
    the program asked for them; microseconds; and `status`: whole, truncated (the process was killed, or still runs)
    or damaged, where only the first `bytes_read` bytes count. Failure where the file is no trace.
    """

    def __init__(self, path: Union[str, "os.PathLike[str]"]) -> None:
        self.path = os.fspath(path)
        try:
            self._trace = _Trace(self.path)
            self.header: Dict[str, Any] = json.loads(self._trace.header)
        except (OSError, ValueError) as error:
            raise Failure(str(error)) from None
        self.totals: Dict[str, Any] = self._trace.totals()

    def live(self) -> List[Moment]:
        """Live bytes over time: of each heap about a moment a millisecond, where anything was asked of it."""
        return [Moment(at / 1e6, heap, size) for at, heap, size in self._trace.live()]

    def hints(self) -> List[TracedHint]:
        """What the host told its heaps, in order."""
        return [TracedHint(at / 1e6, heap, Hint(code), value) for at, heap, code, value in self._trace.hints()]

    def __repr__(self) -> str:
        return "<Trace '%s': %s, %d events, %s>" % (
            self.path, self.header.get("host"), self.totals["events"], self.totals["status"],
        )  # fmt: skip
