"""ACE-Alloc for Python: heaps to experiment with, and the command `ace` that runs stock programs on ACE.

    >>> from acealloc import Heap, Hint
    >>> with Heap("mine", limit=64 << 20) as heap:
    ...     block = heap.alloc(100)
    ...     heap.write(block, b"hello")
    ...     heap.free(block)
    ...     heap.hint(Hint.COLLECT_END)
    ...     returned = heap.stats()["returned_bytes"]

A heap made here lives beside the interpreter's own memory. To put the interpreter itself on ACE, start it with
`ace run -- python3 app.py`, or call `install()` early; then `phase`, `idle`, `memory_limit`, `census` and their like
speak to the heap that it lives on (acealloc/vm.py). `watch` looks into other processes' heaps (acealloc/watched.py).
"""

from ._core import (
    ALIGNMENT_MAX,
    KIND_GROUPS_MAX,
    KIND_MAX,
    AuditError,
    BadAddress,
    Heap,
    Hint,
    Learner,
    Loop,
    Option,
    abi_version,
    option_get,
    option_set,
    options,
    phases,
    stats_fields,
    tick,
    version,
)
from .allocators import Policy
from .replay import Replay, replay
from .study import Study, ablate, sweep
from .trace import Trace
from .vm import (
    CannotInstall,
    Census,
    NotActive,
    TypeRow,
    active,
    census,
    idle,
    install,
    memory_limit,
    on_pressure,
    phase,
    pinned,
    stats,
    trim,
)
from .watched import CannotWatch, WatchedProcess, watch, watchable

__version__ = version()

__all__ = [
    "ALIGNMENT_MAX",
    "KIND_GROUPS_MAX",
    "KIND_MAX",
    "AuditError",
    "BadAddress",
    "CannotInstall",
    "CannotWatch",
    "Census",
    "Heap",
    "Hint",
    "Learner",
    "Loop",
    "NotActive",
    "Option",
    "Policy",
    "Replay",
    "Study",
    "Trace",
    "TypeRow",
    "WatchedProcess",
    "abi_version",
    "ablate",
    "active",
    "census",
    "idle",
    "install",
    "memory_limit",
    "on_pressure",
    "option_get",
    "option_set",
    "options",
    "phase",
    "phases",
    "pinned",
    "replay",
    "stats",
    "stats_fields",
    "sweep",
    "tick",
    "trim",
    "version",
    "watch",
    "watchable",
]
