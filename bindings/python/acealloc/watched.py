"""Other processes' heaps: the statistics of those that run with option `stats_page` (docs/watch.md).

    with acealloc.watch(4711) as process:
        while True:
            print(process.host, [(heap.name, heap.stats["resident_bytes"]) for heap in process.heaps()])
            time.sleep(1)
            process.refresh()

A process publishes nothing while nobody asks, and a thread of its own answers: the program itself is not stopped.
"""

from __future__ import annotations

import contextlib
import operator
import os
import pwd
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Iterator, List, Optional, Tuple, Type, Union

from . import process_report
from ._core import _PAGE_FOLDER, _StatsPage

PATIENCE = 2.0
_NAME = re.compile(r"ace-stats\.(\d+)\.(\d+)\.(\d+)$")  # src/wire/stats_page.h


class CannotWatch(RuntimeError):
    """The process cannot be watched; the text says why, and what helps."""


class WatchedProcess:
    """A process with a statistics page, and what its heaps consisted of when it was asked last.

    pid; host: "CPython 3.11.2", or the program's name; command: its words; ace: its release of ACE; started: in seconds
    since 1970; birth: in clock ticks since the system began, as /proc/PID/stat has it, which with the pid tells it from
    all others; left_out: heaps for which the page had no room (thousands fit).

    Not to be used by several threads at once. Any number of processes may watch the same one.
    """

    def __init__(self, pid: int, timeout: float = PATIENCE) -> None:
        self.pid = pid
        page = _open(pid)
        self._page: Optional[_StatsPage] = page
        self.birth = page.started
        self.started = _boot_time() + page.started / os.sysconf("SC_CLK_TCK")
        self.refresh(timeout)

    def refresh(self, timeout: float = PATIENCE) -> None:
        """Asks it anew. CannotWatch where it gives no answer within `timeout` seconds: it ended, is stopped, or has
        forked and not been active since, or became another program."""
        page = self._require_page()
        try:
            text = page.ask(timeout)
        except TimeoutError:
            raise CannotWatch(_why_silent(self.pid, timeout)) from None
        self.report = process_report.parse(text.splitlines())
        if len(self.report.hosts) != 1:
            raise CannotWatch("the statistics page of process %d holds something else" % self.pid)
        self.left_out = page.left_out
        (said,) = self.report.hosts
        self.host, self.command, self.ace = said.title, said.command, said.ace

    def _require_page(self) -> _StatsPage:
        if self._page is None:
            raise CannotWatch("process %d is no longer watched: close() was called" % self.pid)
        return self._page

    def heaps(self) -> List[process_report.Heap]:
        """Its heaps at the last refresh, those made last first. `stats` is as Heap.stats() has it but for what only
        the process itself can count: blocks that are kept for re-issue count as live, and a phase's numbers come when
        the phase ends; `phase_age_ns` says how long the present one lasts, `decisions` what mode learn decided last."""
        return self.report.heaps

    def total(self, name: str) -> int:
        """The sum of a field of the statistics over all its heaps."""
        return self.report.total(name)

    @property
    def published(self) -> int:
        """How often the process has published its statistics, for whoever asked."""
        return self._require_page().published

    def close(self) -> None:
        """Lets go of the page. Nothing changes for the process."""
        self._page = None

    def __enter__(self) -> WatchedProcess:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<WatchedProcess %d: %s, %d heaps>" % (self.pid, self.host, len(self.report.heaps))


def watch(pid: int, timeout: float = PATIENCE) -> WatchedProcess:
    """The process's heaps, as they are now; refresh() asks again.

    CannotWatch where there is no such process, it has no statistics page (it was started without option `stats_page`),
    the page is another user's or another release's, or nobody answers within `timeout` seconds.
    """
    return WatchedProcess(operator.index(pid), timeout)


def watchable() -> List[int]:
    """The processes that have a statistics page, by their numbers; those of other users as well. Pages that ended
    processes left behind are removed."""
    return sorted(pid for _, pid in _pages())


def watch_each(pids: List[int], timeout: float = PATIENCE) -> List[Union[WatchedProcess, CannotWatch]]:
    """Watches several processes, asked at the same time; in place of each that cannot be watched, why."""

    def one(pid: int) -> Union[WatchedProcess, CannotWatch]:
        try:
            return watch(pid, timeout)
        except CannotWatch as problem:
            return problem

    with ThreadPoolExecutor(max_workers=64) as pool:  # some may not answer, and each takes its time for that
        return list(pool.map(one, pids))


def _open(pid: int) -> _StatsPage:
    birth = birth_of(pid)
    if birth is None:
        raise CannotWatch("there is no process %d" % pid)
    path = _page_of(pid, birth)
    try:
        page = _StatsPage(str(path))
        # Anybody can write to the folder, and who watches may be root.
        if page.owner in {0, *_users_of(pid)}:
            return page
        raise CannotWatch("what looks like the statistics page of process %d was made by another user, %s"
                          % (pid, _owner_of(path)))  # fmt: skip
    except PermissionError:
        raise CannotWatch(
            "the statistics page of process %d belongs to another user, %s, who can watch it; so can root"
            % (pid, _owner_of(path))
        ) from None
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise CannotWatch(str(error)) from None
    children = [owner for _, owner in _pages() if _descends(owner, pid)]
    if children:
        raise CannotWatch(
            "process %d has no statistics page, but has started %s, which can be watched (`ace run --report` "
            "stays the parent of its command)" % (pid, " and ".join(map(str, sorted(children))))
        )
    raise CannotWatch(
        "process %d has no statistics page: start it by `ace run --stats-page on -- COMMAND`, or with "
        "ACE_STATS_PAGE=on in its environment" % pid
    )


def _page_of(pid: int, birth: int) -> Path:
    """Where the page of a process is that began then, if it has one."""
    return Path(_PAGE_FOLDER, "ace-stats.%d.%d.%d" % (_space(), pid, birth))


def _space() -> int:
    """The namespace in which processes have the numbers that we see."""
    return os.stat("/proc/self/ns/pid").st_ino


def _pages() -> Iterator[Tuple[Path, int]]:
    """The pages of living processes."""
    space, folder = _space(), Path(_PAGE_FOLDER)
    for path in folder.iterdir() if folder.is_dir() else ():
        name = _NAME.match(path.name)
        if name is None or int(name[1]) != space:
            continue
        pid = int(name[2])
        if birth_of(pid) == int(name[3]):
            yield path, pid
        else:
            _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # another user's, or gone
        path.unlink()


def birth_of(pid: int) -> Optional[int]:
    """When the process began, in clock ticks since the system did; None where there is none."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def _descends(pid: int, ancestor: int) -> bool:
    """Was it started by that process, or by one that was?"""
    while pid > 1 and pid != ancestor:
        fields = _stat(pid)
        pid = int(fields[1]) if fields else 0
    return pid == ancestor


def _stat(pid: int) -> List[str]:
    """What /proc/PID/stat says from the process's state on; nothing where there is none."""
    try:
        text = Path("/proc/%d/stat" % pid).read_text(errors="replace")
    except OSError:
        return []
    fields = text[text.rindex(")") + 2 :].split()
    return [] if fields[0] in "ZX" else fields


def _users_of(pid: int) -> List[int]:
    """Whom it runs as, ran as, and may be again: who makes a page and changes its user later is still its maker."""
    with open("/proc/%d/status" % pid, errors="replace") as file:
        (users,) = [line.split()[1:] for line in file if line.startswith("Uid:")]
    return [int(user) for user in users]


def _why_silent(pid: int, timeout: float) -> str:
    """Why a process does not answer. A page that it has left behind, as it became another program, is removed."""
    birth = birth_of(pid)
    if birth is None:
        return "process %d has ended" % pid
    path = _page_of(pid, birth)
    with contextlib.suppress(OSError):
        if path.exists() and path.name not in Path("/proc/%d/maps" % pid).read_text(errors="replace"):
            _remove(path)
            return "process %d has become another program, without a statistics page" % pid
    if not path.exists():
        return "process %d cannot be watched any more: its first thread has ended" % pid
    return (
        "process %d did not answer within %g s: it is stopped, or has forked and not collected since" % (pid, timeout)
    )


def _owner_of(path: Path) -> str:
    try:
        uid = path.stat().st_uid
    except OSError:
        return "unknown"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _boot_time() -> int:
    """In seconds since 1970, as the kernel rounds it: the same each time, unless the clock is set."""
    lines = Path("/proc/stat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("btime "))
