"""Several processes, on any number of machines, that search in one study: how many trials there are, and waiting for
the last ones of others."""

from __future__ import annotations

import math
import os
import platform
import time
from typing import Any, FrozenSet, Iterator, Set, Tuple

LOOK_SECONDS = 0.3  # from one look at others' trials to the next
# After so long without news, a trial of another machine's process is taken to have ended with it.
PATIENCE_SECONDS = 3600.0


class OneTooMany(Exception):
    """Another process has begun the last trial in the same moment."""


class Others:
    """The trials of a study that processes are at."""

    def __init__(self, study: Any, states: Any) -> None:
        self._study, self._states = study, states
        self._lost: Set[int] = set()

    def done(self) -> int:
        # One that was interrupted or failed is not.
        return len(self._study.get_trials(deepcopy=False, states=[self._states.COMPLETE]))

    def numbers(self, below: float = math.inf) -> FrozenSet[int]:
        return frozenset(
            number for number, process in self._under_way()
            if number < below and number not in self._lost and not _has_ended(process)
        )  # fmt: skip

    def count(self, below: float = math.inf) -> int:
        """Those that are done, and those under way. Asked in this order, one that ends meanwhile counts twice, and not
        never."""
        under_way = len(self.numbers(below))
        return under_way + self.done()

    def await_one(self) -> None:
        """Until one of them is over, or one of another machine has been without an end for too long."""
        waited_for = self.numbers()
        end = time.monotonic() + PATIENCE_SECONDS
        while waited_for and self.numbers() == waited_for:
            if time.monotonic() >= end:
                self._lost.update(number for number, process in self._under_way() if not _is_here(process))
            time.sleep(LOOK_SECONDS)

    def _under_way(self) -> Iterator[Tuple[int, str]]:
        for trial in self._study.get_trials(deepcopy=False, states=[self._states.RUNNING]):
            yield trial.number, trial.user_attrs.get("process", "")


def this_process() -> str:
    return "%s:%d" % (platform.node(), os.getpid())


def _is_here(process: str) -> bool:
    return process.rpartition(":")[0] == platform.node()


def _has_ended(process: str) -> bool:
    """Is it a process of this machine that is not there any more?"""
    return _is_here(process) and not os.path.exists("/proc/%s" % process.rpartition(":")[2])
