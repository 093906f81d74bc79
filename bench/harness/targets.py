"""What ACE is to reach, and whether it does: one table, from which the report's first comes.

A ratio is subject / peer, as everywhere. A figure that is not a ratio is the median over the rounds, with the interval
of that median.
"""

from dataclasses import dataclass
from typing import Callable

from harness import compare
from harness.compare import AREA, CLOCK, CPU, DIRTY, EXCESS, FRAME_P999, P99, PEAK, REST_EXCESS, VALUE, Ratio

MET, NEARLY, MISSED, UNKNOWN = "met", "met by interval", "missed", "not measured"
HELP = (
    "met: the figure is at most the limit. met by interval: it is above, but the limit lies within its 95% interval. "
    "missed: the whole interval lies above, or there are too few rounds for one."
)


@dataclass(frozen=True)
class Target:
    """measure(table, subject, limit) gives a Ratio and what it belongs to, or None."""

    part: str
    host: str
    what: str
    limit: float
    measure: Callable


@dataclass(frozen=True)
class Figure:
    """A quantity of one run, made of columns of the raw file: part / whole, in some unit."""

    name: str
    part: tuple  # the first, less the others
    whole: str
    unit: float

    def of(self, row):
        first, *less = (row[column] for column in self.part)
        if first is None or None in less or not row[self.whole]:
            return None
        return (first - sum(less)) / row[self.whole] * self.unit


WALK = Figure("walk at a collection's end, ms per 100 MB of heap", ("walk_seconds",), "walked_bytes", 1e11)
PURGE = Figure("purge, ms per 100 MB returned", ("purge_seconds", "walk_seconds"), "returned_bytes", 1e11)
PAGES = Figure("heap pages resident at rest / pages that hold a live block", ("rest_heap",), "rest_live_pages", 1)
METADATA = Figure("metadata / the heap's peak", ("metadata",), "heap_peak", 1)


# ---- ways to measure


def mean(part, host, metric, peer, limit):
    """The geometric mean over the programs."""

    def measure(table, subject, _):
        ratio = table.mean(subject, peer, metric)
        return (ratio, programs(ratio)) if ratio else None

    return Target(part, host, "%s / %s" % (metric.name, peer), limit, measure)


def mean_of_best(part, host, metric, limit, hinted=False):
    """The same to the one peer that is best over all programs, of those that are told of collections or those that are
    not."""

    def measure(table, subject, _):
        best = table.best_mean(subject, metric, table.rivals(subject, hinted=hinted))
        return (best[0], "%s, %s" % (best[1], programs(best[0]))) if best else None

    kind = "hinted peer" if hinted else "peer"
    return Target(part, host, "%s / the best %s over all" % (metric.name, kind), limit, measure)


def no_program_above(part, host, metric, limit, peer=None):
    """The worst program's ratio to `peer`, or to its own best peer."""

    def measure(table, subject, limit):
        found = []
        for program, name in table.names().items():
            among = [peer] if peer else table.rivals(subject)
            if best := table.best(program, subject, metric, among):
                found.append((best[0], name if peer else "%s / %s" % (name, best[1])))
        # One that misses its target comes before one with a higher but less certain ratio.
        return max(found, key=lambda one: (verdict(one[0], limit) == MISSED, one[0].value), default=None)

    return Target(part, host, "%s / %s, worst program" % (metric.name, peer or "its best peer"), limit, measure)


def one(part, host, program, metric, against, limit):
    """One program's ratio to a peer, or to the best of `best peer`, `best hinted peer`."""

    def measure(table, subject, _):
        key = key_of(table, program, subject)
        if key is None:
            return None
        if not against.startswith("best "):
            return labelled(table.ratio(key, subject, against, metric))
        return table.best(key, subject, metric, table.rivals(subject, hinted="hinted" in against))

    name = "%s: %s" % (program, metric.name) if part == "micro" else metric.name
    return Target(part, host, "%s / %s" % (name, against), limit, measure)


def figure(part, host, program, what, limit):
    """A figure of the subject alone."""

    def measure(table, subject, _):
        key = key_of(table, program, subject)
        values = [what.of(row) for row in table.rows[key][subject].values()] if key else []
        return labelled(compare.of_rounds([value for value in values if value is not None]))

    return Target(part, host, what.name, limit, measure)


def labelled(ratio):
    return (ratio, "") if ratio else None


def programs(mean):
    return "1 program" if mean.count == 1 else "%d programs" % mean.count


def key_of(table, name, subject):
    """The program of this name; with several arguments, that with the most rounds."""
    keys = [key for key in table.rows if key[0] == name and subject in table.rows[key]]
    return max(keys, key=lambda key: len(table.rows[key][subject]), default=None)


# ---- the targets

SWELL = "keep-1-in-1000"
TARGETS = (
    mean("luajit", "luajit", CPU, "mimalloc", 0.82),
    mean("luajit", "luajit", CPU, "snmalloc", 0.93),
    no_program_above("luajit", "luajit", CPU, 1.03),
    mean("luajit", "luajit", PEAK, "mimalloc", 0.70),
    mean("luajit", "luajit", PEAK, "own", 1.00),
    mean("lua", "lua5.4", CPU, "mimalloc", 0.90),
    mean_of_best("lua", "lua5.4", CPU, 0.93),
    mean("lua", "lua5.4", PEAK, "mimalloc", 0.62),
    *(target for host in ("cpython3.11", "cpython3.13") for target in (
        mean("cpython", host, VALUE, "own", 0.95),
        no_program_above("cpython", host, VALUE, 1.03, "own"),
        mean("cpython", host, PEAK, "own", 1.00),
    )),
    one("micro", "micro", "tiny-hot heap", CPU, "mimalloc", 0.75),
    one("micro", "micro", "tiny-hot plain", CPU, "mimalloc", 0.75),
    one("micro", "micro", "random-mixed heap", CPU, "mimalloc", 0.80),
    one("micro", "micro", "random-mixed plain", CPU, "mimalloc", 0.80),
    one("micro", "micro", "mid-mt plain", CPU, "best peer", 0.95),
    *(target for host in ("luajit", "lua5.4", "cpython3.11", "cpython3.13") for target in (
        one("swell", host, SWELL, CPU, "best hinted peer", 1.00),
        one("swell", host, SWELL, AREA, "best hinted peer", 0.70),
        one("swell", host, SWELL, AREA, "best peer", 0.30),
        figure("swell", host, SWELL, WALK, 0.3),
        figure("swell", host, SWELL, PURGE, 15),
        figure("swell", host, SWELL, PAGES, 1.05),
        figure("swell", host, SWELL, METADATA, 0.015),
    )),
    one("frames", "luajit", "frames", FRAME_P999, "best peer", 1.00),
    *(target for host in ("cpython3.11", "cpython3.13") for target in (
        mean("services", host, CLOCK, "own", 1.00),
        mean("services", host, P99, "own", 1.00),
        mean("services", host, REST_EXCESS, "own", 0.30),
        mean_of_best("services", host, REST_EXCESS, 0.30),
        mean_of_best("services", host, REST_EXCESS, 0.80, hinted=True),
        mean("services", host, EXCESS, "own", 0.50),
        mean_of_best("services", host, EXCESS, 0.80, hinted=True),
        one("services", host, "flask", DIRTY, "own", 0.80),
    )),
)  # fmt: skip


# ---- verdicts


def verdict(ratio: Ratio | None, limit):
    if ratio is None:
        return UNKNOWN
    if ratio.value <= limit:
        return MET
    return NEARLY if ratio.low is not None and ratio.low <= limit else MISSED


def rows(tables, subject, digits=3):
    """The heading and the rows of the table of targets: texts. Nothing is said of parts that were not run, or
    not against those that their targets are about."""
    by_place = {(table.part, table.host): table for table in tables}
    found = {}
    for target in TARGETS:
        if table := by_place.get((target.part, target.host)):
            found[target] = target.measure(table, subject, target.limit)
    told = {(target.part, target.host) for target, measured in found.items() if measured}
    lines = []
    for target, measured in found.items():
        if (target.part, target.host) not in told:
            continue
        ratio, label = measured or (None, "")
        where = target.host if target.host.startswith(target.part) else "%s, %s" % (target.part, target.host)
        number = "" if ratio is None else "%.*f%s" % (digits, ratio.value, " (%s)" % label if label else "")
        known = ratio is not None and ratio.low is not None
        interval = "%.*f to %.*f" % (digits, ratio.low, digits, ratio.high) if known else ""
        limit = "%.*f" % (3 if target.limit < 0.1 else 2, target.limit)
        lines.append([where, target.what, limit, number, interval, verdict(ratio, target.limit)])
    return ["where", "what", "at most", "measured", "95% interval", "verdict"], lines
