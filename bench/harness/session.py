"""What all runs share: the launcher, the core that programs run on, and an environment that steers nothing."""

import fcntl
import os
import tempfile
from pathlib import Path

from harness.errors import Trouble

# Nothing that steers an allocator or an interpreter may come in from outside.
FOREIGN_SETTINGS = ("ACE_", "LUA_", "LD_", "PYTHON", "VIRTUAL_ENV", "MALLOC_", "MIMALLOC_", "TCMALLOC_", "GLIBC_")


def foreign_free():
    """This process's environment without them."""
    return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN_SETTINGS)}


class Bench:
    """What all runs share. core: where programs run; None: anywhere."""

    def __init__(self, build, core, timeout):
        self.build = build = build.resolve()
        self.core = core
        self.timeout = timeout
        self.launcher = build / "bench" / "launch"
        if not self.launcher.exists():
            raise Trouble("there is no bench/launch in the build folder: configure it with -Dbench=true and build, or "
                          "start by bench/run, which does so")  # fmt: skip
        self.lock = lock_core(core)
        self.base = foreign_free()
        # Hash values decide the order of sets: the same in all runs.
        self.base["PYTHONHASHSEED"] = "0"

    def stay_aside(self):
        """The harness itself keeps off the core of the programs."""
        others = os.sched_getaffinity(0) - {self.core}
        if others:
            os.sched_setaffinity(0, others)


def lock_core(core):
    """Two sessions on one core would measure each other. Returns what holds the lock."""
    path = Path(tempfile.gettempdir()) / ("ace-bench-core-%s.lock" % core)
    try:
        file = open(path, "a")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Trouble("another bench/run uses core %s: wait for its end, or choose another by --core" % core) from None
    except OSError:
        return None  # somebody else's file: no lock is better than no run
    return file


def choose_core(wanted):
    """The core for the programs: the last of those that may be used, or what the user says."""
    usable = os.sched_getaffinity(0)
    if wanted is None:
        return max(usable)
    if wanted not in usable:
        raise Trouble("--core %d cannot be used here; there are %s" % (wanted, ", ".join(map(str, sorted(usable)))))
    return wanted
