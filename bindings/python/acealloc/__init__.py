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

from importlib import import_module
from typing import TYPE_CHECKING, Any, List

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

# What speaks to the interpreter's own heap is Python alone. The rest is loaded when it is first asked for: the compiled
# module takes some time and memory, and cannot be loaded into every subinterpreter.
_LATER = ("_core", "trace", "watched", "allocators", "measured", "replaying", "searching", "ablating")

if TYPE_CHECKING:
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
    from .ablating import ablate
    from .allocators import Policy
    from .measured import Replay
    from .replaying import replay
    from .searching import Study, sweep
    from .trace import Trace
    from .watched import CannotWatch, WatchedProcess, watch, watchable

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


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("._core", __name__).version()
    if name in __all__:
        for module in _LATER:
            found = getattr(import_module("." + module, __name__), name, None)
            if found is not None:
                globals()[name] = found
                return found
    raise AttributeError("module %r has no attribute %r" % (__name__, name))


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
