"""Searches over ACE's options with Optuna: recorded runs are replayed with each, beside the default.

    study = acealloc.sweep(["run.ace"], trials=40, storage="sqlite:///sweep.db")
    print(study.frame())
"""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
from dataclasses import dataclass
from types import FrameType
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from .allocators import Policy
from .comparing import compare, mean_ratio, opened
from .errors import Failure
from .packages import need
from .replaying import Progress, require_core
from .searchers import OneTooMany, Others, this_process
from .tables import AnyPath, write_csv
from .trace import Trace

OPEN_ATTEMPTS = 4
ANOTHER = "give this search another name (--study NAME; in Python name=)"


# ---- what is searched


@dataclass(frozen=True)
class Choice:
    """One of these values of an option."""

    values: Tuple[str, ...]

    def suggest(self, trial: Any, name: str) -> str:
        return str(trial.suggest_categorical(name, list(self.values)))


@dataclass(frozen=True)
class Range:
    """A number between two, each as likely as its double; with a unit (k, m, g, us, ms, s)."""

    low: int
    high: int
    unit: str = ""

    @property
    def values(self) -> Tuple[str, ...]:
        """Its ends."""
        return "%d%s" % (self.low, self.unit), "%d%s" % (self.high, self.unit)

    def suggest(self, trial: Any, name: str) -> str:
        return "%d%s" % (trial.suggest_int(name, self.low, self.high, log=True), self.unit)


Space = Mapping[str, Union[Choice, Range]]

# What decides when memory goes back. A price says nothing but to the loop, and without hints a delay says nothing.
SPACE: Dict[str, Union[Choice, Range]] = {
    "mode": Choice(("learn", "static", "off")),
    "memory_price": Range(64, 65536, "m"),
    "idle_delay": Range(1, 10000, "ms"),
    "huge_pages": Choice(("on", "off")),
}
ONLY_IN = {"memory_price": ("learn",), "idle_delay": ("learn", "static")}

# What one would set by hand; each study begins with these.
BY_HAND: Tuple[Dict[str, str], ...] = (
    {"mode": "learn", "memory_price": "1024m", "idle_delay": "100ms", "huge_pages": "on"},
    {"mode": "learn", "memory_price": "8192m", "idle_delay": "100ms", "huge_pages": "on"},
    {"mode": "learn", "memory_price": "128m", "idle_delay": "100ms", "huge_pages": "on"},
    {"mode": "static", "idle_delay": "100ms", "huge_pages": "on"},
    {"mode": "off", "huge_pages": "on"},
)


def parse_space(texts: Sequence[str]) -> Space:
    """NAME=A,B,C or NAME=LOW..HIGH with a unit; the standard space where there are none."""
    space: Dict[str, Union[Choice, Range]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise Failure("--option %s: it must be NAME=A,B,C or NAME=LOW..HIGH" % text)
        limits = re.fullmatch(r"(\d+)([a-z]*)\.\.(\d+)([a-z]*)", value)
        if limits is None:
            space[name] = Choice(tuple(value.split(",")))
            continue
        low, unit, high, other = limits.groups()
        if unit not in ("", other) or not 0 < int(low) < int(high):
            raise Failure("--option %s: the lower limit must be above 0 and below the higher, in the same unit" % text)
        space[name] = Range(int(low), int(high), other)
    return space or SPACE


# ---- searching


class Study:
    """A search: its trials, each a policy with what it took as multiples of the default's (seconds and bytes)."""

    def __init__(self, study: Any) -> None:
        self.study = study

    @property
    def trials(self) -> List[Dict[str, Any]]:
        """Those that are done: number, by_hand, seconds, mean_bytes, peak_bytes, on_front, and the options."""
        front = {trial.number for trial in self.study.best_trials}
        return [
            {
                "number": trial.number, "by_hand": bool(trial.user_attrs.get("by_hand")),
                "seconds": trial.values[0], "mean_bytes": trial.values[1],
                "peak_bytes": trial.user_attrs["peak_bytes"], "on_front": trial.number in front,
                **trial.user_attrs["options"],
            }
            for trial in self.study.trials if trial.values is not None
        ]  # fmt: skip

    @property
    def front(self) -> List[Dict[str, Any]]:
        """The trials that no other beats in both time and memory, the fastest first."""
        return sorted((one for one in self.trials if one["on_front"]), key=lambda one: float(one["seconds"]))

    def gain(self, seconds: float = 1.02) -> Tuple[Optional[float], Optional[float]]:
        """The least memory by hand and of all, of trials that take at most so many times the default's time."""

        def least(by_hand: bool) -> Optional[float]:
            found = [one["mean_bytes"] for one in self.trials
                     if one["seconds"] <= seconds and (one["by_hand"] or not by_hand)]  # fmt: skip
            return min(found, default=None)

        return least(True), least(False)

    def frame(self) -> Any:
        """The trials as a pandas.DataFrame."""
        return need("pandas", "frames need").DataFrame(self.trials)

    def write_csv(self, path: AnyPath) -> None:
        """The trials as CSV. Failure where it cannot be written."""
        write_csv(path, self.trials)


def sweep(
    traces: Sequence[Union[AnyPath, Trace]],
    *,
    trials: int = 40,
    space: Space = SPACE,
    storage: str = "sqlite:///ace-sweep.db",
    name: str = "ace",
    rounds: int = 1,
    fast: bool = True,
    core: Optional[int] = None,
    seed: Optional[int] = None,
    progress: Optional[Progress] = None,
) -> Study:
    """Searches for options that take less time, less memory, or both, on these recorded runs.

    trials: how many there shall be in the study, those that are there already included: a search that was interrupted
    goes on where it was. Where others are at the last ones, these are waited for. storage: a URL of SQLAlchemy; with
    postgresql://USER@HOST/DATABASE any number of processes, on any number of machines, work on one study of the same
    `name`. rounds: replays of each, beside those of the default, in turn. fast: as for replay(); memory is then the
    same in every replay. seed: of the sampler, for one process.
    """
    optuna = _optuna()
    require_core(core)
    _require_values(space)
    recorded = opened(traces)
    if not recorded:
        raise Failure("there is no trace to search on")
    sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
    study, is_new = _open(optuna, storage, name, sampler)
    others = Others(study, optuna.trial.TrialState)
    begun: List[int] = []

    def objective(trial: Any) -> Tuple[float, float]:
        begun[:] = [trial.number]
        trial.set_user_attr("process", this_process())
        if others.count(below=trial.number) >= trials:
            raise OneTooMany
        options = _suggested(trial, space)

        def tell(share: float, what: str) -> None:
            if progress is not None:
                done = (others.done() + share) / trials
                progress(min(done, 1), " ".join("%s=%s" % pair for pair in options.items()))

        compared = [compare(trace, [Policy("tried", **options)], rounds, fast, core, tell)[0] for trace in recorded]
        trial.set_user_attr("options", options)
        trial.set_user_attr("peak_bytes", mean_ratio([one.peak for one in compared]))
        return mean_ratio([one.seconds for one in compared]), mean_ratio([one.mean for one in compared])

    interrupts: List[int] = []

    def search() -> None:
        while others.done() < trials:
            if others.count() >= trials:  # the others may do without us
                others.await_one()
                continue
            try:
                study.optimize(objective, n_trials=1, catch=(OneTooMany,))
            except Exception:
                # SQLite may give one that was set by hand to two processes at once: the other has told how it ended.
                if not any(trial.number in begun and trial.values for trial in study.get_trials(deepcopy=False)):
                    raise
            if interrupts:
                raise KeyboardInterrupt
            _put_back(study, begun)
            begun.clear()

    def put_back() -> None:
        # The interrupt may have come while the connection was in the midst of something: by new ones then.
        for attempt in range(OPEN_ATTEMPTS):
            try:
                return _put_back(study if attempt == 0 else _open(optuna, storage, name, sampler)[0], begun)
            except Exception as error:
                failure = _said(error)
            time.sleep(0.5 * attempt)
        raise Failure("the storage %s failed: %s; the trials in it are kept" % (storage, failure))

    try:
        with _noting_interrupts(interrupts):
            _require_same_search(study, "'%s' in %s" % (name, storage), recorded, space, fast)
            if space is SPACE and is_new:
                for options in BY_HAND:
                    study.enqueue_trial(_parameters(options), user_attrs={"by_hand": True})
            search()
    except (KeyboardInterrupt, SystemExit):
        put_back()
        raise
    except Exception as error:
        if interrupts or _is_interruption(error):
            put_back()
            raise KeyboardInterrupt from None
        if isinstance(error, optuna.exceptions.StorageInternalError):
            said = "the storage %s failed: %s; the trials in it are kept" % (storage, _said(error))
            raise Failure(said) from None
        raise
    return Study(study)


def _require_values(space: Space) -> None:
    """Failure where an option or a value is none of ACE's: before there is a study of it."""
    for name, values in space.items():
        for value in values.values:
            Policy("checked", **{name: value})


def _put_back(study: Any, begun: Sequence[int]) -> None:
    """What was set by hand and not tried to its end is still to be tried."""
    for number in begun:
        trial = study.get_trials(deepcopy=False)[number]
        if trial.values is None and trial.user_attrs.get("by_hand"):
            study.enqueue_trial(trial.system_attrs["fixed_params"], user_attrs={"by_hand": True})


@contextlib.contextmanager
def _noting_interrupts(interrupts: List[int]) -> Iterator[None]:
    """Adds to the list each interrupt that becomes a KeyboardInterrupt: while something is noted in a storage or looked
    up there, Optuna makes errors of its own of that."""
    former = signal.getsignal(signal.SIGINT)
    if former is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: Optional[FrameType]) -> None:
        interrupts.append(number)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def _is_interruption(error: Optional[BaseException]) -> bool:
    """An interrupt that comes while a storage writes is another error by the time it is here."""
    while error is not None and not isinstance(error, (KeyboardInterrupt, SystemExit)):
        error = error.__context__
    return error is not None


def _optuna() -> Any:
    optuna = need("optuna", "searching needs")
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a failed trial ends the search with its own error
    import warnings

    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def _open(optuna: Any, storage: str, name: str, sampler: Any) -> Tuple[Any, bool]:
    """The study, and whether this process has made it. Processes that come to an empty database at once stand in one
    another's way when they make its tables: who fails tries again."""
    for attempt in range(OPEN_ATTEMPTS):
        try:
            study = optuna.create_study(
                storage=storage, study_name=name, directions=["minimize", "minimize"], sampler=sampler
            )
            return study, True
        except optuna.exceptions.DuplicatedStudyError:
            return optuna.load_study(storage=storage, study_name=name, sampler=sampler), False
        except Exception as error:  # every database has its own
            failure = _said(error)
        time.sleep(0.5 * attempt)
    raise Failure("the storage %s cannot be used: %s" % (storage, failure))


def _said(error: BaseException) -> str:
    """What a database said, which may be whole statements, in one line."""
    said = str(error.__cause__ or error).splitlines()
    return said[0] if said else type(error).__name__


def _require_same_search(study: Any, name: str, traces: Sequence[Trace], space: Space, fast: bool) -> None:
    """Notes in a new study what it is of. Failure where an older one is of something else."""
    if len(study.directions) != 2 or ("traces" not in study.user_attrs and study.trials):
        raise Failure("the study %s is none of `ace sweep`: %s" % (name, ANOTHER))
    ours = (
        ("traces", [str(trace.header["command"]) + str(trace.totals["events"]) for trace in traces], "other traces"),
        ("space", {option: str(values) for option, values in space.items()}, "another search"),
        ("fast", fast, "replays that wait" if fast else "replays that do not wait"),
    )
    for what, value, other in ours:
        if study.user_attrs.setdefault(what, value) != value:
            raise Failure("the study %s is of %s: %s" % (name, other, ANOTHER))
        study.set_user_attr(what, value)


def _parameters(options: Mapping[str, str]) -> Dict[str, Any]:
    """What Optuna calls these options' values."""
    return {
        name: int(re.sub("[a-z]", "", value)) if isinstance(SPACE[name], Range) else value
        for name, value in options.items()
    }


def _suggested(trial: Any, space: Space) -> Dict[str, str]:
    options: Dict[str, str] = {}
    for name, values in space.items():
        if name not in ONLY_IN or options.get("mode") in (None, *ONLY_IN[name]):
            options[name] = values.suggest(trial, name)
    return options
