"""The pictures of `ace report`, from a replay: memory over time, time against memory, latency, and the pages around a
collection.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from ._core import Hint
from .console import size
from .errors import Failure
from .measured import Replay, Run, histogram_of
from .packages import need

MIB = 2.0**20
COLOURS = {
    "own": "#6f6f6f", "glibc": "#a5763f", "mimalloc": "#e08e0b", "jemalloc": "#b3312f", "tcmalloc": "#3d8b41",
    "ace": "#0b6fb8",
}  # fmt: skip
MORE_COLOURS = ("#7b4fa3", "#1f9d9d", "#c2579a", "#5a6b1f", "#403f8f", "#000000")
# What is shaded, by the hints that begin and end it.
SHADES = (
    ("collection", Hint.COLLECT_BEGIN, Hint.COLLECT_END, "#d95f5f"),
    ("idle", Hint.IDLE_BEGIN, Hint.IDLE_END, "#8fb3d9"),
    ("burst", Hint.BURST_BEGIN, Hint.BURST_END, "#d9c27a"),
)
PAGES_WIDE = 128  # of a heat map


class Pictures:
    """What can be drawn of a replay.

    result: with the runs of detail. subject: the allocator that stands out. rivals: those it is compared with, the
    most important first.
    """

    def __init__(self, result: Replay, subject: str, rivals: Sequence[str]) -> None:
        self.result, self.subject, self.rivals = result, subject, rivals
        self.summaries = {one.allocator: one for one in result.summaries()}
        more = iter(MORE_COLOURS * (1 + len(self.summaries)))
        self.colours: Dict[str, str] = {}
        for name in self.summaries:
            base = name.rsplit("-hinted", 1)[0]
            self.colours[name] = COLOURS.get(base) or self.colours.get(base) or next(more)

    def all(self) -> Iterator[Tuple[str, str, str, Callable[[Any], bool]]]:
        """(title, file name, caption, what draws it into a figure; False: there is nothing to draw). See drawn."""
        yield ("Resident memory over time", "memory", "Grey: what the program had asked for and not freed. Shaded: "
               "what the program told of itself.", self._draw_memory)  # fmt: skip
        yield ("Time and memory", "front", "Left: each allocator by its time and by what it held on average; the line "
               "joins those that no other beats in both. Right: what was held on average, and how much of it was "
               "live.", self._draw_front)  # fmt: skip
        yield ("How long an allocation takes", "latency", "Of 1,000 allocations one takes longer than the value at "
               "99.9%.", self._draw_latency)  # fmt: skip
        yield ("Resident pages around the collection that freed most", "pages", "A dot is a page of 4 KiB, in the "
               "order of addresses; dark: full of live blocks, yellow: nearly empty, red: empty. After: when the "
               "program takes some of it again, or a second later.",
               self._draw_pages)  # fmt: skip

    def _run(self, name: str) -> Run:
        return self.result.timed(name)[0]

    def _draw_memory(self, figure: Any) -> bool:
        axes = figure.subplots()
        base = self._run(self.subject).samples
        axes.fill_between([at for at, _, _ in base], [live / MIB for _, _, live in base], color="#dddddd",
                          label="live", linewidth=0, step="post")  # fmt: skip
        for name in self.summaries:
            if name != "none":
                samples = self._run(name).samples
                dashed = name.endswith("-hinted")
                axes.plot([at for at, _, _ in samples], [resident / MIB for _, resident, _ in samples], label=name,
                          color=self.colours[name], linewidth=2.2 if name == self.subject else 1.2,
                          linestyle="--" if dashed else "-", drawstyle="steps-post")  # fmt: skip
        self._shade(axes)
        axes.set(xlabel="seconds", ylabel="MiB", xlim=(0, base[-1][0] or 1e-6), ylim=(0, None))
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
        return True

    def _shade(self, axes: Any) -> None:
        end = self.result.trace.totals["microseconds"] / 1e6
        hints = self.result.trace.hints()
        for label, begin, finish, colour in SHADES:
            spans: List[Tuple[float, float]] = []
            opened: Dict[int, float] = {}
            for hint in hints:
                if hint.hint == begin:
                    opened.setdefault(hint.heap, hint.seconds)
                elif hint.hint == finish and hint.heap in opened:
                    spans.append((opened.pop(hint.heap), hint.seconds))
            spans += [(at, end) for at in opened.values()]
            for i, (left, right) in enumerate(merged(spans, end / 500)):
                axes.axvspan(left, right, color=colour, alpha=0.25, linewidth=0, label=label if i == 0 else None)

    def _draw_front(self, figure: Any) -> bool:
        left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": (3, 2)})
        points = [(one.seconds, one.mean_resident_bytes / MIB, one.allocator) for one in self.summaries.values()
                  if one.allocator != "none"]  # fmt: skip
        front = pareto(points)
        left.plot([x for x, _, _ in front], [y for _, y, _ in front], color="#bbbbbb", zorder=1, linewidth=1)
        for x, y, name in points:
            left.scatter([x], [y], color=self.colours[name], s=90 if name == self.subject else 45, zorder=2,
                         marker="D" if name.endswith("-hinted") else "o")  # fmt: skip
            left.annotate(name, (x, y), xytext=(6, 4), textcoords="offset points", fontsize=9)
        left.margins(x=0.15)
        left.set(xlabel="seconds of processor time", ylabel="MiB resident on average",
                 ylim=(0, 1.12 * max(y for _, y, _ in points) or 1))  # fmt: skip
        names = [name for _, _, name in sorted(points, key=lambda point: -point[1])]
        live = [self.summaries[name].mean_resident_bytes / MIB - self.summaries[name].mean_excess_bytes / MIB
                for name in names]  # fmt: skip
        excess = [self.summaries[name].mean_excess_bytes / MIB for name in names]
        right.barh(names, live, color="#cccccc", label="live")
        right.barh(names, excess, left=live, color=[self.colours[name] for name in names], label="not live")
        right.set(xlabel="MiB resident on average")
        return True

    def _draw_latency(self, figure: Any) -> bool:
        axes = figure.subplots()
        drawn = False
        for name in self.summaries:
            detail = self.result.detail(name)
            if detail is None or name == "none" or not detail.latency.get("alloc"):
                continue
            histogram = histogram_of(detail.latency["alloc"])
            shares = [1 - 10 ** (-i / 8) for i in range(1, 49)]
            axes.plot(range(1, 49), [histogram.get_value_at_percentile(q * 100) for q in shares], label=name,
                      color=self.colours[name], linewidth=2.2 if name == self.subject else 1.2,
                      linestyle="--" if name.endswith("-hinted") else "-")  # fmt: skip
            drawn = True
        if not drawn:
            return False
        marks = ["90%", "99%", "99.9%", "99.99%", "99.999%", "99.9999%"]
        axes.set_xticks([8 * i for i in range(1, 7)], marks)
        axes.set(yscale="log", ylabel="nanoseconds", xlim=(1, 48))
        axes.grid(True, which="major", color="#eeeeee")
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
        return True

    def _draw_pages(self, figure: Any) -> bool:
        names = [name for name in [*self.rivals[:2], self.subject] if self._pages(name)]
        if not names:
            return False
        import numpy
        from matplotlib.colors import LinearSegmentedColormap

        from_red_to_blue = ["#c8331e", "#f6d55c", "#2f6f9f", "#0c2340"]
        colours = LinearSegmentedColormap.from_list("fill", from_red_to_blue).with_extremes(bad="#ffffff")
        pages = {(name, moment): self._pages(name)[moment] for name in names for moment in ("before", "after")}
        tallest = max(math.ceil(len(fill) / PAGES_WIDE) for fill in pages.values())
        axes = figure.subplots(1, 2 * len(names))
        for place, ((name, moment), fill) in zip(axes, pages.items()):
            image = numpy.full(tallest * PAGES_WIDE, numpy.nan)
            image[: len(fill)] = numpy.frombuffer(fill, numpy.uint8)
            place.imshow(image.reshape(tallest, PAGES_WIDE), cmap=colours, vmin=0, vmax=255, aspect="auto",
                         interpolation="nearest")  # fmt: skip
            share = sum(fill) / (255 * len(fill)) if fill else 0
            place.set_title("%s, %s\n%s, %d%% of it live" % (
                name, moment, size(len(fill) * 4096), round(100 * share)), fontsize=8)  # fmt: skip
            place.set_xticks([])
            place.set_yticks([])
        return True

    def _pages(self, name: str) -> Dict[str, bytes]:
        detail = self.result.detail(name)
        return detail.pages if detail is not None else {}


def drawn(draw: Callable[[Any], bool], png: Optional[Path]) -> str:
    """The picture as SVG, "" where there is none; with `png`, in that file too. Failure where that fails."""
    plt = pyplot()
    figure = plt.figure(figsize=(9.6, 4.2), layout="constrained")
    try:
        if not draw(figure):
            return ""
        if png is not None:
            try:
                figure.savefig(png, dpi=110)
            except OSError as error:
                raise Failure("%s cannot be written: %s" % (png, error.strerror)) from None
        text = io.StringIO()
        figure.savefig(text, format="svg")
        return text.getvalue()[text.getvalue().index("<svg") :]
    finally:
        plt.close(figure)


def merged(spans: Sequence[Tuple[float, float]], gap: float) -> List[Tuple[float, float]]:
    """Spans in order, those joined that overlap or are no further apart than `gap`."""
    found: List[Tuple[float, float]] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1] + gap:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((begin, end))
    return found


def pareto(points: Sequence[Tuple[float, float, str]]) -> List[Tuple[float, float, str]]:
    """The points that no other beats in both coordinates, by the first of them."""
    front: List[Tuple[float, float, str]] = []
    for point in sorted(points):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    return front


def pyplot() -> Any:
    """matplotlib.pyplot, for files alone. Failure where it is not here."""
    matplotlib = need("matplotlib", "pictures need")
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "ace", "font.family": "sans-serif"})
    if "text.parse_math" in matplotlib.rcParams:  # since 3.6
        matplotlib.rcParams["text.parse_math"] = False  # names may have dollars
    import matplotlib.pyplot as plt

    return plt
