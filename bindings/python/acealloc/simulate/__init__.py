"""What holding free memory costs, on traces of idle intervals: fixed delays, the learner of mode `learn`, and the
least that anyone could pay who knew the future. The learner is the library's own code (acealloc.Learner).
"""

from .goals import Target, playbook_costs, targets
from .outcomes import GRID, Outcome, measure, settled_after
from .policies import Elo, Fixed, Learned, adversary, cost, least, play
from .traces import (
    LONG,
    PERIODS,
    SHORT,
    Interval,
    Trace,
    drift,
    standard_traces,
    stationary,
    switching,
    two_kinds,
    with_hints,
)

__all__ = [
    "Elo",
    "Fixed",
    "GRID",
    "Interval",
    "LONG",
    "Learned",
    "Outcome",
    "PERIODS",
    "SHORT",
    "Target",
    "Trace",
    "adversary",
    "cost",
    "drift",
    "least",
    "measure",
    "play",
    "playbook_costs",
    "settled_after",
    "standard_traces",
    "stationary",
    "switching",
    "targets",
    "two_kinds",
    "with_hints",
]
