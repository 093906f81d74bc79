"""Runs a program under callgrind, and reads how often each instruction was executed and each jump taken."""

import collections
import dataclasses
import os
import re
import subprocess

# Absolute names and addresses make the file longer, and its lines independent of each other.
COMMAND = ["valgrind", "-q", "--tool=callgrind", "--demangle=no", "--dump-instr=yes", "--dump-line=no"]
COMMAND += ["--collect-jumps=yes"]
COMMAND += ["--compress-strings=no", "--compress-pos=no"]


@dataclasses.dataclass
class Counts:
    """Of one object file: by address, in the file's own addresses."""

    executed: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    taken: collections.Counter = dataclasses.field(default_factory=collections.Counter)  # calls and conditional jumps


@dataclasses.dataclass
class Profile:
    objects: dict  # an object file's path: Counts
    calls: dict  # (caller's name, callee's name): [calls, instructions within them, callees included]


def read(lines):
    """The Profile that a callgrind file holds."""
    objects = collections.defaultdict(Counts)
    calls = collections.defaultdict(lambda: [0, 0])
    counts = function = callee = None
    # The line after these two repeats where they stand; after `calls` it also tells what the calls took.
    pending_calls = pending_taken = None
    for line in lines:
        if line.startswith("0x"):
            address, *cost = line.split()
            if pending_calls is not None:
                call = calls[function, callee]
                call[0] += pending_calls
                call[1] += int(cost[0])
                # A jump to another function counts as a call there.
                counts.taken[int(address, 16)] += pending_calls
            elif pending_taken is not None:
                counts.taken[int(address, 16)] += pending_taken
            elif cost:
                counts.executed[int(address, 16)] += int(cost[0])
            pending_calls = pending_taken = None
        elif line.startswith("ob="):
            counts = objects[line[3:].strip()]
        elif line.startswith("fn="):
            function = line[3:].strip()
        elif line.startswith("cfn="):
            callee = line[4:].strip()
        elif line.startswith("calls="):
            pending_calls = int(line[6:].split()[0])
        elif match := re.match(r"jcnd=(\d+)/\d+ ", line):
            pending_taken = int(match[1])
        elif line.startswith("jump="):
            pending_taken = 0
    return Profile(dict(objects), dict(calls))


def run(command, folder, env):
    """The Profile of `command`, run with the variables `env` beside those of the tests without ACE's."""
    output = folder / "callgrind.out"
    full = {k: v for k, v in os.environ.items() if not k.startswith(("ACE_", "PYTHON", "LD_"))}
    full.update(env)
    result = subprocess.run(
        [*COMMAND, "--callgrind-out-file=%s" % output, *map(str, command)],
        env=full,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result
    with open(output) as lines:
        return read(lines)
