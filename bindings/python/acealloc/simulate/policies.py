"""Who decides how long memory that fell free is held, and what that costs: fixed delays, the learner of mode `learn`,
the seed paper's ratings. Costs are the library's own, in nanoseconds of processor time.
"""

from __future__ import annotations

import math
import random
from typing import Iterable, Iterator, List, Optional, Union

from .._core import EXPERTS, Learner
from .traces import Interval


class Fixed:
    """Always the same delay, in break-even times."""

    def __init__(self, learner: Learner, delay: float) -> None:
        self.unit, self.held = learner.break_even, delay

    def decide(self, interval: Interval) -> float:
        return self.held

    def learn(self, interval: Interval) -> None:
        pass


class Learned:
    """The learner. `rewards`: what it is told instead of what happened."""

    def __init__(self, learner: Learner, rewards: Optional[Iterator[Interval]] = None) -> None:
        self.learner, self.rewards = learner, rewards
        self.context = self.chosen = 0
        self.choices: List[int] = []

    def decide(self, interval: Interval) -> float:
        self.context = self.learner.context_of(interval.occasion, interval.slack, interval.live)
        self.chosen = self.learner.choose(self.context)
        self.choices.append(self.chosen)
        return self.learner.delay(self.chosen) / self.learner.break_even

    def learn(self, interval: Interval) -> None:
        told = next(self.rewards) if self.rewards else interval
        self.learner.learn(
            self.context, self.chosen, told.slack, round(told.length * self.learner.break_even), told.reused
        )


class Elo:
    """The seed paper's way to rate strategies, over the learner's own delays: the best so far and another one play an
    epoch each, in an order by chance, and the cheaper wins. It learns from what it did alone, the learner from what
    every delay would have cost. It pays 1.25 to 2 times as much, but for intervals of the break-even time on average,
    where all delays cost about the same: so the library does not have it."""

    EPOCH = 8  # intervals
    STEP = 32.0  # the most points that one game moves

    def __init__(self, prices: Learner, seed: int = 1) -> None:
        self.prices, self.random = prices, random.Random(seed)
        self.delays = [prices.delay(i) / prices.break_even for i in range(EXPERTS)]
        self.ratings = [1500.0] * EXPERTS
        self.pair: List[int] = []
        self.costs: List[int] = []

    def decide(self, interval: Interval) -> float:
        if not self.pair:
            best = max(range(EXPERTS), key=lambda i: self.ratings[i])
            other = self.random.choice([i for i in range(EXPERTS) if i != best])
            self.pair = self.random.sample([best, other], 2)
        return self.delays[self.pair[len(self.costs) // self.EPOCH]]

    def learn(self, interval: Interval) -> None:
        delay = self.delays[self.pair[len(self.costs) // self.EPOCH]]
        self.costs.append(cost(self.prices, interval, delay))
        if len(self.costs) < 2 * self.EPOCH:
            return
        first, second = sum(self.costs[: self.EPOCH]), sum(self.costs[self.EPOCH :])
        a, b = self.pair
        score = 0.5 if first == second else float(first < second)
        gain = self.STEP * (score - 1 / (1 + 10 ** ((self.ratings[b] - self.ratings[a]) / 400)))
        self.ratings[a] += gain
        self.ratings[b] -= gain
        self.pair, self.costs = [], []


Policy = Union[Fixed, Learned, Elo]


def cost(prices: Learner, interval: Interval, delay: float) -> int:
    length = round(interval.length * prices.break_even)
    held = length if math.isinf(delay) else round(delay * prices.break_even)
    return prices.cost(interval.slack, length, interval.reused, held)


def least(prices: Learner, interval: Interval) -> int:
    return prices.least_cost(interval.slack, round(interval.length * prices.break_even), interval.reused)


def play(prices: Learner, trace: Iterable[Interval], policy: Policy) -> List[int]:
    """The cost of each interval."""
    costs = []
    for interval in trace:
        costs.append(cost(prices, interval, policy.decide(interval)))
        policy.learn(interval)
    return costs


def adversary(prices: Learner, count: int, policy: Policy) -> List[Interval]:
    """Memory is needed again just after it was given back, whatever the policy does."""
    trace = []
    for _ in range(count):
        held = policy.decide(Interval(0.0))
        trace.append(Interval((0.0 if math.isinf(held) else held) + 1e-6))
        policy.learn(trace[-1])
    return trace
