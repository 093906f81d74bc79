"""Tests of libace-malloc.so: programs that others wrote, and small ones of our own, with their malloc replaced.

The build folder is that of the environment variable ACE_BUILD, else `build` in the repository.
"""

import dataclasses
import json
import os
import pathlib
import subprocess

import pytest

HERE = pathlib.Path(__file__).parent
BUILD = pathlib.Path(os.environ.get("ACE_BUILD", HERE.parents[1] / "build"))
LIBRARY = BUILD / "src/shim/libace-malloc.so"
PRELOAD = BUILD / "bindings/preload/libace-preload.so"
PLAIN = {name: value for name, value in os.environ.items() if not name.startswith("ACE_") and name != "LD_PRELOAD"}


@dataclasses.dataclass
class Run:
    """A program that has ended, with what its processes wrote of their malloc and heaps."""

    returncode: int
    stdout: str
    stderr: str
    lines: list

    @property
    def reports(self):
        """Of each process whose malloc was replaced: its line, by its number."""
        return {line["pid"]: line for line in self.lines if line.get("host") == "malloc"}


class Shim:
    """Starts programs on the library."""

    def __init__(self, folder):
        self.report = folder / "report.jsonl"

    def environment(self, libraries=(LIBRARY,), **settings):
        return {**PLAIN, "LD_PRELOAD": ":".join(map(str, libraries)), "ACE_REPORT": str(self.report), **settings}

    def lines(self):
        return [json.loads(line) for line in self.report.read_text().splitlines()] if self.report.exists() else []

    def run(self, *command, libraries=(LIBRARY,), timeout=60, settings=None, **options):
        """The program's run; it must end by itself."""
        self.report.unlink(missing_ok=True)
        done = subprocess.run(
            list(map(str, command)), env=self.environment(libraries, **(settings or {})), capture_output=True,
            text=True, timeout=timeout, errors="replace", **options,
        )  # fmt: skip
        return Run(done.returncode, done.stdout, done.stderr, self.lines())

    def same(self, *command, **options):
        """Runs the program stock and on the library, which must say the same; returns the second run."""
        timeout = options.get("timeout", 60)
        others = {name: value for name, value in options.items() if name not in ("timeout", "settings", "libraries")}
        stock = subprocess.run(list(map(str, command)), env=PLAIN, capture_output=True, text=True, timeout=timeout,
                               errors="replace", **others)  # fmt: skip
        run = self.run(*command, **options)
        assert (run.returncode, run.stdout) == (stock.returncode, stock.stdout), run.stderr
        assert run.reports, "no process of it had its malloc replaced"
        return run


@pytest.fixture
def shim(tmp_path):
    if not LIBRARY.exists():
        pytest.fail("%s is missing: build first, or say where by ACE_BUILD" % LIBRARY)
    return Shim(tmp_path)


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Compiles one of this folder's programs, or libraries where the options say so; it is made once."""
    folder, programs = tmp_path_factory.mktemp("programs"), {}

    def build(name, *options):
        if name not in programs:
            compiler = ["g++", "-std=c++20", "-Wno-alloc-size-larger-than"] if name.endswith(".cpp") else ["gcc"]
            programs[name] = folder / name.split(".")[0]
            command = [*compiler, "-O1", "-g", "-fno-builtin", "-o", programs[name], HERE / name, "-pthread", "-ldl"]
            subprocess.run([*command, *options], check=True)
        return programs[name]

    return build
