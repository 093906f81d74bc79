"""What the verbs of experiments show: recordings, replays, searches, ablations, simulations."""

from __future__ import annotations

from typing import List, Mapping, Optional, Sequence, Tuple

from rich.console import Group, RenderableType
from rich.text import Text

from ._core import options
from .ablating import DECIDING, Ablated
from .console import duration, new_table, print_error, size, warning
from .measured import Replay
from .searching import Study
from .simulate import GRID, Outcome, Target
from .trace import Trace


def recording(trace: Trace) -> Text:
    """What was recorded, in a line."""
    t = trace.totals
    text = "%s: %s, %s events in %s, %s (%.1f bytes each); most live %s" % (
        trace.path, trace.header["host"], format(t["events"], ","), duration(t["microseconds"] * 1000),
        size(t["file_bytes"]), t["file_bytes"] / max(1, t["events"]), size(t["peak_live_bytes"]),
    )  # fmt: skip
    if t["status"] != "whole":
        text += "; %s: the first %s count" % (t["status"], size(t["bytes_read"]))
    if t["unknown"]:
        text += "; %d frees of blocks from before" % t["unknown"]
    return Text(text)


def opened(path: str) -> Trace:
    """The trace; where it is not whole, that is said."""
    trace = Trace(path)
    if trace.totals["status"] != "whole":
        print_error(warning("%s is %s: what can be read of it is replayed" % (trace.path, trace.totals["status"])))
    return trace


# --------------------------------------------------------------------------------------- ace simulate


def simulation(outcomes: Sequence[Outcome], targets: Sequence[Target]) -> Group:
    """A table of all traces, and one of what must hold."""
    columns = ["trace", "intervals", "learned / best fixed", "its delay", "learned / offline", "offline / best fixed"]
    columns += ["shuffled / learned", "Elo / learned", "delays", "changes"]
    table = new_table("Cost of memory, as a ratio", columns, spare=("changes", "delays", "its delay", "intervals"))
    table.columns[0].overflow = "crop"  # they differ at their ends
    for one in outcomes:
        ratios = [one.to_offline, one.room, one.shuffled / one.learned, one.elo / one.learned]
        table.add_row(one.trace, str(one.intervals), "%.2f" % one.to_best, "%.3g" % one.best_delay,
                      *("%.2f" % ratio for ratio in ratios), str(one.choices), str(one.changes))  # fmt: skip
    goals = new_table("Targets", ["what", "at most", "measured", "", "on"], texts=("what",), spare=("on",))
    for target in targets:
        goals.add_row(target.what, "%.3g" % target.limit, "%.3g" % target.value, "met" if target.met else "missed",
                      target.worst, style="" if target.met else "red")  # fmt: skip
    legend = (
        "best fixed: the best of %d delays in hindsight; its delay is in break-even times. offline: who knows the "
        "future. shuffled: the learner is told of other intervals than those that it decided on." % len(GRID)
    )
    return Group(table, goals, Text(legend, style="dim"))


# ----------------------------------------------------------------------------------------- ace replay


def replayed(result: Replay, predicted: Optional[Mapping[str, Tuple[float, int]]] = None) -> Group:
    """A line for each allocator; times and memory are also told as multiples of the first one's."""
    summaries = result.summaries()
    first = summaries[0]
    shows_latency = any(one.p50 is not None for one in summaries)
    columns = ["allocator", "time", "(spread)", "x", "peak", "x", "mean", "not live", "faults"]
    if shows_latency:
        columns += ["median", "99%", "99.9%"]
    if predicted:
        columns += ["program: time", "x", "program: peak", "x"]
    totals = result.trace.totals
    spare = ["faults", "(spread)", "median", "99%", "not live", "99.9%"]
    if predicted:
        spare += ["mean", "peak", "time"]
    table = new_table("%s: %d events, %s live at the most" % (
        result.trace.header.get("host"), totals["events"], size(totals["peak_live_bytes"])), columns,
        spare=spare)  # fmt: skip
    for one in summaries:
        spread = "(%.0f%%)" % (100 * (one.slowest / one.fastest - 1)) if one.rounds > 1 else ""
        row = [
            one.allocator, duration(int(one.seconds * 1e9)), spread, "%.2f" % (one.seconds / first.seconds),
            size(one.peak_bytes), "%.2f" % (one.peak_bytes / max(first.peak_bytes, 1)),
            size(int(one.mean_resident_bytes)), size(int(one.mean_excess_bytes)), str(one.faults),
        ]  # fmt: skip
        if shows_latency:
            row += ["" if ns is None else duration(ns) for ns in (one.p50, one.p99, one.p999)]
        if predicted:
            (seconds, peak), (base, base_peak) = predicted[one.allocator], predicted[first.allocator]
            row += [duration(int(seconds * 1e9)), "%.2f" % (seconds / base), size(peak), "%.2f" % (peak / base_peak)]
        table.add_row(*row)
    legend = (
        "time: processor time of all calls and of touching what they return. peak, mean: resident bytes. not live: the "
        "mean of what was resident and held nothing. x: as a multiple of the first line's."
    )
    if shows_latency:
        legend += " median, 99%, 99.9%: of single allocations, in a run of their own."
    return Group(table, Text(legend, style="dim"))


# ---------------------------------------------------------------------------------- ace sweep, ace ablate


def swept(study: Study) -> Group:
    """The trials that no other beats in both time and memory, and those set by hand."""
    table = new_table("%d trials; time and memory as multiples of the default's" % len(study.trials),
                      ["", "time", "mean memory", "peak", "options"], texts=("options",), spare=("peak",))  # fmt: skip
    by_hand = [one for one in study.trials if one["by_hand"] and not one["on_front"]]
    for one in [*study.front, *by_hand]:
        options = {name: value for name, value in one.items() if name in _option_names()}
        table.add_row(
            "by hand" if one["by_hand"] else "found", "%.3f" % one["seconds"], "%.3f" % one["mean_bytes"],
            "%.3f" % one["peak_bytes"], " ".join("%s=%s" % pair for pair in options.items()),
            style="" if one["on_front"] else "dim",
        )  # fmt: skip
    best_by_hand, best = study.gain()
    said = Text("")
    if best is not None and best_by_hand is not None:
        said = Text("Of those that take at most 1.02 x the default's time, the best holds %.3f x its memory; the best "
                    "set by hand %.3f x." % (best, best_by_hand), style="bold")  # fmt: skip
    legend = Text("Dim: beaten in both by another.", style="dim")
    return Group(table, said, legend)


def _option_names() -> List[str]:
    return [option.name for option in options()]


def ablated(rows: Sequence[Ablated], has_designs: bool) -> Group:
    """A line for each variant, and what it means for the feature."""
    table = new_table("One feature exchanged at a time, as multiples of the default's",
                      ["feature", "variant", "time", "mean memory", "peak", "faults", "the variant"],
                      texts=("feature", "variant", "the variant"), spare=("faults", "peak"))  # fmt: skip
    last = ""
    for row in rows:
        table.add_row(
            row.feature if row.feature != last else "", row.variant, "%.3f" % row.seconds, "%.3f" % row.mean,
            "%.3f" % row.peak, "%.2f" % row.faults, _meaning(row),
        )  # fmt: skip
        last = row.feature
    parts: List[RenderableType] = [table]
    if not has_designs:
        parts.append(warning("designs that no option changes were left out: name a checkout of ACE by --source"))
    parts.append(Text("A time counts where it lies on the same side in every round on every trace, %d in all at least; "
                      "memory from 1%% on." % DECIDING, style="dim"))  # fmt: skip
    return Group(*parts)


def _meaning(row: Ablated) -> str:
    said = []
    if row.comparisons < DECIDING:
        said.append("time undecided: %d of %d comparisons" % (row.comparisons, DECIDING))
    elif row.decides and abs(row.seconds - 1) >= 0.005:
        said.append("%s %.1f%% time" % ("costs" if row.seconds > 1 else "saves", 100 * abs(row.seconds - 1)))
    elif not row.decides and abs(row.seconds - 1) >= 0.02:
        said.append("time undecided: more in some of %d comparisons, less in others" % row.comparisons)
    if abs(row.mean - 1) >= 0.01:
        said.append("%s %.1f%% memory" % ("costs" if row.mean > 1 else "saves", 100 * abs(row.mean - 1)))
    return ", ".join(said) or "makes no difference"
