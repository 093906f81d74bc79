"""What holding free memory costs, on traces of idle intervals: fixed delays, the learner of mode `learn`, and the
least that anyone could pay who knew the future.

An interval is memory that fell free, for how long it stayed so, and how much of it was needed then. The learner is the
library's own code (acealloc.Learner); costs are its costs, in nanoseconds of processor time. Lengths are in break-even
times: after one of them, holding has cost as much as giving back and taking again.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

from ._core import EXPERTS, Learner

MIB = 1 << 20
# The fixed delays that the learner is measured against: the best of them in hindsight, for each trace.
GRID = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0, math.inf)


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


# ---- traces


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


# ---- who decides


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


# ---- what is measured


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


# ---- what is to hold


@dataclass(frozen=True)
class Target:
    """value: what was measured, of `worst` (a trace, a seed); it holds where it is at most `limit`."""

    what: str
    limit: float
    value: float
    worst: str

    @property
    def met(self) -> bool:
        return self.value <= self.limit


def targets(count: int = 4000, seeds: Sequence[int] = (1, 2, 3), **prices: int) -> List[Target]:
    """What the learner must reach on generated traces, each the worst of all seeds."""
    worst: Dict[str, Target] = {}

    def note(what: str, limit: float, value: float, where: str) -> None:
        if what not in worst or value > worst[what].value:
            worst[what] = Target(what, limit, value, where)

    for seed in seeds:
        for mean in (0.01, 0.1, 0.3, 1.0, 3.0, 10.0):
            # Some hundred break-even times: a trace of a moment is all beginning.
            trace = stationary(random.Random(seed), max(count, round(300 / mean)), mean)
            outcome = measure("", trace, seed, **prices)
            note("stationary: cost / best fixed delay", 1.05, outcome.to_best, "mean %g, seed %d" % (mean, seed))
        for rests, rhythms in (("", (SHORT, LONG)), (", long rests", (SHORT, (3.0, 7.0)))):
            for period in PERIODS:
                where = "period %g%s, seed %d" % (period, rests, seed)
                trace = switching(random.Random(seed), count, period, rhythms)
                outcome = measure("", trace, seed, **prices)
                note("switching: cost / offline optimum", 1.3, outcome.to_offline, where)
                if outcome.room <= 0.85:
                    note("switching, period %g: cost / best fixed delay" % period, 0.85, outcome.to_best, where)
                settled = settled_after(trace, **prices)
                if settled:
                    most = sorted(settled)[int(len(settled) * 0.95)]
                    note("after a change: settled within so many intervals (95%)", 10, most, where)
        regrets = [0, 0]
        for program in range(5):
            rng = random.Random(100 * seed + program)
            for trace in (two_kinds(rng, 1000), stationary(rng, 1000, 0.1), stationary(rng, 1000, 1.0)):
                for i, some in enumerate((trace, trace[:100])):
                    outcome = measure("", some, seed, **prices)
                    regrets[i] += outcome.learned - outcome.best_fixed
        note("regret per interval over 1000 intervals / over the first 100", 1.0, regrets[0] / 10 / max(regrets[1], 1),
             "seed %d" % seed)  # fmt: skip
        policy = Learned(Learner(**prices))
        outcome = measure("", adversary(Learner(**prices), count, policy), seed, **prices)
        note("memory needed again whenever it was just given back: cost / offline optimum", 3.0, outcome.to_offline,
             "seed %d" % seed)  # fmt: skip
        traces = standard_traces(count, seed)
        without = measure("", traces["two kinds, mixed"], seed, **prices).learned
        for name in ("inverted hints", "random hints"):
            note("%s: cost / no hints" % name, 1.1, measure("", traces[name], seed, **prices).learned / without,
                 "seed %d" % seed)  # fmt: skip
        outcome = measure("", switching(random.Random(seed), count, 100), seed, **prices)
        note("shuffled rewards: gain left, of what is gained without", 0.3,
             max(outcome.best_fixed - outcome.shuffled, 0) / max(outcome.best_fixed - outcome.learned, 1),
             "seed %d" % seed)  # fmt: skip
        cold, warm, poisoned = playbook_costs(seed, **prices)
        note("regret of the first 20 intervals with a playbook / without", 0.5, warm / max(cold, 1), "seed %d" % seed)
        note("400 intervals with a playbook that is wrong / without one", 1.1, poisoned, "seed %d" % seed)
    return list(worst.values())


def playbook_costs(seed: int, **prices: int) -> Tuple[float, float, float]:
    """The regret of the first 20 intervals without and with the playbook of such a program, of 32 programs in all (none
    whose intervals are as long as the break-even time on average: there all delays cost the same); and the cost of 400
    intervals with the playbook of the opposite rhythm, as a ratio to none."""
    book = Learner(**prices)

    def learned(mean: float) -> str:
        policy = Learned(Learner(**prices))
        play(book, stationary(random.Random(seed), 400, mean), policy)
        return policy.learner.playbook()

    def cost_of(trace: Trace, text: str = "") -> int:
        learner = Learner(**prices)
        if text:
            learner.load_playbook(text)
        return sum(play(book, trace, Learned(learner)))

    cold = warm = 0
    for mean in (0.1, 0.3, 3.0, 10.0):
        text = learned(mean)
        for program in range(8):
            start = stationary(random.Random(1000 * seed + program), 20, mean)
            best = min(sum(play(book, start, Fixed(book, delay))) for delay in GRID)
            cold, warm = cold + cost_of(start) - best, warm + cost_of(start, text) - best
    many = stationary(random.Random(seed + 200), 400, 0.5)
    return cold, warm, cost_of(many, learned(50.0)) / cost_of(many)
