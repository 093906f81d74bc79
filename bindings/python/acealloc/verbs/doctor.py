"""`ace doctor`: what is installed, which hosts ACE can enter, and what stands in the way."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import re
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_DT_FLAGS
from rich.console import Group, RenderableType
from rich.text import Text

from .. import abi_version, hosts, preload, version
from ..console import new_table, print_out
from ..errors import Failure
from .run import LUAJIT_AT_A_LIMIT

STYLES = {"ok": "green", "note": "yellow", "bad": "bold red"}


class Row(NamedTuple):
    """state: "ok"; "note": works, but worth knowing; "bad": stands in the way."""

    state: str
    what: str
    found: str


@dataclasses.dataclass
class Findings:
    installed: List[Row]
    hosts: List[Row]
    machine: List[Row]

    def healthy(self) -> bool:
        """The library is there, and some host can be entered."""
        return all(row.state != "bad" for row in self.installed) and any(row.state == "ok" for row in self.hosts)


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "doctor",
        help="show what is installed and what can be entered",
        allow_abbrev=False,
        description="Starts each CPython and Lua it finds on ACE with a one-line program, and shows what happened. "
        "The exit status is 0 where the library is installed and at least one host can be entered.",
    )
    parser.add_argument("--json", action="store_true", help="the findings as one JSON object")
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    findings = collect()
    if arguments.json:
        print(json.dumps({name: [row._asdict() for row in rows] for name, rows in vars(findings).items()}, indent=2))
    else:
        print_out(screen(findings))
    return 0 if findings.healthy() else 1


def screen(findings: Findings) -> Group:
    """Three tables: what is installed, the hosts, what stands in the way."""
    parts: List[RenderableType] = []
    for title, rows, columns, marks in (
        ("Installed", findings.installed, ["", "what", "found"], {"bad": "bad"}),
        ("Hosts, each started on ACE", findings.hosts, ["entered", "program", "result"], {"ok": "yes", "bad": "no"}),
        ("This machine", findings.machine, ["", "what", "found"], {"bad": "bad"}),
    ):
        table = new_table(title, columns, numbers=False, texts=columns[1:])
        for row in rows:
            mark = Text(marks.get(row.state, row.state), style=STYLES[row.state])
            table.add_row(mark, Text(row.what), Text(row.found))
        parts.append(table)
    return Group(*parts)


def collect() -> Findings:
    installed = [Row("ok", "acealloc", "%s, ABI %d" % (version(), abi_version()))]
    try:
        library = preload.library()
    except Failure as failure:
        return Findings(installed + [Row("bad", "preloaded library", str(failure))], [], list(machine()))
    installed.append(library_row("preloaded library", library))
    try:
        installed.append(library_row("library for malloc", preload.malloc_library(library)))
    except Failure as failure:
        installed.append(Row("note", "library for malloc", str(failure)))
    # The hosts are other programs: two at a time keep a small machine busy.
    with ThreadPoolExecutor(max_workers=2) as pool:
        tried = list(pool.map(lambda candidate: host_row(candidate, library), hosts.candidates()))
    if any(row.state == "ok" and row.found.lower().startswith("luajit") for row in tried):
        tried.append(Row("note", "under a limit", LUAJIT_AT_A_LIMIT))
    return Findings(installed, tried, list(machine()))


def library_row(what: str, path: str) -> Row:
    source = " (from ACE_PRELOAD)" if os.environ.get("ACE_PRELOAD") else ""
    try:
        with open(path, "rb") as file:
            dynamic = ELFFile(file).get_section_by_name(".dynamic")
            flags = 0
            if isinstance(dynamic, DynamicSection):
                flags = sum(tag.entry.d_val for tag in dynamic.iter_tags("DT_FLAGS"))
    except Exception as error:  # whatever the file is, the answer is that it is no library
        return Row("bad", what, "%s%s is no shared library: %s" % (path, source, error))
    tls = "; it carries the static-TLS flag" if flags & ENUM_DT_FLAGS["DF_STATIC_TLS"] else ""
    return Row("ok", what, path + source + tls)


def host_row(candidate: hosts.Candidate, library: str) -> Row:
    result = hosts.attempt(candidate, library)
    return Row("ok" if result.entered else "bad", candidate.label, result.text)


def machine() -> Iterator[Row]:
    """What of this machine's set-up bears on an allocator."""
    libc = platform.libc_ver()
    yield Row("ok" if libc[0] == "glibc" else "bad", "C library", " ".join(libc).strip() or "not glibc: cannot preload")
    yield Row("ok", "kernel, processor", "%s, %s, %d bytes a page" % (
        platform.release(), platform.machine(), resource.getpagesize()))  # fmt: skip
    yield huge_pages()
    yield address_space()
    yield overcommit()
    present = os.environ.get("LD_PRELOAD")
    if present:
        yield Row("note", "LD_PRELOAD", "already set: %s. ACE is put before it" % present)
    python = os.environ.get("PYTHONMALLOC")
    if python and python not in ("ace", "ace_debug"):
        yield Row("bad", "PYTHONMALLOC", "%s replaces ACE in CPython: unset it, or set it to ace" % python)
    chosen = sorted(name for name in os.environ if name.startswith("ACE_"))
    if chosen:
        yield Row("note", "environment", " ".join("%s=%s" % (name, os.environ[name]) for name in chosen))
    for name, meant in preload.misspelt(os.environ):
        yield Row("bad", name, "is no option's variable and has no effect: do you mean %s?" % meant)


def huge_pages() -> Row:
    text = _read("/sys/kernel/mm/transparent_hugepage/enabled")
    setting = re.search(r"\[(\w+)\]", text or "")
    if not setting:
        return Row("ok", "transparent huge pages", "not in this kernel")
    if setting.group(1) == "always":
        return Row("note", "transparent huge pages", "always: ACE opts its memory out, other memory may stay resident")
    return Row("ok", "transparent huge pages", setting.group(1))


def address_space() -> Row:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return Row("ok", "address space (ulimit -v)", "unlimited")
    return Row("note", "address space (ulimit -v)", "%d MiB: growth beyond it fails as MemoryError" % (soft >> 20))


def overcommit() -> Row:
    value = (_read("/proc/sys/vm/overcommit_memory") or "?").strip()
    meaning = {"0": "heuristic", "1": "always", "2": "strict: what is mapped counts, even if it is never used"}
    return Row("note" if value == "2" else "ok", "overcommit", "%s (%s)" % (value, meaning.get(value, "unknown")))


def _read(path: str) -> Optional[str]:
    try:
        return Path(path).read_text()
    except OSError:
        return None
