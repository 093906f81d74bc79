"""The heaps of watched processes as metrics, for Prometheus and all who read OpenMetrics."""

from __future__ import annotations

from collections import Counter
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Sequence, Tuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from . import phases, stats_fields
from .watched import WatchedProcess

# What rises and falls; all other fields only grow.
GAUGES = frozenset(
    "live_bytes live_blocks tiny_live_bytes tiny_live_blocks mid_live_bytes mid_live_blocks large_live_bytes "
    "large_live_blocks resident_bytes peak_resident_bytes metadata_bytes peak_metadata_bytes mapped_bytes "
    "superslabs_hot superslabs_draining superslabs_free slabs_in_use limit_bytes host_live_bytes".split()
)
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


class HeapCollector:
    """Asks `watched()` for the processes each time, and gives their metrics. Heaps of one name in a process, such as
    many Lua states, are one: their numbers are added up, and ace_heaps says how many they are."""

    def __init__(self, watched: Callable[[], Iterable[WatchedProcess]]) -> None:
        self._watched = watched

    def collect(self) -> Iterator[Metric]:
        processes = list(self._watched())
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
        yield _family("heaps", "count", "heaps of this name", True, LABELS, Counter(labels for labels, _ in heaps))
        for name, unit, description in stats_fields():
            if name != "phase":
                values = _sum((labels, stats.get(name, 0)) for labels, stats in heaps)
                yield _family(name, unit, description, name in GAUGES, LABELS, values)
        yield from _phases(heaps)
        for name, unit, description in PER_KIND:
            values = _sum(((*labels, str(kind)), row[name])
                          for labels, stats in heaps for kind, row in enumerate(stats.get("kinds", [])))  # fmt: skip
            yield _family("kind_" + name, unit, description, True, [*LABELS, "kind"], values)
        values = _sum((labels, stats.get("decisions", {}).get("count", 0)) for labels, stats in heaps)
        yield _family("decisions", "count", "decisions of mode learn or observe", False, LABELS, values)


def registry_of(watched: Callable[[], Iterable[WatchedProcess]]) -> CollectorRegistry:
    """For prometheus_client's ways to show it."""
    registry = CollectorRegistry()
    collector: Any = HeapCollector(watched)  # one by its method
    registry.register(collector)
    return registry


def _phases(heaps: Sequence[Tuple[Labels, Dict[str, Any]]]) -> Iterator[Metric]:
    labels_of_phase = [*LABELS, "phase"]
    present = _sum(((*labels, phase), int(i == stats.get("phase", 0)))
                   for labels, stats in heaps for i, phase in enumerate(phases()))  # fmt: skip
    yield _family("phase_heaps", "count", "heaps that are in the phase now", True, labels_of_phase, present)
    for name, unit, description in PER_PHASE:
        values = _sum(((*labels, phase), numbers[name])
                      for labels, stats in heaps for phase, numbers in stats.get("phases", {}).items())  # fmt: skip
        yield _family("phase_" + name, unit, description, False, labels_of_phase, values)


def _sum(numbers: Iterable[Tuple[Labels, int]]) -> Sums:
    sums: Dict[Labels, int] = {}
    for labels, number in numbers:
        sums[labels] = sums.get(labels, 0) + number
    return sums


def _family(name: str, unit: str, description: str, is_gauge: bool, labels: List[str], values: Sums) -> Metric:
    """A metric in the units that Prometheus asks for."""
    if unit == "ns":
        name, unit = name[: -len("ns")] + "seconds", "seconds"
    scale = 1e9 if unit == "seconds" else 1
    kind = GaugeMetricFamily if is_gauge else CounterMetricFamily
    family = kind("ace_" + name, description, labels=labels, unit="" if unit == "count" else unit)
    for key, value in values.items():
        family.add_metric(key, value / scale)
    return family


def _printable(text: str) -> str:
    """With a question mark for each byte that is no UTF-8."""
    return text.encode(errors="replace").decode()
