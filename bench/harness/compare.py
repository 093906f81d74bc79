"""Ratios of one allocator to others, round by round, with the interval in which their median lies.

Each round gives one ratio: both runs of it were made close together. The interval is the middle 95% of the medians of
rounds drawn anew, with replacement (a percentile bootstrap); it needs at least three rounds, and knows nothing of
errors that all rounds share.
"""

import math
import random
import statistics
from dataclasses import dataclass

from harness.peers import BUMP, HINTED

DRAWS = 2000
SEED = 20231
FEWEST_ROUNDS = 3


@dataclass(frozen=True)
class Metric:
    """A column of the raw file of which less is better."""

    name: str
    column: str

    def of(self, row):
        value = row.get(self.column)
        return value if value is not None and value > 0 else None


CPU = Metric("processor time", "seconds_cpu")
VALUE = Metric("processor time of a loop", "value_seconds")
CLOCK = Metric("time by the clock", "value_seconds")
PEAK = Metric("peak RSS", "peak_rss")
REST = Metric("RSS at rest", "rss_rest")
AREA = Metric("RSS over time", "area")
EXCESS = Metric("memory over time at rest, beyond the floor", "excess")
REST_EXCESS = Metric("RSS at rest, beyond the floor", "rest_excess")
P99 = Metric("time of a request, p99", "p99_seconds")
FRAME_P99 = Metric("time of a frame, p99", "p99_seconds")
FRAME_P999 = Metric("time of a frame, p99.9", "p999_seconds")
DIRTY = Metric("private dirty memory at rest", "private_dirty")
METRICS = {
    "luajit": (CPU, PEAK),
    "lua": (CPU, PEAK),
    "cpython": (VALUE, PEAK),
    "swell": (CPU, PEAK, REST, AREA),
    "rhythm": (CPU, PEAK, REST, AREA, EXCESS),
    "services": (CPU, CLOCK, P99, PEAK, REST, AREA, EXCESS, REST_EXCESS, DIRTY),
    "frames": (CPU, FRAME_P99, FRAME_P999, PEAK),
    "micro": (CPU, CLOCK, PEAK),
}


@dataclass(frozen=True)
class Ratio:
    """A median or a mean. low and high: the interval; None where there are too few rounds. count: of rounds, or of
    programs in a mean."""

    value: float
    low: float
    high: float
    count: int

    def text(self, digits=3):
        if self.low is None:
            return "%.*f" % (digits, self.value)
        return "%.*f [%.*f, %.*f]" % (digits, self.value, digits, self.low, digits, self.high)


def round_ratios(subject, other, metric):
    """subject and other: rows by round. The ratios of the rounds that both have, in order of the rounds."""
    ratios = []
    for number in sorted(subject.keys() & other.keys()):
        ours, theirs = metric.of(subject[number]), metric.of(other[number])
        if ours is not None and theirs is not None:
            ratios.append(ours / theirs)
    return ratios


def middle_95(values):
    ordered = sorted(values)
    cut = int(len(ordered) * 0.025)
    return ordered[cut], ordered[-1 - cut]


def of_rounds(ratios):
    """The median ratio of one program; None where there is no round."""
    if not ratios:
        return None
    if len(ratios) < FEWEST_ROUNDS:
        return Ratio(statistics.median(ratios), None, None, len(ratios))
    chance = random.Random(SEED)
    draws = [statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(DRAWS)]
    return Ratio(statistics.median(ratios), *middle_95(draws), len(ratios))


def geometric(values):
    return math.exp(statistics.fmean(map(math.log, values)))


def of_programs(lists):
    """The geometric mean of the programs' median ratios; `lists` holds each program's ratios."""
    lists = [ratios for ratios in lists if ratios]
    if not lists:
        return None
    value = geometric([statistics.median(ratios) for ratios in lists])
    if min(map(len, lists)) < FEWEST_ROUNDS:
        return Ratio(value, None, None, len(lists))
    chance = random.Random(SEED)
    draws = [geometric([statistics.median(chance.choices(r, k=len(r))) for r in lists]) for _ in range(DRAWS)]
    return Ratio(value, *middle_95(draws), len(lists))


class Table:
    """The runs of one part on one host: rows[program][peer][round]. A program is a name and its arguments. ours: the
    names of ACE in all its forms (other options, other builds), none of which is a rival."""

    def __init__(self, part, host, ours=()):
        self.part, self.host = part, host
        self.ours = {"ace", *ours}
        self.rows = {}

    @property
    def metrics(self):
        return METRICS[self.part]

    @property
    def title(self):
        return self.host if self.host.startswith(self.part) else "%s, %s" % (self.part, self.host)

    def peers(self):
        """In the order of their first run."""
        seen = {}
        for by_peer in self.rows.values():
            seen.update(dict.fromkeys(by_peer))
        return list(seen)

    def names(self):
        """The programs' names, with their arguments where one name has several."""
        names = [name for name, _ in self.rows]
        return {key: key[0] if names.count(key[0]) == 1 else "%s %s" % key for key in self.rows}

    def ratios(self, program, subject, peer, metric):
        by_peer = self.rows[program]
        return round_ratios(by_peer.get(subject, {}), by_peer.get(peer, {}), metric)

    def ratio(self, program, subject, peer, metric):
        return of_rounds(self.ratios(program, subject, peer, metric))

    def mean(self, subject, peer, metric):
        return of_programs([self.ratios(program, subject, peer, metric) for program in self.rows])

    def rivals(self, subject, hinted=False):
        """The allocators that compete with the subject: no form of ACE, and nothing that never frees. Those that are
        told of collections compete among themselves."""
        others = self.ours | {subject, BUMP}
        return [peer for peer in self.peers() if peer not in others and peer.endswith(HINTED) == hinted]

    def best(self, program, subject, metric, among):
        """The peer that takes least, and the subject's ratio to it; None where there is no common round."""
        found = [(self.ratio(program, subject, peer, metric), peer) for peer in among]
        found = [(ratio, peer) for ratio, peer in found if ratio]
        return max(found, key=lambda one: one[0].value) if found else None

    def mean_of_best(self, subject, metric, among):
        """The geometric mean of the subject's ratios to each program's own best peer."""
        lists = []
        for program in self.rows:
            if best := self.best(program, subject, metric, among):
                lists.append(self.ratios(program, subject, best[1], metric))
        return of_programs(lists)

    def best_mean(self, subject, metric, among):
        """The one peer that takes least over all programs, and the mean ratio to it."""
        found = [(self.mean(subject, peer, metric), peer) for peer in among]
        found = [(mean, peer) for mean, peer in found if mean]
        most = max((mean.count for mean, _ in found), default=0)
        found = [(mean, peer) for mean, peer in found if mean.count == most]
        return max(found, key=lambda one: one[0].value) if found else None

    def median(self, program, peer, column):
        """The median of a column over the rounds; None where no round has it."""
        values = [row[column] for row in self.rows[program].get(peer, {}).values() if row[column] is not None]
        return statistics.median(values) if values else None


def tables(rows, ours=()):
    """Good rows as tables, in the order in which the parts and hosts were first run."""
    found = {}
    for row in rows:
        if row["part"] not in METRICS:
            continue
        table = found.setdefault((row["part"], row["host"]), Table(row["part"], row["host"], ours))
        by_peer = table.rows.setdefault((row["program"], row["args"]), {})
        by_peer.setdefault(row["peer"], {})[row["round"]] = row
    for table in found.values():
        if table.part in ("rhythm", "services"):
            for by_peer in table.rows.values():
                count_from_the_floor([row for by_round in by_peer.values() for row in by_round.values()])
    return list(found.values())


def count_from_the_floor(rows):
    """An excess is counted from a floor, what a process needs at least: what it has at rest but for what its heaps
    hold beyond what is live, where some allocator tells (`held`; live is the same for all); else the least that
    any has at the start. Whoever has taken much before the first request would gain by that, were its own start the
    floor."""
    floors = [row["rss_rest"] - row["held"] for row in rows if row.get("held") and row["rss_rest"]]
    starts = [row["start"] for row in rows if row.get("start")]
    if not floors and not starts:
        return
    floor = statistics.median(floors) if floors else min(starts)
    for row in rows:
        row["rest_excess"] = row["rss_rest"] - floor if row["rss_rest"] else None
        if row.get("start") and row["excess"] is not None:
            row["excess"] += (row["start"] - floor) * row["rest_seconds"]
            row["start"] = floor
