"""Ablations: recorded runs are replayed without one of ACE's features at a time, beside the default."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Optional, Sequence, Tuple, Union

from .allocators import Policy
from .comparing import compare, mean_ratio, opened
from .errors import Failure
from .replaying import Progress
from .tables import AnyPath
from .trace import Trace

DECIDING = 6  # comparisons; as many lie on one side by chance once in 32 times, three once in four

# What the seed paper proposes, and which variants do without it or have it: options, or designs that the table of
# bench/ablation names and a build folder of the source has.
FEATURES: Tuple[Tuple[str, Tuple[str, ...]], ...] = (
    ("the loop that learns", ("mode=static", "mode=off")),
    ("idle trim", ("idle_delay=1s", "idle_delay=10ms", "worker=off")),
    ("kinds of objects", ("kinds=on",)),
    ("huge pages", ("huge_pages=off",)),
    ("two-speed front with a cache", ("cache-16", "cache-64", "cache-128")),
    ("refill of one", ("refill-one",)),
    ("route profiles", ("tiny-only", "pool-only")),
    ("tiering", ("no-tiers",)),
    ("eager free", ("no-eager-free",)),
    ("warm pool", ("warm-1", "warm-4")),
    ("hints", ("no-hints",)),
    ("prefix at the slab's tail", ("tail",)),
    ("header before each block", ("header",)),
    ("front and prefix together", ("seed",)),
)


@dataclass(frozen=True)
class Ablated:
    """A variant beside the default, on all traces: geometric means of the ratios. decides: the times of all rounds of
    all traces, `comparisons` and at least DECIDING in all, lie on one side of 1."""

    feature: str
    variant: str
    seconds: float
    peak: float
    mean: float
    faults: float
    decides: bool
    comparisons: int


def ablate(
    traces: Sequence[Union[AnyPath, Trace]],
    *,
    source: Optional[AnyPath] = None,
    rounds: int = 6,
    fast: bool = True,
    core: Optional[int] = None,
    progress: Optional[Progress] = None,
) -> Iterator[Ablated]:
    """Exchanges one of the seed paper's features at a time, and yields what each gains or costs as it is known.

    source: a checkout of ACE, in which the designs that no option changes are built (its build/ablation); without it
    those are left out. Failure where one cannot be built.
    """
    recorded = opened(traces)
    rows = [(feature, variant) for feature, variants in FEATURES for variant in variants
            if source is not None or "=" in variant]  # fmt: skip
    for number, (feature, variant) in enumerate(rows):

        def tell(share: float, what: str, number: int = number, variant: str = variant) -> None:
            if progress is not None:
                progress((number + share) / len(rows), variant)

        tell(0, variant)
        policy = Policy.parse(variant) if "=" in variant else _design(variant, Path(os.fspath(source or ".")))
        compared = [compare(trace, [policy], rounds, fast, core, tell)[0] for trace in recorded]
        yield Ablated(
            feature, variant, mean_ratio([one.seconds for one in compared]), mean_ratio([one.peak for one in compared]),
            mean_ratio([one.mean for one in compared]), mean_ratio([one.faults for one in compared]),
            rounds * len(compared) >= DECIDING
            and (all(one.most < 1 for one in compared) or all(one.least > 1 for one in compared)),
            rounds * len(compared),
        )  # fmt: skip


def _design(name: str, source: Path) -> Policy:
    """The replayer of a design, built where it is not."""
    script = source / "bench" / "ablation"
    if not script.is_file():
        raise Failure("%s is no checkout of ACE: it has no bench/ablation" % source)
    done = subprocess.run([str(script), "--replayer", name], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure("the design '%s' cannot be built: %s" % (name, (done.stderr or done.stdout).strip()[-500:]))
    return Policy(name).built_as(done.stdout.splitlines()[-1])
