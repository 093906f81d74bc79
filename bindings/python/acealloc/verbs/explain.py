"""`ace explain`: what a decision log says."""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path
from typing import List

from rich.console import Group, RenderableType
from rich.table import Table

from .. import decisions
from ..console import duration, new_table, print_out, size, warning
from ..decisions import HeapLog, Log
from ..errors import Failure


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "explain",
        help="say what mode learn decided, on what evidence, and what that gained",
        allow_abbrev=False,
        description="Reads a decision log, which a run in mode learn or observe writes with --log FILE, replays it, "
        "and shows for each heap what was learned and what it gained or cost. Exit status 1 where a replay decides "
        "otherwise than the log says.",
    )
    parser.add_argument("log", metavar="LOG", type=Path, help="the file that the option log named")
    parser.add_argument("--steps", type=int, default=12, metavar="N", help="show the last N changes of mind (12)")
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    try:
        log = decisions.read(arguments.log)
    except FileNotFoundError:
        raise Failure("there is no log %s (a run in which no memory fell free writes none)" % arguments.log) from None
    except OSError as error:
        raise Failure("%s cannot be read: %s" % (arguments.log, error.strerror)) from None
    except decisions.NoLog as error:
        raise Failure(str(error)) from error
    print_out(explanation(log, arguments.steps))
    return 1 if any(heap.differs for heap in log.heaps) else 0


def explanation(log: Log, steps: int) -> Group:
    """For each heap: what was decided in each context and what it cost; then the changes of mind."""
    parts: List[RenderableType] = []
    for heap in log.heaps:
        parts.append(_heap_of_log(heap))
        changes = heap.changes()
        if changes and steps > 0:
            last = ", the last %d of %d" % (steps, len(changes)) if len(changes) > steps else ""
            columns = ["at", "context", "free then", "held before, in break-even times", "held now"]
            table = new_table("Changes of mind" + last, columns, spare=("free then",))
            begin = heap.steps[0]["t"]
            for step, before in changes[-steps:]:
                opened = step["opened"]
                table.add_row(duration(step["t"] - begin), opened["context"], size(step["slack"]),
                              _hold(heap, before, step["defer"]), _hold(heap, opened["chosen"], step["defer"]))
            parts.append(table)
        if not heap.whole:
            parts.append(warning("this loop began before the log, or in another process before a fork: it is not "
                                 "replayed"))  # fmt: skip
        if heap.differs:
            parts.append(warning("a replay decides otherwise from line %d on: the log is of another build, or was "
                                 "changed" % heap.differs))
    if not log.heaps:
        parts.append(warning("the log holds no decision: no collection or idle time left memory free"))
    if log.damaged:
        parts.append(warning("%d of %d lines are damaged and left out, the first is line %d" % (
            len(log.damaged), log.lines, log.damaged[0])))
    return Group(*parts)


def _hold(heap: HeapLog, expert: int, may_defer: bool) -> str:
    """How long an expert holds: in break-even times, which differ from interval to interval."""
    learner = heap.learner()
    delay = learner.delay(expert, bool(may_defer))
    if delay == 0:
        return "not at all"
    return "for ever" if delay == 2**64 - 1 else str(Fraction(delay, learner.break_even).limit_denominator(8))


def _heap_of_log(heap: HeapLog) -> Table:
    table = new_table('Heap "%s" of process %d: %d steps, break-even after %s for small pages' % (
        heap.name, heap.pid, len(heap.steps), duration(heap.learner().break_even)),
        ["context", "intervals", "cost", "by the prior", "least possible", "gained",
         "held most often, in break-even times"], spare=("intervals", "least possible", "by the prior"))
    table.columns[0].overflow = "crop"  # they differ at their ends
    for name, one in heap.contexts().items():
        held = max(one.choices, key=lambda choice: one.choices[choice])
        table.add_row(name, str(one.intervals), duration(one.cost), duration(one.prior), duration(one.least),
                      ("-" if one.cost > one.prior else "") + duration(abs(one.prior - one.cost)), _hold(heap, *held))
    return table
