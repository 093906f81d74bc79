"""The page of `ace report`: one HTML file, with all pictures in it, that says who wins and why."""

from __future__ import annotations

import html
import os
import tempfile
from pathlib import Path
from typing import Iterator, List, Optional, Tuple

from . import decisions
from .console import duration, size
from .errors import Failure
from .measured import Replay, Summary
from .page_pictures import Pictures, drawn

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

    # ---- the file

    def write(self, path: Path, pictures: Optional[Path] = None) -> None:
        """Writes the page; with `pictures`, a folder, each picture as a PNG, too. Failure where that fails."""
        parts = [self._head()]
        drawings = Pictures(self.result, self.subject, [one.allocator for _, one in self._rivals()])
        if pictures is not None:
            make_folder(pictures)
        for title, name, caption, draw in drawings.all():
            svg = drawn(draw, pictures / (name + ".png") if pictures else None)
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
