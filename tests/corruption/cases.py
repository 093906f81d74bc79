"""The cases of tests/corruption/mistakes.c, and how a run of one ends."""

import dataclasses
import os
import signal
import subprocess


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    title: str
    hardened: str  # what ACE must say, a part of its message; "signal": a page that nobody may touch; "": nothing
    plain: str  # the same of a heap that is not hardened
    in_malloc: bool


@dataclasses.dataclass(frozen=True)
class End:
    status: int
    said: str

    @property
    def word(self):
        """seen: the allocator ended the process; told: it wrote a line, and the process went on; fault: a signal ended
        it; unseen: it went on and ended well; harm: with a wrong answer."""
        if self.status == 0:
            return "told" if self.said else "unseen"
        if self.status == 3:
            return "harm"
        if self.status == -signal.SIGABRT or (self.status in (-signal.SIGILL, -signal.SIGTRAP)):
            return "seen"
        return "fault" if self.status < 0 else "harm"


def cases(program):
    lines = subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.splitlines()
    rows = [line.split("\t") for line in lines]
    return [Case(name, title, hardened, plain, bool(malloc)) for name, title, hardened, plain, malloc in rows]


def run(program, allocator, name, **environment):
    """The End of a run; one that hangs counts as harm."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ACE_", "MALLOC_", "LD_PRELOAD"))} | environment
    try:
        done = subprocess.run([program, allocator, name], env=env, capture_output=True, timeout=60)
    except subprocess.TimeoutExpired:
        return End(3, "hangs")
    return End(done.returncode, done.stderr.decode(errors="replace").strip())
