"""Recorded runs under a policy and under the default, replayed in turn: what searches and ablations judge by."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Callable, List, Optional, Sequence, Union

from .allocators import Policy
from .measured import Replay, Run
from .replaying import Progress, replay
from .tables import AnyPath
from .trace import Trace

DEFAULT = "default"


def opened(traces: Sequence[Union[AnyPath, Trace]]) -> List[Trace]:
    """Failure where one holds nothing to replay."""
    recorded = [trace if isinstance(trace, Trace) else Trace(trace) for trace in traces]
    for trace in recorded:
        trace.require_events()
    return recorded


@dataclass(frozen=True)
class Compared:
    """One allocator beside the default, as ratios: medians over the rounds; least and most of the times."""

    name: str
    seconds: float
    least: float
    most: float
    peak: float
    mean: float
    faults: float


def compare(
    trace: Trace,
    policies: Sequence[Policy],
    rounds: int,
    fast: bool,
    core: Optional[int] = None,
    progress: Optional[Progress] = None,
) -> List[Compared]:
    """Replays each policy and the default, in turn."""
    result = replay(trace, [Policy(DEFAULT), *policies], rounds=rounds, detail=False, fast=fast, core=core,
                    progress=progress)  # fmt: skip
    return [_compared(result, policy.name) for policy in policies]


def _compared(result: Replay, name: str) -> Compared:
    pairs = list(zip(result.timed(name), result.timed(DEFAULT)))

    def ratios(value: Callable[[Run], float]) -> List[float]:
        return [max(value(one), 1e-9) / max(value(base), 1e-9) for one, base in pairs]  # nothing is as much as nothing

    seconds = ratios(lambda run: run.seconds)
    medians = [statistics.median(ratios(value)) for value in (
        lambda run: float(run.peak_bytes), lambda run: run.byte_seconds, lambda run: float(run.faults))]  # fmt: skip
    return Compared(name, statistics.median(seconds), min(seconds), max(seconds), *medians)


def mean_ratio(ratios: Sequence[float]) -> float:
    """The geometric mean."""
    return math.exp(sum(math.log(max(ratio, 1e-9)) for ratio in ratios) / len(ratios))
