"""Traces of idle intervals, made by chance from a seed.

An interval is memory that fell free, for how long it stayed so, and how much of it was needed then. Lengths are in
break-even times: after one of them, holding has cost as much as giving back and taking again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Callable, Dict, List, Sequence, Tuple

MIB = 1 << 20


@dataclass(frozen=True)
class Interval:
    """slack and live: bytes when it begins. length: in break-even times. reused: the bytes that were needed at its end.
    phase: which rhythm it belongs to, for what is said of convergence."""

    length: float
    slack: int = 64 * MIB
    live: int = 16 * MIB
    reused: int = 64 * MIB
    occasion: str = "full"
    phase: int = 0


PERIODS = (0.1, 1, 10, 30, 100)

Trace = Sequence[Interval]


def stationary(rng: random.Random, count: int, mean: float) -> List[Interval]:
    """Lengths that an exponential distribution gives."""
    return [Interval(rng.expovariate(1 / mean)) for _ in range(count)]


def two_kinds(rng: random.Random, count: int, short: float = 0.05, long: float = 8.0) -> List[Interval]:
    """Half are short and half are long, in no order: nothing can be learned but how many there are of each."""
    return [Interval(rng.expovariate(1 / rng.choice((short, long)))) for _ in range(count)]


SHORT, LONG = (0.3, 0.7), (1.2, 1.8)


def switching(
    rng: random.Random, count: int, period: float, rhythms: Sequence[Tuple[float, float]] = (SHORT, LONG)
) -> List[Interval]:
    """Rhythms in turn, each for `period` break-even times, and for one interval at least; in each, lengths are drawn
    evenly from its range."""
    trace: List[Interval] = []
    phase, left = 0, period
    while len(trace) < count:
        length = rng.uniform(*rhythms[phase % len(rhythms)])
        trace.append(Interval(length, phase=phase))
        left -= length
        if left <= 0:
            phase, left = phase + 1, period
    return trace


def drift(rng: random.Random, count: int, first: float = 0.05, last: float = 20.0) -> List[Interval]:
    """Lengths that grow slowly."""
    growth = (last / first) ** (1 / count)
    return [Interval(rng.expovariate(1 / (first * growth**i))) for i in range(count)]


def with_hints(trace: Trace, name: Callable[[Interval], str]) -> List[Interval]:
    """The same trace with other occasions."""
    return [Interval(i.length, i.slack, i.live, i.reused, name(i), i.phase) for i in trace]


def standard_traces(count: int, seed: int = 1) -> Dict[str, List[Interval]]:
    """The traces of the table, each of `count` intervals."""
    traces = {"stationary, mean %g" % mean: stationary(random.Random(seed), count, mean) for mean in (0.1, 1.0, 10.0)}
    traces["two kinds, mixed"] = two_kinds(random.Random(seed), count)
    for period in PERIODS:
        traces["switching, period %g" % period] = switching(random.Random(seed), count, period)
    for period in PERIODS:
        rhythms = (SHORT, (3.0, 7.0))
        traces["switching, long rests, period %g" % period] = switching(random.Random(seed), count, period, rhythms)
    traces["drift"] = drift(random.Random(seed), count)
    rests = two_kinds(random.Random(seed), count)
    coin = random.Random(seed + 1)
    traces["hints that say it"] = with_hints(rests, lambda i: "idle" if i.length > 1 else "partial")
    traces["random hints"] = with_hints(rests, lambda i: coin.choice(("idle", "partial")))
    traces["inverted hints"] = with_hints(rests, lambda i: "partial" if i.length > 1 else "idle")
    return traces
