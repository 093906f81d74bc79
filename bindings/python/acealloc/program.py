"""What a program is, judged by its file alone: which VM it hosts, and why ACE cannot enter it."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
from dataclasses import dataclass
from typing import List, Optional, Set, Tuple

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from elftools.elf.segments import InterpSegment

from .errors import Failure

# The kernel follows this many interpreters of interpreters.
MAX_SCRIPT_DEPTH = 4
# What elftools raises where a file is damaged, or has names in it that are no UTF-8.
UNREADABLE = (OSError, ELFError, ValueError, OverflowError)


@dataclass(frozen=True)
class Program:
    """What was found out about a command.

    path: the file that was asked for; executable: the one that runs in the end, after shebang lines;
    host: "cpython", "lua" or None where no VM is seen in the file (a shell script may still start one);
    obstacle: why ACE cannot enter it, None where nothing is known to stand in the way;
    loadable: whether the preloaded library may be left in the environment of a program with an obstacle,
    for the sake of its children. False where its loader would stumble over it; luajit: whether the Lua is a LuaJIT.
    """

    path: str
    executable: str
    host: Optional[str] = None
    obstacle: Optional[str] = None
    loadable: bool = True
    luajit: bool = False


def find(command: str, search: Optional[str] = None) -> str:
    """The file that a shell would run for `command`.

    Failure 127 where there is none and 126 where it cannot be executed, as shells do.
    """
    if "/" in command:
        candidates = [command]
        missing = "there is no file '%s'" % command
    else:
        path = os.environ.get("PATH", os.defpath) if search is None else search
        candidates = [os.path.join(folder or ".", command) for folder in path.split(os.pathsep)]
        missing = "there is no command '%s' on PATH" % command
    found = [candidate for candidate in candidates if os.path.exists(candidate)]
    for candidate in found:
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    if not found:
        raise Failure(missing, 127)
    if os.path.isdir(found[0]):
        raise Failure("'%s' is a folder" % found[0], 126)
    raise Failure("'%s' is not executable: try chmod +x, or name its interpreter" % found[0], 126)


def inspect(path: str) -> Program:
    """Follows shebang lines to the executable and looks into that. Never fails: what cannot be read is
    left to the kernel to judge."""
    executable = path
    for _ in range(MAX_SCRIPT_DEPTH):
        interpreter = _interpreter_of(executable)
        if interpreter is None:
            break
        executable = interpreter
    protected = _protected(executable)
    try:
        with open(executable, "rb") as file:
            return _judge(path, executable, ELFFile(file), protected)
    except UNREADABLE:
        return Program(path, executable, obstacle=protected)


def _interpreter_of(path: str) -> Optional[str]:
    """The program that a script's shebang line names, seen through `env`; None where there is no such line."""
    try:
        with open(path, "rb") as file:
            line = file.read(256).split(b"\n", 1)[0]
    except OSError:
        return None
    if not line.startswith(b"#!"):
        return None
    words = os.fsdecode(line[2:]).split()
    if words and os.path.basename(words[0]) == "env":
        # Options and assignments come before the command: env -S VAR=value python3
        commands = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        return shutil.which(commands[0]) if commands else None
    return words[0] if words else None


def _protected(path: str) -> Optional[str]:
    """Why the kernel runs this file in secure mode, where the loader ignores LD_PRELOAD."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if status.st_mode & stat.S_ISUID and status.st_uid != os.getuid():
        return "it is setuid: the loader drops LD_PRELOAD for it"
    if status.st_mode & stat.S_ISGID and status.st_gid != os.getgid():
        return "it is setgid: the loader drops LD_PRELOAD for it"
    try:
        os.getxattr(path, "security.capability")
    except OSError:
        return None
    return None if os.getuid() == 0 else "it has file capabilities: the loader drops LD_PRELOAD for it"


def _judge(path: str, executable: str, elf: ELFFile, protected: Optional[str]) -> Program:
    host, needed, exported = _host(elf)

    def cannot(reason: str, loadable: bool = True) -> Program:
        return Program(path, executable, host, reason, loadable)

    loader = _loader(elf)
    if not _is_ours(elf):
        return cannot("it is a program for another processor (%s)" % elf.get_machine_arch(), loadable=False)
    if loader is None:
        return cannot("it is linked statically: there is no loader that could preload anything")
    if "ld-musl" in loader:
        return cannot("it runs on musl: the preloaded library is made for glibc", loadable=False)
    if protected:
        return cannot(protected)
    if host == "cpython" and _free_threaded(needed, exported):
        return cannot("it is a free-threaded Python: its collector needs the allocator that it was built with")
    if host == "lua" and _luajit_without_gc64(elf):
        return cannot("it is a LuaJIT without GC64, which refuses allocators other than its own")
    is_luajit = any(name.startswith("luaJIT_") for name in exported) or any("libluajit" in name for name in needed)
    return Program(path, executable, host, luajit=is_luajit)


def _is_ours(elf: ELFFile) -> bool:
    """Is it for this processor?"""
    with open(sys.executable, "rb") as own:
        ours = ELFFile(own)
        return bool((elf.elfclass, elf["e_machine"]) == (ours.elfclass, ours["e_machine"]))


def defines_malloc(path: str) -> bool:
    """Is it a shared library that brings a malloc, so that it may be preloaded in the place of the C library's?"""
    try:
        with open(path, "rb") as file:
            elf = ELFFile(file)
            symbols = elf.get_section_by_name(".dynsym")
            if elf["e_type"] != "ET_DYN" or not _is_ours(elf) or not isinstance(symbols, SymbolTableSection):
                return False
            return any(symbol["st_shndx"] != "SHN_UNDEF" for symbol in symbols.get_symbol_by_name("malloc") or [])
    except UNREADABLE:
        return False


def _loader(elf: ELFFile) -> Optional[str]:
    for segment in elf.iter_segments():
        if isinstance(segment, InterpSegment):
            return str(segment.get_interp_name())
    return None


def _host(elf: ELFFile) -> Tuple[Optional[str], List[str], Set[str]]:
    """The VM that the file brings or links to, the libraries it needs, and its dynamic symbols."""
    dynamic = elf.get_section_by_name(".dynamic")
    symbols = elf.get_section_by_name(".dynsym")
    needed = []
    if isinstance(dynamic, DynamicSection):
        needed = [str(getattr(tag, "needed", "")) for tag in dynamic.iter_tags() if tag.entry.d_tag == "DT_NEEDED"]
    names = set()
    if isinstance(symbols, SymbolTableSection):
        names = {symbol.name for symbol in symbols.iter_symbols()}
    if "PyMem_SetAllocator" in names or any(name.startswith("libpython3") for name in needed):
        return "cpython", needed, names
    if "lua_newstate" in names or "luaL_newstate" in names:
        return "lua", needed, names
    return None, needed, names


def _free_threaded(needed: List[str], exported: Set[str]) -> bool:
    # libpython3.13t.so.1.0, or a static build with the reference counts of free threading.
    return "_Py_MergeZeroLocalRefcount" in exported or any(re.match(r"libpython3\.\d+t\.so", name) for name in needed)


def _luajit_without_gc64(elf: ELFFile) -> bool:
    # What its lua_newstate prints instead of making a state.
    section = elf.get_section_by_name(".rodata")
    return section is not None and b"Must use luaL_newstate() for 64 bit target" in section.data()
