"""The page of `ace report`: one HTML file, with all pictures in it, that says who wins and why."""

from __future__ import annotations

import html
import io
import math
import os
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from . import decisions
from ._core import Hint
from .console import duration, size
from .errors import Failure
from .measured import Replay, Run, Summary, histogram_of

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
HEAD = "<!doctype html><html lang=en><meta charset=utf-8>"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1000px; padding: 0 1em; color: #222; }
h1 { font-size: 1.5em; margin-bottom: 0; } h2 { font-size: 1.15em; margin: 2em 0 .3em; }
p.verdict { font-size: 1.25em; margin: .6em 0; } p.note, figcaption { color: #666; font-size: .9em; }
table { border-collapse: collapse; margin: .5em 0; } td, th { padding: .2em .7em; text-align: right; }
th { border-bottom: 1px solid #999; font-weight: 600; } td:first-child, th:first-child { text-align: left; }
tr.ours td { font-weight: 600; } .scroll { overflow-x: auto; } figure { margin: .5em 0; }
svg, img { max-width: 100%; height: auto; } .two { display: flex; flex-wrap: wrap; gap: 1em; }
.two figure { flex: 1 1 440px; }
"""


def is_page(start: bytes) -> bool:
    """Does a page of ours begin so?"""
    return start.startswith(HEAD.encode()) and b"<title>ACE: " in start[:1000]


class Page:
    """A report of a replay.

    result: with the runs of detail. subject: the allocator that is compared with the others, "ace" by default.
    """

    def __init__(self, result: Replay, subject: str = "ace") -> None:
        self.result, self.subject = result, subject
        self.summaries = {one.allocator: one for one in result.summaries()}
        if subject not in self.summaries:
            raise Failure("nothing was replayed on '%s'" % subject)
        self.others = [one for name, one in self.summaries.items() if name != subject]
        more = iter(MORE_COLOURS * (1 + len(self.summaries)))
        self.colours: Dict[str, str] = {}
        for name in self.summaries:
            base = name.rsplit("-hinted", 1)[0]
            self.colours[name] = COLOURS.get(base) or self.colours.get(base) or next(more)

    # ---- the file

    def write(self, path: Path, pictures: Optional[Path] = None) -> None:
        """Writes the page; with `pictures`, a folder, each picture as a PNG, too. Failure where that fails."""
        parts = [self._head()]
        for title, name, caption, draw in self._pictures():
            svg = self._draw(draw, pictures / (name + ".png") if pictures else None)
            if svg:
                parts.append("<h2>%s</h2><figure>%s<figcaption>%s</figcaption></figure>" % (title, svg, caption))
        parts.append(self._decisions())
        parts.append(self._foot())
        text = HEAD + "<meta name=viewport content='width=device-width'>"
        text += "<title>%s</title><style>%s</style><body>%s</body></html>\n" % (
            html.escape("ACE: " + self._program()), STYLE, "\n".join(parts))  # fmt: skip
        place = path.resolve()
        # A page is whole or not there; what is no file, as /dev/stdout, is written to as it is.
        new = place if place.exists() and not place.is_file() else place.with_name(place.name + ".new")
        try:
            new.write_text(text, encoding="utf-8", errors="replace")
            if new != place:
                new.rename(place)
        except OSError as error:
            if new != place:
                new.unlink(missing_ok=True)
            raise Failure("%s cannot be written: %s" % (path, error.strerror)) from None

    def _pictures(self) -> Iterator[Tuple[str, str, str, Callable[[Any], bool]]]:
        """(title, file name, caption, what draws it into a figure; False: there is nothing to draw)"""
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

    def _draw(self, draw: Callable[[Any], bool], png: Optional[Path]) -> str:
        plt = _pyplot()
        figure = plt.figure(figsize=(9.6, 4.2), layout="constrained")
        try:
            if not draw(figure):
                return ""
            if png is not None:
                make_folder(png.parent)
                try:
                    figure.savefig(png, dpi=110)
                except OSError as error:
                    raise Failure("%s cannot be written: %s" % (png, error.strerror)) from None
            text = io.StringIO()
            figure.savefig(text, format="svg")
            return text.getvalue()[text.getvalue().index("<svg") :]
        finally:
            plt.close(figure)

    # ---- the head

    def _program(self) -> str:
        command = self.result.trace.header.get("command") or ["a program"]
        text = " ".join([Path(command[0]).name, *map(str, command[1:])])
        return text if len(text) <= 100 else text[:99] + "…"

    def verdict(self) -> List[str]:
        """One sentence for each comparison that matters: with the VM's own, and with the best of the others."""
        ours = self.summaries[self.subject]
        lines = []
        for title, other in self._rivals():
            lines.append(
                "%s takes %s the time and holds %s the memory of %s."
                % (self.subject, times(ours.seconds / other.seconds),
                   times(ours.mean_resident_bytes / max(other.mean_resident_bytes, 1)), title)
            )  # fmt: skip
        return lines

    def _rivals(self) -> Iterator[Tuple[str, Summary]]:
        own = next((one for one in self.others if one.allocator == "own"), None)
        if own is not None:
            yield "the VM's own allocator", own
        rest = [one for one in self.others if one is not own and one.allocator != "none"]
        if rest:
            least = min(rest, key=lambda one: one.mean_resident_bytes)
            fastest = min(rest, key=lambda one: one.seconds)
            yield "%s, %s" % (least.allocator, "the most frugal of the others"), least
            if fastest is not least:
                yield "%s, the fastest of the others" % fastest.allocator, fastest

    def _head(self) -> str:
        totals, header = self.result.trace.totals, self.result.trace.header
        verdict = "".join("<p class=verdict>%s</p>" % html.escape(line) for line in self.verdict())
        note = "%s: %s calls in %.1f s, %s live at the most." % (
            header.get("host"), format(totals["events"], ","), totals["microseconds"] / 1e6,
            size(totals["peak_live_bytes"]))  # fmt: skip
        return "<h1>%s</h1><p class=note>%s</p>%s%s" % (
            html.escape(self._program()), html.escape(note), verdict, self._table())  # fmt: skip

    def _table(self) -> str:
        base = next(iter(self.summaries.values()))
        rows = []
        for one in self.summaries.values():
            cells = [
                one.allocator, duration(int(one.seconds * 1e9)), "%.2f" % (one.seconds / base.seconds),
                size(one.peak_bytes), size(int(one.mean_resident_bytes)),
                "%.2f" % (one.mean_resident_bytes / max(base.mean_resident_bytes, 1)),
                size(int(one.mean_excess_bytes)), format(one.faults, ","),
                *("" if ns is None else duration(ns) for ns in (one.p50, one.p99, one.p999)),
            ]  # fmt: skip
            style = " class=ours" if one.allocator == self.subject else ""
            rows.append("<tr%s>%s</tr>" % (style, "".join("<td>%s</td>" % html.escape(cell) for cell in cells)))
        heads = ["allocator", "time", "×", "peak", "mean", "×", "not live", "faults", "median", "99%", "99.9%"]
        return "<div class=scroll><table><tr>%s</tr>%s</table></div>" % (
            "".join("<th>%s</th>" % head for head in heads), "".join(rows))  # fmt: skip

    def _foot(self) -> str:
        rounds = min(one.rounds for one in self.summaries.values())
        return (
            "<p class=note>time: processor time of all calls of the allocator and of touching what they return, in a "
            "replay by one thread; median of %d. peak, mean: resident bytes; not live: the mean of what was resident "
            "and held nothing. ×: as a multiple of the first line's. median, 99%%, 99.9%%: of single allocations, in a "
            "run of their own.</p>" % rounds
        )

    # ---- the pictures

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
        axes.set(xlabel="seconds", ylabel="MiB", xlim=(0, base[-1][0]), ylim=(0, None))
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
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
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
                 ylim=(0, 1.12 * max(y for _, y, _ in points)))  # fmt: skip
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
        rivals = [one.allocator for _, one in self._rivals()][:2]
        names = [name for name in [*rivals, self.subject] if self._pages(name)]
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

    # ---- the loop's decisions

    def _decisions(self) -> str:
        detail = self.result.detail(self.subject)
        if detail is None or not detail.log:
            return ""
        with tempfile.NamedTemporaryFile("w", suffix=".log") as file:
            file.write(detail.log)
            file.flush()
            try:
                log = decisions.read(Path(file.name))
            except decisions.NoLog:
                return ""
        rows = []
        gained = 0
        for heap in log.heaps:
            for name, one in heap.contexts().items():
                gained += one.prior - one.cost
                cells = [name, str(one.intervals), duration(one.cost), duration(one.prior), duration(one.least)]
                rows.append("<tr>%s</tr>" % "".join("<td>%s</td>" % html.escape(cell) for cell in cells))
        if not rows:
            return ""
        heads = ["occasion", "intervals", "cost of what it decided", "had it learned nothing", "the least possible"]
        return (
            "<h2>What the loop decided</h2><p>In processor time, with held memory at its price, learning %s %s.</p>"
            "<div class=scroll><table><tr>%s</tr>%s</table></div>"
            % ("gained" if gained >= 0 else "cost", duration(abs(gained)),
               "".join("<th>%s</th>" % head for head in heads), "".join(rows))
        )  # fmt: skip


def make_folder(path: Path) -> None:
    """Makes a folder for pictures where there is none. Failure where nothing can be written to it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure("%s cannot be made: %s" % (path, error.strerror)) from None
    if not os.access(path, os.W_OK):
        raise Failure("%s cannot be written to" % path)


def times(ratio: float) -> str:
    """A ratio for people: 0.41 ×."""
    return "%.2f ×" % ratio


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


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise Failure("pictures need matplotlib: pip install 'matplotlib>=3.5'") from None
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "ace", "font.family": "sans-serif"})
    if "text.parse_math" in matplotlib.rcParams:  # since 3.6
        matplotlib.rcParams["text.parse_math"] = False  # names may have dollars
    import matplotlib.pyplot as plt

    return plt
