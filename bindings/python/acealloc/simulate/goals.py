"""What the learner must reach on generated traces, and what it reached."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

from .._core import Learner
from .outcomes import GRID, measure, settled_after
from .policies import Fixed, Learned, adversary, play
from .traces import LONG, PERIODS, SHORT, Trace, standard_traces, stationary, switching, two_kinds


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
