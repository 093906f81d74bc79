"""The heaps of watched processes as metrics, for Prometheus and all who read OpenMetrics."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Sequence, Set, Tuple, Type, Union

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from . import phases, stats_fields
from .watched import WatchedProcess, birth_of

LABELS = ["pid", "host", "heap"]
PER_PHASE = (
    ("entries", "count", "times that the phase began"),
    ("ns", "ns", "time in the phase, once it has ended"),
    ("faulted_bytes", "bytes", "pages taken into use in the phase"),
    ("returned_bytes", "bytes", "pages given back inside superslabs in the phase"),
)
PER_KIND = (
    ("live_bytes", "bytes", "bytes in live blocks of the kind"),
    ("live_blocks", "count", "live blocks of the kind"),
)

Labels = Tuple[str, ...]
Sums = Mapping[Labels, int]


@dataclass
class _Count:
    """seen: the sum when it was asked for last; ended: what it has fallen by in all, since heaps ended."""

    seen: int = 0
    ended: int = 0


class HeapCollector:
    """Asks `watched()` for the processes each time, and gives their metrics. Heaps of one name in a process, such as
    many Lua states, are one: their numbers are added up, and ace_heaps says how many they are. A counter never falls
    while its process lives: what a heap had counted when it was last seen stays in it. Of a process that has not
    answered, or had no room for all heaps, it is not known which have ended."""

    def __init__(self, watched: Callable[[], Iterable[WatchedProcess]]) -> None:
        self._watched = watched
        self._lock = threading.Lock()  # a server of metrics answers from several threads
        self._births: Dict[str, int] = {}  # by pid
        self._told_all: Set[str] = set()  # the processes that this time told of all their heaps
        self._counts: Dict[str, Dict[Labels, _Count]] = {}  # by metric

    def collect(self) -> List[Metric]:
        with self._lock:
            return list(self._metrics())

    def _metrics(self) -> Iterator[Metric]:
        processes = list(self._watched())
        self._forget_the_dead({str(process.pid): process.birth for process in processes})
        self._told_all = {str(process.pid) for process in processes if not process.left_out}
        info = InfoMetricFamily("ace_process", "a process with heaps of ACE", labels=["pid", "host"])
        start = GaugeMetricFamily("ace_process_start_time", "when it began, in seconds since 1970",
                                  labels=["pid", "host"], unit="seconds")  # fmt: skip
        for process in processes:
            labels = [str(process.pid), _printable(process.host)]
            info.add_metric(labels, {"command": _printable(" ".join(process.command)), "version": process.ace})
            start.add_metric(labels, process.started)
        yield from (info, start)
        heaps = [((str(process.pid), _printable(process.host), _printable(heap.name)), heap.stats)
                 for process in processes for heap in process.heaps()]  # fmt: skip
        yield _family("heaps", "count", "heaps of this name", LABELS, Counter(labels for labels, _ in heaps))
        for name, kind, unit, description in stats_fields():
            if name != "phase":
                values = _sum((labels, stats.get(name, 0)) for labels, stats in heaps)
                family = _family if kind == "gauge" else self._counter
                yield family(name, unit, description, LABELS, values)
        yield from self._phases(heaps)
        for name, unit, description in PER_KIND:
            values = _sum(((*labels, str(kind)), row[name])
                          for labels, stats in heaps for kind, row in enumerate(stats.get("kinds", [])))  # fmt: skip
            yield _family("kind_" + name, unit, description, [*LABELS, "kind"], values)
        values = _sum((labels, stats.get("decisions", {}).get("count", 0)) for labels, stats in heaps)
        yield self._counter("decisions", "count", "decisions of mode learn or observe", LABELS, values)

    def _phases(self, heaps: Sequence[Tuple[Labels, Dict[str, Any]]]) -> Iterator[Metric]:
        labels_of_phase = [*LABELS, "phase"]
        present = _sum(((*labels, phase), int(i == stats.get("phase", 0)))
                       for labels, stats in heaps for i, phase in enumerate(phases()))  # fmt: skip
        yield _family("phase_heaps", "count", "heaps that are in the phase now", labels_of_phase, present)
        for name, unit, description in PER_PHASE:
            values = _sum(((*labels, phase), numbers[name])
                          for labels, stats in heaps for phase, numbers in stats.get("phases", {}).items())  # fmt: skip
            yield self._counter("phase_" + name, unit, description, labels_of_phase, values)

    def _counter(self, name: str, unit: str, description: str, labels: List[str], values: Sums) -> Metric:
        counts = self._counts.setdefault(name, {})
        for key in values:
            counts.setdefault(key, _Count())
        for key, count in counts.items():
            value = values.get(key, 0)
            if value > count.seen or key[0] in self._told_all:
                count.ended += max(count.seen - value, 0)
                count.seen = value
        whole = {key: count.seen + count.ended for key, count in counts.items()}
        return _family(name, unit, description, labels, whole, CounterMetricFamily)

    def _forget_the_dead(self, births: Dict[str, int]) -> None:
        """Where a process has ended, and maybe another has its number, its counts go. One that has not answered this
        time is still there."""
        living = {pid: birth for pid, birth in self._births.items() if birth_of(int(pid)) == birth}
        for name, counts in self._counts.items():
            self._counts[name] = {key: count for key, count in counts.items() if key[0] in living}
        self._births = {**living, **births}


def registry_of(watched: Callable[[], Iterable[WatchedProcess]]) -> CollectorRegistry:
    """For prometheus_client's ways to show it."""
    registry = CollectorRegistry()
    collector: Any = HeapCollector(watched)  # one by its method
    registry.register(collector)
    return registry


def _sum(numbers: Iterable[Tuple[Labels, int]]) -> Sums:
    sums: Dict[Labels, int] = {}
    for labels, number in numbers:
        sums[labels] = sums.get(labels, 0) + number
    return sums


def _family(name: str, unit: str, description: str, labels: List[str], values: Sums,
            kind: Type[Union[GaugeMetricFamily, CounterMetricFamily]] = GaugeMetricFamily) -> Metric:  # fmt: skip
    """A metric in the units that Prometheus asks for."""
    if unit == "ns":
        name, unit = name[: -len("ns")] + "seconds", "seconds"
    scale = 1e9 if unit == "seconds" else 1
    family = kind("ace_" + name, description, labels=labels, unit="" if unit == "count" else unit)
    for key, value in values.items():
        family.add_metric(key, value / scale)
    return family


def _printable(text: str) -> str:
    """With a question mark for each byte that is no UTF-8."""
    return text.encode(errors="replace").decode()
