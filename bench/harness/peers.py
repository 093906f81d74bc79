"""The allocators that are compared, and how each is put under each kind of host.

own       what the VM has: LuaJIT's lj_alloc, Lua's default (the C library's malloc), CPython's pymalloc
ace       libace-preload.so
NAME      a malloc in a library: preloaded; under LuaJIT by libpeer-plain.so, under CPython with PYTHONMALLOC=malloc
NAME-hinted
          the same below ACE's own host code (libpeer-hinted.so): told to give memory back whenever ACE would be
bump      no peer but a limit: libpeer-bump.so only counts upwards and never frees; its time alone is compared
"""

import dataclasses
import importlib.util
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import Trouble

HINTED = "-hinted"
BUMP = "bump"
# The functions by which bindings/python/replay/purge_malloc.h makes a malloc give memory back, in its order.
PURGES = ("mi_collect", "mallctl", "MallocExtension_ReleaseFreeMemory", "malloc_trim")


def _package_file(name):
    """A module of the package that needs nothing of it: the package itself is not installed for the benchmarks."""
    path = Path(__file__).resolve().parents[2] / "bindings" / "python" / "acealloc" / (name + ".py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


libraries = _package_file("libraries")


@dataclass(frozen=True)
class Peer:
    """kind: own, ace, glibc, library or bump. path: of the library, where it is one. purge: the function by which a
    hinted peer gives memory back. heap_api: what ace-micro calls the nearest to a heap with one holder. options:
    environment variables; ACE's by their names there."""

    name: str
    kind: str
    path: str = ""
    purge: str = ""
    heap_api: str = "plain"
    options: dict = field(default_factory=dict, hash=False)

    @property
    def hinted(self):
        return self.name.endswith(HINTED)

    def why_not(self, host_kind, part=""):
        """Why it cannot be put under such a host, or into such a part; "" where it can."""
        if self.kind == BUMP and part in ("swell", "rhythm", "services"):
            return "it gives no memory back"
        if host_kind == "micro":
            if self.kind == "own":
                return "the micro-benchmarks have no VM: name glibc"
            if self.kind == BUMP:
                return "the micro-benchmarks allocate more than fits without freeing"
            if self.hinted:
                return "the micro-benchmarks have no collector that could give hints"
        if host_kind == "lua" and self.name == "glibc":
            return "glibc's malloc is what this Lua calls anyway: see own"
        return ""

    def environment(self, host_kind, build, report):
        """What puts it under the host; `report` is a file for what the library inside writes at the end."""
        settings = dict(self.options)
        if self.kind == "own" or host_kind == "micro":
            return settings
        if self.kind == "ace":
            return {"LD_PRELOAD": self.path, "ACE_REPORT": str(report), **settings}
        if self.kind == BUMP:
            settings.update({"LD_PRELOAD": self.path, "ACE_REPORT": str(report)})
        elif self.hinted or host_kind == "luajit":
            bridge = build / "bench" / "peers" / ("libpeer-hinted.so" if self.hinted else "libpeer-plain.so")
            libraries = ":".join(filter(None, (str(bridge), self.path)))
            return {"LD_PRELOAD": libraries, "ACE_REPORT": str(report), **settings}
        elif self.path:
            settings["LD_PRELOAD"] = self.path
        # CPython calls malloc only for what its own allocator declines, unless told otherwise.
        return dict(settings, PYTHONMALLOC="malloc") if host_kind == "cpython" else settings

    def reports(self, host_kind):
        """Whether a library inside the host says at the end that it was active."""
        if self.kind == "own" or host_kind == "micro":
            return False
        if self.kind == BUMP:
            return host_kind != "cpython"
        return self.kind == "ace" or self.hinted or host_kind == "luajit"


def exported(path):
    """The names of the functions that a library defines."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        with open(path, "rb") as file:
            table = ELFFile(file).get_section_by_name(".dynsym")
            symbols = table.iter_symbols() if table else ()
            return {s.name for s in symbols if s["st_shndx"] != "SHN_UNDEF"}
    except (OSError, ELFError) as reason:
        raise Trouble("%s is no library that can be loaded: %s" % (path, reason)) from reason


def forms(name, path):
    """The peers that a library gives: itself, and told of collections where it has a function to purge."""
    path = os.path.realpath(path)
    if any(separator in path for separator in " :\t"):
        raise Trouble("LD_PRELOAD cannot hold the path '%s': copy the library elsewhere" % path)
    names = exported(path)
    if "ace_abi_version" in names:
        return [Peer(name, "ace", path)]
    if "malloc" not in names:
        raise Trouble("%s defines no malloc: --peer %s= must name an allocator's shared library" % (path, name))
    purge = next((function for function in PURGES if function in names), "")
    heap_api = "theap" if "mi_theap_malloc" in names else "heap" if "mi_heap_malloc" in names else "plain"
    plain = Peer(name, "library", path, heap_api=heap_api)
    return [plain] + ([Peer(name + HINTED, "library", path, purge)] if purge else [])


def find(build, more=()):
    """All peers by name, and what is missing, by name, with what to do. `more`: NAME=PATH and
    NAME=PEER:SETTING=VALUE,... of the user."""
    found, missing = {}, {}

    def add(peers):
        found.update((peer.name, peer) for peer in peers)

    add([Peer("own", "own"), Peer("glibc", "glibc"), Peer("glibc" + HINTED, "glibc", purge="malloc_trim")])
    path = libraries.mimalloc()
    if path:
        add(forms("mimalloc", path))
    else:
        missing["mimalloc"] = "install %s from PyPI into the virtual environment" % libraries.MIMALLOC
    for name, (library, remedy) in libraries.SYSTEM.items():
        path = libraries.system(library)
        if path:
            add(forms(name, path))
        else:
            missing[name] = remedy
    ace = build / "bindings" / "preload" / "libace-preload.so"
    if ace.exists():
        add(forms("ace", ace))
    else:
        missing["ace"] = "build it: ninja -C the build folder"
    limit = build / "bench" / "peers" / "libpeer-bump.so"
    if limit.exists():
        add([Peer(BUMP, BUMP, os.path.realpath(limit))])
    else:
        missing[BUMP] = "build it: ninja -C the build folder, configured with -Dbench=true"
    for text in more:
        add(by_user(text, found))
    return found, missing


def by_user(text, found):
    """What one --peer means."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise Trouble("--peer %s: it must be NAME=PATH of a library, or NAME=PEER:SETTING=VALUE,SETTING=VALUE" % text)
    if name in found or not all(c.isalnum() or c in "._+-" for c in name) or name.endswith(HINTED):
        raise Trouble("--peer %s: the name %s; choose another" % (
            text, "is taken" if name in found else "may hold letters, digits, '.', '_', '+' and '-' and not end with "
            "'%s'" % HINTED))  # fmt: skip
    base, colon, settings = value.partition(":")
    if colon and base in found and found[base].hinted:
        raise Trouble("--peer %s: a peer that is told of collections has no other settings: name the plain one" % text)
    if colon and base in found:
        return [dataclasses.replace(found[base], name=name, options=settings_of(text, base, settings))]
    if value.startswith("ace:"):
        raise Trouble("--peer %s: there is no ACE here: build it first" % text)
    if not Path(value).is_file():
        raise Trouble("--peer %s: there is no file %s" % (text, value))
    return forms(name, value)


def settings_of(text, base, settings):
    """Environment variables; of ACE its options, which are called so there."""
    # A value may hold commas itself, as domains=mem,obj does: a pair begins where a name and '=' do.
    pairs = [pair.partition("=") for pair in re.split(",(?=[^,=]*=)", settings)]
    if not all(name and is_pair and value for name, is_pair, value in pairs):
        raise Trouble("--peer %s: after '%s:' come SETTING=VALUE pairs, with commas between them" % (text, base))
    return {"ACE_" + name.upper() if base == "ace" else name: value for name, _, value in pairs}


def choose(names, found, missing):
    """The peers of these names. Trouble where one is unknown or missing."""
    chosen = []
    for name in names:
        if name in found:
            chosen.append(found[name])
            continue
        base = name[: -len(HINTED)] if name.endswith(HINTED) else name
        if base in missing:
            raise Trouble("the peer '%s' is missing here: %s" % (name, missing[base]))
        if base in found and base != name:
            raise Trouble("'%s' cannot be told to give memory back: its library has none of %s" % (
                base, ", ".join(PURGES)))  # fmt: skip
        raise Trouble("there is no peer '%s'; there are %s, and --peer NAME=PATH adds one" % (
            name, ", ".join(sorted(found))))  # fmt: skip
    return chosen
