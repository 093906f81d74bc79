"""Replays a recorded run on ACE under any options and on other allocators, and measures each.

    result = acealloc.replay("run.ace", ["own", "mimalloc", acealloc.Policy("static", mode="static")])
    print(result.frame())
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from .allocators import Policy, Target, target_of
from .errors import Failure
from .tables import AnyPath
from .trace import Trace

Progress = Callable[[float, str], None]


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


class Interrupted(KeyboardInterrupt):
    """An interrupt during a replay. `result`: the Replay with the runs that were done by then."""

    def __init__(self, result: "Replay") -> None:
        super().__init__()
        self.result = result


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
        return _pandas().DataFrame([vars(summary) for summary in self.summaries()]).set_index("allocator")

    def samples_frame(self) -> Any:
        """All samples as a pandas.DataFrame: allocator, round, seconds, resident_bytes, live_bytes."""
        rows = [(run.allocator, run.round, *sample) for run in self.runs for sample in run.samples]
        return _pandas().DataFrame(rows, columns=["allocator", "round", "seconds", "resident_bytes", "live_bytes"])


def quantile(counts: Mapping[int, int], q: float) -> Optional[int]:
    """The value that a share `q` of all counted values do not exceed, by HdrHistogram; None where there are none."""
    if not counts:
        return None
    histogram = histogram_of(counts)
    return int(histogram.get_value_at_percentile(q * 100))


def histogram_of(counts: Mapping[int, int]) -> Any:
    """An hdrh.histogram.HdrHistogram of nanoseconds, with three digits."""
    try:
        from hdrh.histogram import HdrHistogram
    except ImportError:
        raise Failure("latencies need hdrhistogram: pip install 'hdrhistogram>=0.10'") from None
    histogram = HdrHistogram(1, 60_000_000_000, 3)
    for value, count in counts.items():
        histogram.record_value(max(value, 1), count)
    return histogram


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise Failure("frames need pandas: pip install 'pandas>=1.3'") from None
    return pandas


# ---- replaying


def replay(
    trace: Union[AnyPath, Trace],
    allocators: Sequence[Union[str, Policy]] = ("own", "ace"),
    *,
    rounds: int = 1,
    detail: bool = True,
    fast: bool = False,
    core: Optional[int] = None,
    keep: Optional[AnyPath] = None,
    progress: Optional[Progress] = None,
) -> Replay:
    """Replays `trace` on each allocator, in processes of their own, one after the other.

    allocators: names (`own`, what the VM has by itself; `ace`; `glibc`, `mimalloc`, `jemalloc`, `tcmalloc`, and these
    with "-hinted": told to give memory back when ACE would be; `none`, what the replay itself takes; NAME=PATH of a
    library with a malloc) or policies. rounds: runs of each, interleaved (A B B A). detail: one run more of each, with
    the latency of each call and the pages before and after a collection. fast: does not wait where the program did;
    ACE's clock is then that of the trace, its worker does its work between steps, and blocks are put into the same
    places in every replay. core: which processor. keep: a folder for results, where those that are there already (of
    the same trace, allocator and way) are not run again. progress: called with a share from 0 to 1 and what is done
    now.

    All events are replayed by one thread, in the order of their times. Failure where an allocator is not to be had. A
    KeyboardInterrupt holds what was done by then (`result`).
    """
    require_core(core)
    if rounds < 1 or not allocators:
        raise Failure("a replay needs an allocator, and a round or more")
    recorded = trace if isinstance(trace, Trace) else Trace(trace)
    recorded.require_events()
    targets = [target_of(one, recorded) for one in allocators]
    names = [target.name for target in targets]
    if len(set(names)) != len(names):
        raise Failure("two allocators are called the same: %s" % ", ".join(names))
    plan_of_runs = list(_turns(targets, rounds, detail))
    store = _Store(keep, recorded, {"fast": fast, "core": core})
    runs: List[Run] = []
    try:
        with tempfile.TemporaryDirectory(prefix="ace-replay-") as folder:
            plan = os.path.join(folder, "plan")
            waiting = [turn for turn in plan_of_runs if not store.has(*turn[:2])]
            if waiting:
                _execute([_replayer(), "plan", recorded.plain_path, plan], {}, None)
            for done, (target, number) in enumerate(plan_of_runs):

                def tell(share: float, done: int = done, target: Target = target) -> None:
                    if progress is not None:
                        progress((done + share) / len(plan_of_runs), target.name)

                tell(0)
                if not store.has(target, number):
                    result = os.path.join(folder, "result.json")
                    extra = ["latency", "pages"] if number == 0 else ["placement"] if fast and number == 1 else []
                    words = ["run", plan, result, *target.words, *(["fast"] if fast else []), *extra, "progress"]
                    log = os.path.join(folder, "log")
                    _start(target, words, {"ACE_LOG": log} if number == 0 else {}, core, tell)
                    store.put(target, number, result, log)
                runs.append(Run.read(target.name, number, store.get(target, number)))
    except KeyboardInterrupt:
        raise Interrupted(Replay(recorded, names, runs)) from None
    if progress is not None:
        progress(1, "")
    return Replay(recorded, names, runs)


def require_core(core: Optional[int]) -> None:
    """Failure where there is no such processor."""
    count = os.cpu_count() or 1
    if core is not None and not 0 <= core < count:
        raise Failure("there is no processor %d; the first is 0, the last %d" % (core, count - 1))


def _turns(targets: Sequence[Target], rounds: int, detail: bool) -> Iterator[Tuple[Target, int]]:
    """(allocator, round) in the order of running; round 0 is that of detail."""
    for number in range(1, rounds + 1):
        for target in targets if number % 2 else reversed(targets):
            yield target, number
    if detail:
        for target in targets:
            yield target, 0


class _Store:
    """What was measured already: a file for each run, in a folder that may be kept."""

    def __init__(self, keep: Optional[AnyPath], trace: Trace, how: Mapping[str, Any]) -> None:
        self._how = how
        self._temporary = tempfile.TemporaryDirectory(prefix="ace-replay-") if keep is None else None
        self.folder = Path(self._temporary.name if keep is None else keep)  # type: ignore[union-attr]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.trace = {"bytes": trace.totals["bytes"], "events": trace.totals["events"], **trace.header}

    def _path(self, target: Target, number: int) -> Path:
        return self.folder / ("%s.%d.json" % (re.sub("[^A-Za-z0-9._+=,-]", "_", target.name), number))

    def _conditions(self, target: Target) -> Dict[str, Any]:
        """Under which it is measured, beside the trace: as JSON has it."""
        parts = {"replayer": target.replayer or _replayer(), "python": target.python, "preload": target.preload}
        files = {}
        for path in [*parts.values(), *target.words]:
            if os.path.isfile(path):
                found = os.stat(path)
                files[path] = [found.st_size, found.st_mtime_ns]
        return {**self._how, **parts, "files": files, "words": list(target.words),
                "environment": dict(target.environment)}  # fmt: skip

    def has(self, target: Target, number: int) -> bool:
        path = self._path(target, number)
        if not path.exists():
            return False
        try:
            found = json.loads(path.read_text())
            Run.read(target.name, number, found)
            trace, conditions = found["trace"], found["conditions"]
        except (ValueError, KeyError, TypeError):  # damaged: it is run again
            return False
        if trace != json.loads(json.dumps(self.trace)):
            raise Failure("%s is of another trace: name another folder" % path)
        return bool(conditions == self._conditions(target))

    def put(self, target: Target, number: int, result: str, log: str) -> None:
        data = json.loads(Path(result).read_text())
        if os.path.exists(log):
            data["log"] = Path(log).read_text()
            os.unlink(log)
        data.update(trace=self.trace, conditions=self._conditions(target))
        path = self._path(target, number)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(data))
        new.rename(path)

    def get(self, target: Target, number: int) -> Dict[str, Any]:
        data: Dict[str, Any] = json.loads(self._path(target, number).read_text())
        return data


# ---- the replayer's process


def _replayer() -> str:
    return str(Path(__file__).parent / "ace-replay")


def _start(
    target: Target,
    words: List[str],
    more: Mapping[str, str],
    core: Optional[int],
    tell: Callable[[float], None],
) -> None:
    command = [target.replayer or _replayer(), *words]
    if target.python:
        # pymalloc is in the interpreter: there the replayer is a library.
        code = (
            "import ctypes, sys; a = [x.encode() for x in sys.argv]; "
            "sys.exit(ctypes.PyDLL(sys.argv[0]).ace_replay_main(len(a), (ctypes.c_char_p * len(a))(*a)))"
        )
        library = str(Path(__file__).parent / "libace-replay.so")
        command = [target.python, "-I", "-S", "-c", "import sys; del sys.argv[0]; " + code, library, *words]
    preload = {"LD_PRELOAD": target.preload} if target.preload else {}
    _execute(command, {**more, **target.environment, **preload}, core, tell)


def _execute(
    command: List[str],
    environment: Mapping[str, str],
    core: Optional[int],
    tell: Optional[Callable[[float], None]] = None,
) -> None:
    """Runs the replayer; Failure with what it said where it fails."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ACE_", "PYTHON", "LD_PRELOAD", "MALLOC_"))}
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    process = subprocess.Popen(
        command, env={**clean, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if tell is not None and line.startswith("progress "):
                tell(int(line.split()[1]) / 100)
        said = process.stderr.read().strip()
        if process.wait() != 0:
            raise Failure("the replay ended with status %d: %s" % (process.returncode, said or "it said nothing"))
        if "cannot be preloaded" in said:  # the loader goes on without it
            raise Failure(said)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
