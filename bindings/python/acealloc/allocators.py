"""Allocators by name: ACE under any options, what a VM has by itself, and others, as the replayer is told of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from typing import List, Mapping, Tuple, Union

from . import libraries, program
from ._core import option_get, option_set
from ._core import options as option_table
from .errors import Failure
from .trace import Trace

HINTED = "-hinted"
# Options of the libraries that are preloaded into hosts.
NO_EFFECT = ("limit", "domains", "debug_hooks", "report", "record", "verbose")
USUAL = ("own", "glibc", "mimalloc", "jemalloc")


@dataclass(frozen=True)
class Policy:
    """ACE with these options (`ace options` lists them); what is not named has its default.

    name: how results call it. options: by name, as text: Policy("held", mode="off"). replayer: another build's.
    """

    name: str
    options: Mapping[str, str]
    replayer: str = ""

    def __init__(self, name: str = "ace", **options: str) -> None:
        known = {option.name for option in option_table()}.difference(NO_EFFECT)
        for option, value in options.items():
            if option in NO_EFFECT:
                raise Failure("the option '%s' has no effect in a replay: `ace run` takes it" % option)
            if option not in known:
                raise Failure("there is no option '%s'; there are %s" % (option, ", ".join(sorted(known))))
            _require_value(option, value)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "options", dict(options))

    def built_as(self, replayer: str) -> "Policy":
        """The same on another build of ACE: its replayer."""
        other = Policy(self.name, **self.options)
        object.__setattr__(other, "replayer", replayer)
        return other

    @classmethod
    def parse(cls, text: str) -> "Policy":
        """[NAME:]OPTION=VALUE,OPTION=VALUE; "ace" alone: the defaults. Without a name it is called as it is written."""
        name, colon, rest = text.partition(":")
        if not colon or "=" in name:
            name, rest = text, text
        if rest == "ace":
            return cls("ace")
        # A value may hold commas itself, as a path does: a pair begins where a name and '=' do.
        pairs = [pair.partition("=") for pair in re.split(",(?=[^,=]*=)", rest)]
        if not all(option and equals and value for option, equals, value in pairs):
            raise Failure("the policy '%s': it must be [NAME:]OPTION=VALUE,OPTION=VALUE, or ace" % text)
        return cls(name, **{option: value for option, _, value in pairs})


def _require_value(option: str, value: str) -> None:
    """Failure where the table's own parser does not take it. That parser sets what it takes: it is set back."""
    before = option_get(option)
    try:
        option_set(option, value)
    except ValueError as error:
        raise Failure(str(error)) from None
    option_set(option, before)


@dataclass(frozen=True)
class Target:
    """How the replayer is told of an allocator."""

    name: str
    words: Tuple[str, ...]
    preload: str = ""
    python: str = ""
    replayer: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


def usual(trace: Trace) -> Tuple[List[str], List[str]]:
    """The allocators that one would compare with: those that are here, and what to do for each of the others."""
    found, absent = [], []
    for name in USUAL:
        try:
            target_of(name, trace)
            found.append(name)
        except Failure as failure:
            absent.append(str(failure))
    return found, absent


def target_of(one: Union[str, Policy], trace: Trace) -> Target:
    """How the replayer is told of it. Failure where it is not to be had."""
    if one == "ace":
        one = Policy()
    host = str(trace.header.get("host", ""))
    if isinstance(one, Policy):
        words = ("ace", "sweeps") if host.startswith("Lua") else ("ace",)
        environment = {"ACE_" + name.upper(): value for name, value in one.options.items()}
        return Target(one.name, words, replayer=one.replayer, environment=environment)
    if one == "none":
        return Target(one, ("none",))
    if one == "own":
        return _own(host, trace)
    name, equals, path = one.partition("=")
    base = name[: -len(HINTED)] if name.endswith(HINTED) else name
    kind = ("hinted",) if base != name else ("malloc",)
    if equals:
        if not os.path.isfile(path):
            raise Failure("there is no library %s" % path)
        if not program.defines_malloc(path):
            raise Failure("%s is no shared library of this machine that has a malloc" % path)
        return Target(name, kind, preload=os.path.realpath(path))
    if base == "glibc":
        return Target(one, kind)
    return Target(one, kind, preload=_library(base, one))


def _library(name: str, called: str) -> str:
    if name == "mimalloc":
        found, remedy = libraries.mimalloc(), "pip install " + libraries.MIMALLOC
    elif name in libraries.SYSTEM:
        file, remedy = libraries.SYSTEM[name]
        found = libraries.system(file)
    else:
        known = ["own", "ace", "none", "glibc", "mimalloc", *libraries.SYSTEM]
        raise Failure("there is no allocator '%s'; there are %s, and NAME=PATH of a library, all but the first three "
                      "also with %s" % (called, ", ".join(known), HINTED))  # fmt: skip
    if found is None:
        raise Failure("%s is not here: %s" % (name, remedy))
    return os.path.realpath(found)


def _own(host: str, trace: Trace) -> Target:
    if host.startswith("LuaJIT"):
        file, remedy = libraries.LUAJIT
        library = libraries.system(file)
        if library is None:
            raise Failure("LuaJIT's own allocator is in %s, which is not here: %s" % (file, remedy))
        return Target("own", ("luajit", "library=" + library))
    if host.startswith("CPython"):
        return Target("own", ("pymalloc",), python=_interpreter(host, trace))
    return Target("own", ("malloc",))  # Lua asks the C library


def _interpreter(host: str, trace: Trace) -> str:
    """A CPython of the recorded one's minor version, whose allocator it has."""
    version = ".".join(host.split()[1].split(".")[:2])
    recorded = (trace.header.get("command") or [""])[0]
    if not os.path.basename(recorded).startswith("python"):
        recorded = ""  # a program that embeds it, and would be started
    for candidate in (recorded, sys.executable, "python" + version, "python3", "/usr/bin/python3"):
        path = shutil.which(candidate) if candidate else None
        if path is None:
            continue
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        said = subprocess.run([path, "-I", "-S", "-c", code], capture_output=True, text=True, errors="replace")
        if said.stdout.strip() == version:
            return path
    raise Failure("the run's own allocator is that of CPython %s: put a python%s on PATH" % (version, version))
