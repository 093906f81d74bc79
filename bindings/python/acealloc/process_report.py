"""What processes say of themselves, at their ends (ACE_REPORT) or when they are asked: JSON lines, made typed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Optional

from ._core import stats_fields


@dataclass(frozen=True)
class Host:
    """A VM that the preloaded library met, or a program with heaps of ACE. reason: why it is not active, where it is
    not. command, and ace, the release: of a process that was asked."""

    pid: int
    name: str
    version: str
    active: bool
    reason: str
    command: List[str] = field(default_factory=list)
    ace: str = ""

    @property
    def title(self) -> str:
        """The name with the version, which some names hold already: cpython 3.11.2, lua5.4."""
        return self.name if self.name.endswith(self.version) else "%s %s" % (self.name, self.version)


@dataclass(frozen=True)
class Heap:
    """A heap. stats has the shape of acealloc.Heap.stats(), and `decisions` where its loop made some; audit is "ok",
    what broke, or "not audited"."""

    pid: int
    name: str
    audit: str
    stats: Dict[str, Any]


@dataclass
class Report:
    """All that a run's processes wrote. damaged: lines that are none of ours."""

    hosts: List[Host] = field(default_factory=list)
    heaps: List[Heap] = field(default_factory=list)
    damaged: int = 0

    @property
    def processes(self) -> int:
        return len({host.pid for host in self.hosts} | {heap.pid for heap in self.heaps})

    def total(self, name: str) -> int:
        """The sum of a field of the statistics over all heaps."""
        return sum(heap.stats.get(name, 0) for heap in self.heaps)

    def largest(self) -> List[Heap]:
        """The heaps, by the most memory that they ever held."""
        return sorted(self.heaps, key=lambda heap: heap.stats.get("peak_resident_bytes", 0), reverse=True)


def read(path: str, offset: int = 0) -> Report:
    """Reads the lines after byte `offset`; a file that nobody wrote is an empty report."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return parse(file.read().splitlines())
    except FileNotFoundError:
        return Report()


def is_report(start: bytes) -> bool:
    """Is one of these lines of ours? Others may write to the same file."""
    return any(_parsed(line) is not None for line in start.splitlines())


def parse(lines: Iterable[bytes]) -> Report:
    report = Report()
    for line in lines:
        entry = _parsed(line)
        if entry is None:
            report.damaged += 1
        elif "host" in entry:
            report.hosts.append(
                Host(
                    entry["pid"],
                    entry["host"],
                    str(entry.get("version", "")),
                    bool(entry.get("active")),
                    str(entry.get("reason") or ""),
                    entry.get("command", []),
                    str(entry.get("ace", "")),
                )
            )
        else:
            audit = str(entry.pop("audit", "not audited"))
            report.heaps.append(Heap(entry.pop("pid"), entry.pop("name"), audit, entry))
    return report


def _parsed(line: bytes) -> Optional[Dict[str, Any]]:
    """None where it is no line of ours: others may write to the same file."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("pid"), int):
        return None
    if "host" in entry:
        command = entry.get("command", [])
        is_ours = isinstance(entry["host"], str) and isinstance(command, list) and _are(str, command)
    else:
        numbers = (entry.get(name, 0) for name, *_ in stats_fields())
        phases, kinds = entry.get("phases", {}), entry.get("kinds", [])
        is_ours = (
            isinstance(entry.get("name"), str)
            and _are(int, numbers)
            and _are(dict, (phases, entry.get("decisions", {})))
            and isinstance(kinds, list)
            and _are(dict, (*phases.values(), *kinds))
        )
    return entry if is_ours else None


def _are(kind: type, values: Iterable[Any]) -> bool:
    return all(isinstance(value, kind) for value in values)
