"""What replays have measured: single runs, and what those of each allocator come to."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, fields
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from .errors import Failure
from .packages import need
from .trace import Trace


@dataclass(frozen=True)
class Run:
    """One replay on one allocator.

    seconds: processor time, touching the memory included. samples: (seconds of the trace, resident bytes, live bytes).
    latency: per call (alloc, free, realloc) how often each number of nanoseconds was seen; a run that has it is slower
    and its `seconds` do not count. pages: before and after the collection that freed most, how full each resident page
    was (0 to 255), in the order of addresses. placement: equal where all blocks were put into the same places.
    start_bytes: what the replay's process had before anything was replayed, the allocator's library in it. log: the
    decisions of ACE's loop, as `ace explain` reads them, of a run with latencies.
    """

    allocator: str
    round: int
    seconds: float
    faults: int
    trace_seconds: float
    samples: List[Tuple[float, int, int]]
    latency: Dict[str, Dict[int, int]]
    pages: Dict[str, bytes]
    placement: str
    start_bytes: int
    log: str = ""

    @property
    def peak_bytes(self) -> int:
        """The most that was resident."""
        return max(resident for _, resident, _ in self.samples)

    @property
    def peak_live_bytes(self) -> int:
        """The most that was live, as asked for."""
        return max(live for _, _, live in self.samples)

    @property
    def byte_seconds(self) -> float:
        """Resident bytes times seconds of the trace."""
        return self._integral(lambda resident, live: resident)

    @property
    def excess_byte_seconds(self) -> float:
        """The same of what was resident and not live."""
        return self._integral(lambda resident, live: max(resident - live, 0))

    def _integral(self, value: Callable[[int, int], int]) -> float:
        return sum(
            value(resident, live) * (after - at)
            for (at, resident, live), (after, _, _) in zip(self.samples, self.samples[1:])
        )

    @classmethod
    def read(cls, allocator: str, number: int, data: Dict[str, Any]) -> "Run":
        """From what the replayer wrote."""
        return cls(
            allocator, number, data["processor_seconds"], data["faults"], data["trace_seconds"],
            [(at / 1e6, resident, live) for at, resident, live in data["samples"]],
            {call: dict(map(tuple, counts)) for call, counts in data.get("latency", {}).items()},
            {moment: bytes.fromhex(text) for moment, text in data.get("pages", {}).items()},
            data["placement"], data["start_bytes"], data.get("log", ""),
        )  # fmt: skip


@dataclass(frozen=True)
class Summary:
    """What the runs of one allocator come to: medians over the rounds; the latency from its run of detail, in ns."""

    allocator: str
    rounds: int
    seconds: float
    fastest: float
    slowest: float
    peak_bytes: int
    mean_resident_bytes: float
    mean_excess_bytes: float
    faults: int
    p50: Optional[int]
    p99: Optional[int]
    p999: Optional[int]


class Replay:
    """What was measured: `runs`, of `names` in the order asked for, of the `trace`."""

    def __init__(self, trace: Trace, names: Sequence[str], runs: Sequence[Run]) -> None:
        self.trace, self.names, self.runs = trace, list(names), list(runs)

    def timed(self, name: str) -> List[Run]:
        """The runs whose time counts."""
        return [run for run in self.runs if run.allocator == name and not run.latency]

    def detail(self, name: str) -> Optional[Run]:
        """The run with latencies and pages, if there was one."""
        return next((run for run in self.runs if run.allocator == name and run.latency), None)

    def summaries(self) -> List[Summary]:
        """A line for each allocator that has run, in order."""
        return [self._summary(name) for name in self.names if self.timed(name)]

    def _summary(self, name: str) -> Summary:
        runs, detail = self.timed(name), self.detail(name)
        seconds = [run.seconds for run in runs]
        span = max(runs[0].trace_seconds, 1e-6)
        quantiles: List[Optional[int]] = [None] * 3
        if detail is not None:
            quantiles = [quantile(detail.latency["alloc"], q) for q in (0.5, 0.99, 0.999)]
        return Summary(
            name, len(runs), statistics.median(seconds), min(seconds), max(seconds),
            int(statistics.median(run.peak_bytes for run in runs)),
            statistics.median(run.byte_seconds for run in runs) / span,
            statistics.median(run.excess_byte_seconds for run in runs) / span,
            int(statistics.median(run.faults for run in runs)), *quantiles,
        )  # fmt: skip

    def predict(self, seconds: float, peak_bytes: int, of: str = "own") -> Dict[str, Tuple[float, int]]:
        """What the program itself would take on each allocator: (processor seconds, peak of resident bytes).

        seconds, peak_bytes: what it took on allocator `of`, one of `names`. The rest of the program is taken to be the
        same on all of them, so that only what the replays differ by is added.
        """
        summaries = {summary.allocator: summary for summary in self.summaries()}
        if of not in summaries:
            raise Failure("nothing was replayed on '%s', which the live run used" % of)
        base = summaries[of]
        return {
            name: (
                seconds + one.seconds - base.seconds,
                peak_bytes + one.peak_bytes - base.peak_bytes + self._library_bytes(name) - self._library_bytes(of),
            )
            for name, one in summaries.items()
        }

    def _library_bytes(self, name: str) -> int:
        """What an allocator that is a library brings along before it allocates. A VM has its own in itself."""
        starts = {run.allocator: run.start_bytes for run in self.runs}
        return 0 if name == "own" else starts[name] - min(starts.values())

    def frame(self) -> Any:
        """The summaries as a pandas.DataFrame, a line for each allocator."""
        columns = [field.name for field in fields(Summary)]
        pandas = need("pandas", "frames need")
        return pandas.DataFrame([vars(one) for one in self.summaries()], columns=columns).set_index("allocator")

    def samples_frame(self) -> Any:
        """All samples as a pandas.DataFrame: allocator, round, seconds, resident_bytes, live_bytes."""
        rows = [(run.allocator, run.round, *sample) for run in self.runs for sample in run.samples]
        pandas = need("pandas", "frames need")
        return pandas.DataFrame(rows, columns=["allocator", "round", "seconds", "resident_bytes", "live_bytes"])


def quantile(counts: Mapping[int, int], q: float) -> Optional[int]:
    """The value that a share `q` of all counted values do not exceed, by HdrHistogram; None where there are none."""
    if not counts:
        return None
    histogram = histogram_of(counts)
    return int(histogram.get_value_at_percentile(q * 100))


def histogram_of(counts: Mapping[int, int]) -> Any:
    """An hdrh.histogram.HdrHistogram of nanoseconds, with three digits."""
    histogram = need("hdrh.histogram", "latencies need").HdrHistogram(1, 60_000_000_000, 3)
    for value, count in counts.items():
        histogram.record_value(max(value, 1), count)
    return histogram
