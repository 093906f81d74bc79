"""What the learner costs on a trace, beside every fixed delay and the least that one could pay who knew the future."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Dict, List, Tuple

from .._core import EXPERTS, Learner
from .policies import Elo, Fixed, Learned, cost, least, play
from .traces import Interval, Trace

# The fixed delays that the learner is measured against: the best of them in hindsight, for each trace.
GRID = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0, math.inf)


@dataclass
class Outcome:
    """Costs in nanoseconds. changes: how often the learner's choice was another than the one before in all."""

    trace: str
    intervals: int
    learned: int
    best_fixed: int
    best_delay: float
    offline: int
    shuffled: int
    elo: int
    choices: int
    changes: int
    tail_regret: float
    head_regret: float

    @property
    def to_best(self) -> float:
        return self.learned / self.best_fixed

    @property
    def to_offline(self) -> float:
        return self.learned / self.offline

    @property
    def room(self) -> float:
        """What the offline optimum leaves of the best fixed delay."""
        return self.offline / self.best_fixed


def measure(name: str, trace: Trace, seed: int = 0, **prices: int) -> Outcome:
    """The learner and every fixed delay on one trace."""
    book = Learner(**prices)
    policy = Learned(Learner(**prices))
    learned = play(book, trace, policy)
    fixed = {delay: sum(play(book, trace, Fixed(book, delay))) for delay in GRID}
    best = min(fixed, key=lambda delay: fixed[delay])
    costs_of_best = play(book, trace, Fixed(book, best))
    rewards = list(trace)
    random.Random(seed).shuffle(rewards)
    shuffled = play(book, trace, Learned(Learner(**prices), iter(rewards)))
    tenth = max(len(trace) // 10, 1)

    def regret(part: slice) -> float:
        return (sum(learned[part]) - sum(costs_of_best[part])) / max(len(learned[part]), 1)

    return Outcome(
        trace=name, intervals=len(trace), learned=sum(learned), best_fixed=fixed[best], best_delay=best,
        offline=sum(least(book, interval) for interval in trace), shuffled=sum(shuffled),
        elo=sum(play(book, trace, Elo(book, seed))),
        choices=len(set(policy.choices)),
        changes=sum(a != b for a, b in zip(policy.choices, policy.choices[1:])),
        head_regret=regret(slice(0, tenth)), tail_regret=regret(slice(len(trace) - tenth, None)),
    )  # fmt: skip


def settled_after(trace: Trace, **prices: int) -> List[int]:
    """For each change of rhythm: after how many intervals the learner's choice is the last one of its rhythm that
    costs least there, within a tenth."""
    book, policy = Learner(**prices), Learned(Learner(**prices))
    by_phase: Dict[int, List[Tuple[Interval, float]]] = {}
    for interval in trace:
        by_phase.setdefault(interval.phase, []).append((interval, policy.decide(interval)))
        policy.learn(interval)
    counts = []
    for phase, steps in by_phase.items():
        if phase == 0 or len(steps) < 12:
            continue
        intervals = [interval for interval, _ in steps]
        expected = {
            held: sum(cost(book, interval, held) for interval in intervals)
            for held in {book.delay(i) / book.break_even for i in range(EXPERTS)}
        }
        good = 1.1 * min(expected.values())
        counts.append(next((i for i, (_, held) in enumerate(steps) if expected[held] <= good), len(steps)))
    return counts
