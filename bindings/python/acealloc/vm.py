"""The heap that this interpreter lives on, where it was started by `ace run` (or with the preloaded library).

    with acealloc.phase("request"):
        serve()
    with acealloc.idle():
        time.sleep(60)
    with acealloc.memory_limit(extra=64 << 20):
        run_what_nobody_trusts()
    print(acealloc.census())

An interpreter that was started without it can still be put on ACE, for what it allocates from then on: `install()`.
Elsewhere `active()` is False; phases do nothing then, so that a program may send them always, and what would have to
answer raises NotActive.
"""

from __future__ import annotations

import atexit
import importlib.machinery
import importlib.util
import operator
import os
import sys
import threading
import time
from contextlib import ContextDecorator, contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional

try:
    import _ace  # type: ignore[import-not-found]  # built into an interpreter that ACE has entered
except ImportError:
    _ace = None


class NotActive(RuntimeError):
    """This interpreter does not live on ACE."""

    def __init__(self, what: str):
        super().__init__(
            "%s needs an interpreter on ACE: start it by `ace run -- python3 ...`, or call install() early" % what
        )


class CannotInstall(RuntimeError):
    """This interpreter cannot be put on ACE any more. It goes on as it was."""


def install(library: Optional[str] = None) -> None:
    """Puts the running interpreter on ACE, where the program cannot be started by `ace run`; as early as possible.

    What it allocates from now on comes from ACE; what it has goes back to where it came from, and costs a little more
    to free. ACE_LIMIT and the other options count as they stand in the environment. It cannot be undone. Where it
    lives on ACE already nothing happens. CannotInstall where that would not be safe: tracemalloc, a memory profiler or
    debug hooks are in place, there are subinterpreters, or it is a free-threaded build.

    library: the path of libace-preload.so; the package's own by default.
    """
    global _ace
    if active():
        return
    if _ace is not None:
        raise CannotInstall("this interpreter cannot be put on ACE: another allocator has taken its place (-X dev, or "
                            "PYTHONMALLOC)")  # fmt: skip
    if library is None:
        from . import preload

        library = preload.library()
    loader = importlib.machinery.ExtensionFileLoader("_ace", library)
    spec = importlib.util.spec_from_file_location("_ace", library, loader=loader)
    assert spec is not None
    try:
        module = importlib.util.module_from_spec(spec)
    except SystemError:
        raise CannotInstall("this interpreter cannot be put on ACE: it was loaded after %s, which does not see it: "
                            "start the program without LD_PRELOAD" % library) from None  # fmt: skip
    try:
        module.enter()
    except RuntimeError as reason:
        raise CannotInstall("this interpreter cannot be put on ACE: %s" % reason) from None
    sys.modules["_ace"] = _ace = module


def active() -> bool:
    """Does this interpreter allocate from ACE?

    False, too, where the preloaded library entered but another allocator has taken its place (-X dev), and from CPython
    3.12 on in subinterpreters, which have heaps of their own.
    """
    return _ace is not None and bool(_ace.active())


def _entered(what: str) -> Any:
    if not active():
        raise NotActive(what)
    return _ace


@contextmanager
def phase(name: str = "burst") -> Iterator[None]:
    """Says that many allocations follow which belong together: a request, a parse, an import.

    It is counted as the phase `burst` in reports. May be nested. `name` is for the reader alone.
    """
    if _ace is None:
        yield
        return
    try:
        _ace.hint("burst_begin")  # a signal's handler may raise as soon as it returns
        yield
    finally:
        _ace.hint("burst_end")


@contextmanager
def idle() -> Iterator[None]:
    """Says that the program waits now, for about a second or longer: free memory may go back."""
    if _ace is None:
        yield
        return
    try:
        _ace.hint("idle_begin")
        yield
    finally:
        _ace.hint("idle_end")


def trim() -> int:
    """Gives all free memory back now and returns its bytes. Takes about 0.1 ms a MiB, under the GIL."""
    return int(_entered("trim").trim())


def stats() -> Dict[str, Dict[str, int]]:
    """The statistics of the interpreter's heaps: "python" (mem and obj) and "python raw"; fields as in Heap.stats(),
    which has phases and kinds besides."""
    return dict(_entered("stats").stats())


class memory_limit(ContextDecorator):
    """While it lasts the interpreter's objects may not take more memory: beyond it comes MemoryError.

    limit: so many resident bytes of the heap "python" in all; 0 for none. extra: so many beyond what it holds now, for
    which what is free goes back first where it is more than a quarter of that. Threads and tasks of the interpreter
    share the limit: of several that are in force the one entered last counts, and at the end of the last what was
    before, so that a program survives what was too much. What comes from elsewhere (NumPy's arrays, C libraries) does
    not count. Once it has refused something, small requests may take up to 1 MiB beyond it, for the way to whoever
    handles the MemoryError; up to 4 MiB where the program goes on regardless.
    """

    def __init__(self, limit: Optional[int] = None, *, extra: Optional[int] = None):
        if (limit is None) == (extra is None):
            raise TypeError("memory_limit takes either limit or extra")
        self._limit = None if limit is None else _bytes(limit)
        self._extra = None if extra is None else _bytes(extra)
        self._in_force: object = None
        self._leave: Callable[[object], object] = lambda in_force: None

    def _recreate_cm(self) -> memory_limit:
        return memory_limit(self._limit, extra=self._extra)

    def __enter__(self) -> None:
        entered = _entered("memory_limit")
        if self._in_force is not None:
            raise RuntimeError("this memory_limit is in force already: make one for each `with`")
        limit = self._limit
        if self._extra is not None:
            limit = min(_held(entered, self._extra // 4) + self._extra, sys.maxsize)
        self._leave = entered.leave_limit
        self._in_force = entered.enter_limit(limit)

    # There may be no memory for anything here, so that this is one call which needs none. Where it is not reached, as
    # a signal's handler may raise at any place, the limit ends with what keeps it in force.
    def __exit__(self, kind: object, value: object, trace: object) -> None:
        self._leave(self._in_force)
        self._in_force = None


def _bytes(value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if number < 0:
        raise ValueError("memory_limit takes bytes as an int, not %r" % (value,))
    return min(number, sys.maxsize)


def _held(entered: Any, bearable: int) -> int:
    """What the interpreter's heap holds, resident; no more than so many bytes of it for nothing that could go back."""

    def look() -> Dict[str, int]:
        heaps = entered.stats()
        return heaps.get("python") or heaps["python raw"]  # type: ignore[no-any-return]

    stats = look()
    if stats["resident_bytes"] - stats["live_bytes"] > bearable:
        entered.trim()
        stats = look()
    return stats["resident_bytes"]


def on_pressure(listener: Optional[Callable[[], object]]) -> None:
    """`listener()` is called once seven eighths of the memory limit are in use, to drop caches and the like.

    By the main thread, between two bytecodes, so not before the code that allocates next has a chance to hit the
    limit. Again once less than three quarters were in use: when it has returned, and what is free went back, or after
    a collection. None: nobody is called.
    """
    set_listener = _entered("on_pressure").set_listener
    set_listener(listener)
    # What it holds is finalized at exit like everything else.
    atexit.unregister(set_listener)
    atexit.register(set_listener, None)


@dataclass(frozen=True)
class TypeRow:
    """What the objects of one type take.

    name: the type's, with its module; "(no object)": tables and buffers of objects, "(raw)": the raw domain.
    type: itself; None for these two. count: objects. bytes: of their blocks. pages: of 4 KiB, that hold some of them.
    sparse_pages: those of them of which three quarters are free. held_bytes: the free bytes of these pages, shared out
    to the objects on them: what could go back if they did not live.
    """

    name: str
    type: Optional[type]
    count: int
    bytes: int
    pages: int
    sparse_pages: int
    held_bytes: int

    @property
    def domain(self) -> str:
        """The allocator domain: obj for objects, mem for what they hold (before 3.12 dictionaries' tables are obj)."""
        return "obj" if self.type is not None else "raw" if self.name == "(raw)" else "mem"


@dataclass(frozen=True)
class Census:
    """A count of an interpreter's objects by type. seconds: how long it took; steps: in how many parts."""

    rows: List[TypeRow]
    seconds: float
    steps: int

    def __getitem__(self, wanted: type) -> TypeRow:
        for row in self.rows:
            if row.type is wanted:
                return row
        raise KeyError(wanted)

    def __str__(self) -> str:
        return table(self.rows)


def table(rows: List[TypeRow], length: int = 20) -> str:
    """The first rows as text."""
    lines = ["%12s %12s %8s %8s %12s  %s" % ("objects", "bytes", "pages", "sparse", "held bytes", "type")]
    for row in rows[:length]:
        figures = (row.count, row.bytes, row.pages, row.sparse_pages, row.held_bytes, row.name)
        lines.append("%12d %12d %8d %8d %12d  %s" % figures)
    if len(rows) > length:
        lines.append("... and %d types more" % (len(rows) - length))
    return "\n".join(lines)


# One thread counts at a time. Who is in the midst of it comes in again, a signal's handler or a listener, and is
# refused by the census.
_one_census = threading.RLock()


def _begin_anew() -> None:
    global _one_census
    _one_census = threading.RLock()


os.register_at_fork(after_in_child=_begin_anew)


def census(pause: float = 0.005) -> Census:
    """Counts all objects of this interpreter by type, the most bytes first.

    It looks at the heap in parts of about `pause` seconds (an area of 2 MiB at least, about a millisecond), between
    which other threads run; so the figures of a program that goes on meanwhile are those of no single moment. Objects
    are known by their headers (bindings/python/hook/census.h says how), not asked, so nothing of the program is
    called. Static objects of the interpreter and of extensions are not in the heap.
    """
    entered = _entered("census")
    with _one_census:
        types = _all_types()
        begin = time.perf_counter()
        under_way = entered.census_begin(types)
        try:
            steps = 1
            while entered.census_step(int(pause * 1e9)):
                steps += 1
                # Long enough that a thread that waits for the GIL is awake before it is asked for again: sleep(0) gives
                # the GIL back and mostly gets it at once.
                time.sleep(1e-4)
            found = entered.census_end()
        finally:
            del under_way  # who keeps the traceback would keep it, too
    names = [_name_of(kind) for kind in types] + ["(no object)", "(raw)"]
    rows = [
        TypeRow(name, kind, *figures)
        for name, kind, figures in zip(names, types + [None, None], found)
        if figures[0]
    ]
    rows.sort(key=lambda row: row.bytes, reverse=True)
    return Census(rows, time.perf_counter() - begin, steps)


def pinned(pause: float = 0.005) -> List[TypeRow]:
    """Which types keep mostly empty pages from going back: a census, the most held bytes first."""
    rows = [row for row in census(pause).rows if row.held_bytes]
    return sorted(rows, key=lambda row: row.held_bytes, reverse=True)


def _all_types() -> List[type]:
    seen = {id(object): object}  # a metaclass may have an equality and a hash of its own
    waiting = [object]
    while waiting:
        for kind in type.__subclasses__(waiting.pop()):
            if id(kind) not in seen:
                seen[id(kind)] = kind
                waiting.append(kind)
    return list(seen.values())


def _name_of(kind: type) -> str:
    # Past what a metaclass may have to say, which could be anything.
    name = str(type.__dict__["__qualname__"].__get__(kind))
    try:
        module = type.__dict__["__module__"].__get__(kind)
    except AttributeError:
        return name
    return name if module == "builtins" else "%s.%s" % (module, name)
