"""The decision log of modes observe and learn (option `log`): read, replayed, added up.

Each line is what a loop saw and what it decided. A replay gives what was seen to a loop of the same code: it must
decide the same, byte for byte.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from ._core import Learner, Loop

VERSION = 2
_SEEN = ("t", "occasion", "slack", "whole", "live", "taken", "reused_at", "quiet", "quiet_at")
# Numbers that are read of an interval, beside its context.
_DECIDED = {"closed": ("chosen", "defer", "cost", "prior", "least"), "opened": ("chosen",)}


class NoLog(ValueError):
    """The file is no decision log that can be read; the text says why."""


@dataclass
class ContextSum:
    """What the closed intervals of one context cost, in nanoseconds of processor time."""

    intervals: int = 0
    cost: int = 0
    prior: int = 0
    least: int = 0
    choices: Dict[Tuple[int, bool], int] = field(default_factory=dict)  # (expert, whether it could be deferred)


@dataclass
class HeapLog:
    """One heap's lines. differs: the first line number at which a replay decided otherwise. warm: it began with a
    playbook. whole: it is replayed; no loop is that began before the log, or in another process before a fork."""

    pid: int
    id: int
    name: str
    prices: Dict[str, int]
    steps: List[Dict[str, Any]] = field(default_factory=list)
    differs: Optional[int] = None
    warm: bool = False
    whole: bool = True

    def learner(self) -> Learner:
        """One that has learned nothing, for these prices of ordinary memory."""
        return Learner(**{name: price for name, price in self.prices.items() if name != "whole_ns"})

    def contexts(self) -> Dict[str, ContextSum]:
        sums: Dict[str, ContextSum] = {}
        for step in self.steps:
            if closed := step.get("closed"):
                one = sums.setdefault(closed["context"], ContextSum())
                one.intervals += 1
                for name in ("cost", "prior", "least"):
                    setattr(one, name, getattr(one, name) + closed[name])
                choice = (closed["chosen"], bool(closed["defer"]))
                one.choices[choice] = one.choices.get(choice, 0) + 1
        return sums

    def changes(self) -> List[Tuple[Dict[str, Any], int]]:
        """The steps at which a context's choice became another, with the choice before."""
        last: Dict[str, int] = {}
        found = []
        for step in self.steps:
            if opened := step.get("opened"):
                before = last.get(opened["context"])
                if before is not None and before != opened["chosen"]:
                    found.append((step, before))
                last[opened["context"]] = opened["chosen"]
        return found


@dataclass
class Log:
    heaps: List[HeapLog]
    lines: int
    damaged: List[int]  # line numbers


def read(path: Path) -> Log:
    """Reads and replays a log. Lines that are damaged, as the last of a killed process may be, are listed and left out.
    NoLog where the file is none; OSError as usual."""
    reader = _Reader(path)
    number = 0
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, 1):
            try:
                reader.take(number, line)
            except NoLog:
                raise
            except (LookupError, TypeError, ValueError, OverflowError, RecursionError):
                if number == 1:
                    raise NoLog("%s is no decision log: its first line is none of ACE's" % path) from None
                reader.damaged.append(number)
    if number == 0:
        raise NoLog("%s is empty: no loop has decided anything" % path)
    return Log(reader.heaps, number, reader.damaged)


def is_log(start: bytes) -> bool:
    """Does a decision log begin so?"""
    try:
        return "ace_log" in json.loads(start.splitlines()[0])
    except (ValueError, TypeError, IndexError, RecursionError):
        return False


class _Reader:
    """Takes the lines of a log. A process's header begins anew: the same number may be another process's later."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.headers: Dict[int, Dict[str, Any]] = {}
        self.open: Dict[Tuple[int, int], Tuple[HeapLog, Loop]] = {}
        self.heaps: List[HeapLog] = []
        self.damaged: List[int] = []

    def take(self, number: int, line: str) -> None:
        record = json.loads(line)
        if "ace_log" in record:
            self.header(record)
        elif "playbook" in record:
            self.start(record)
        else:
            self.step(number, line, record)

    def header(self, record: Dict[str, Any]) -> None:
        if record["ace_log"] != VERSION:
            raise NoLog("%s is a decision log of version %s; this is made for %d" % (
                self.path, record["ace_log"], VERSION))  # fmt: skip
        self.headers[record["pid"]] = record
        for key in [key for key in self.open if key[0] == record["pid"]]:
            del self.open[key]

    def start(self, record: Dict[str, Any]) -> None:
        _require(isinstance(record["pid"], int) and isinstance(record["id"], int) and isinstance(record["heap"], str))
        prices = _prices(record)
        loop = Loop(**prices)
        heap = HeapLog(record["pid"], record["id"], record["heap"], prices)
        if record["playbook"]:
            loop.load_playbook(record["playbook"], self.headers[record["pid"]]["page"])
            heap.warm = True
        self.open[record["pid"], record["id"]] = heap, loop
        self.heaps.append(heap)

    def step(self, number: int, line: str, record: Dict[str, Any]) -> None:
        key = record["pid"], record["id"]
        if key not in self.open:
            self.go_on(key, record["heap"])
        heap, loop = self.open[key]
        for part, names in _DECIDED.items():
            if part in record:
                _require(isinstance(record[part]["context"], str))
                _require(all(isinstance(record[part][name], int) for name in names))
                heap.learner().delay(record[part]["chosen"])  # which fails where there is no such expert
        any_bytes = heap.name.encode(errors="surrogateescape")
        again = loop.step(pid=key[0], id=key[1], heap=any_bytes, defer=bool(record["defer"]),
                          short=bool(record["short"]), **{name: record[name] for name in _SEEN})  # fmt: skip
        if heap.whole and again != line and heap.differs is None:
            heap.differs = number
        heap.steps.append(record)

    def go_on(self, key: Tuple[int, int], name: str) -> None:
        """A loop that was there before the log, or that a fork brought into this process: what it had learned by then
        is not in the log."""
        header = self.headers[key[0]]
        _require(isinstance(key[1], int) and key[1] < header["first_id"] and isinstance(name, str))
        heap = HeapLog(*key, name, _prices(header), whole=False)
        self.open[key] = heap, Loop(**heap.prices)
        self.heaps.append(heap)


def _prices(record: Dict[str, Any]) -> Dict[str, int]:
    return {name: record[name] for name in ("release_ns", "refault_ns", "byte_seconds", "whole_ns")}


def _require(holds: bool) -> None:
    if not holds:
        raise ValueError("the line is damaged")
