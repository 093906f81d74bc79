"""The library beside the one that enters VMs, and what the command `ace` makes of it."""

import shutil
import subprocess
import sys

import pytest
from conftest import BUILD, HERE, LIBRARY, PLAIN, PRELOAD

PYTHON = "import json; print(len(json.dumps([{str(i): i} for i in range(50_000)]))); import gc; gc.collect()"
LUA = "local t = {} for i = 1, 2e5 do t[i] = {i, tostring(i)} end collectgarbage() print(#t)"


@pytest.mark.parametrize("libraries", [(PRELOAD, LIBRARY), (LIBRARY, PRELOAD)], ids=["vm-first", "malloc-first"])
@pytest.mark.parametrize(
    "host, code", [("/usr/bin/python3", PYTHON), ("luajit", LUA), ("lua5.4", LUA)], ids=["python", "luajit", "lua"]
)
def test_a_vm_has_its_heaps_and_malloc_the_rest(shim, libraries, host, code):
    if shutil.which(host) is None:
        pytest.skip("%s is not installed" % host)
    option = "-c" if "python" in host else "-e"
    run = shim.same(host, option, code, libraries=libraries)
    hosts = {line["host"]: line for line in run.lines if "host" in line}
    assert len(hosts) == 2 and all(line["active"] for line in hosts.values())
    (malloc,) = run.reports.values()
    assert malloc["foreign_frees"] == 0
    heaps = [line["name"] for line in run.lines if "host" not in line]
    assert "thread" in heaps and len(set(heaps)) > 1


class Package:
    """The package from the source folder, with the libraries and the module of the build."""

    def __init__(self, site, module):
        self.site = site
        shutil.copytree(HERE.parents[1] / "bindings/python/acealloc", site / "acealloc")
        for file in (module, PRELOAD, LIBRARY):
            shutil.copy(file, site / "acealloc")

    def python(self, *words):
        return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, timeout=60,
                              env={**PLAIN, "PYTHONPATH": str(self.site)})  # fmt: skip

    def ace(self, *words):
        return self.python("-m", "acealloc.cli", *words)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    module = next(iter(sorted(BUILD.rglob("bindings/python/_core*.so"))), None)
    if module is None:
        pytest.skip("the package's module is not in the build folder (meson configure -Dpython=true)")
    return Package(tmp_path_factory.mktemp("site"), module)


def test_ace_run_malloc(package):
    done = package.ace("run", "--malloc", "--report", "--", "/bin/sh", "-c", "seq 1000 | sort -r | tail -1")
    assert done.returncode == 0 and done.stdout == "1\n", done.stderr
    assert "malloc" in done.stderr


CHECK = """
import sys
from acealloc import Trace
trace = Trace(sys.argv[1])
print(trace.header["host"], trace.totals["status"], trace.totals["events"] > 10000, len(trace.live()) > 0)
"""


LIVE = "import sys; from acealloc import Trace; print(Trace(sys.argv[1]).totals['live_blocks'])"


def test_a_recording_notes_the_free_of_a_far_block_that_moves(package, built, tmp_path):
    file = tmp_path / "run.ace"
    done = package.ace("record", "--malloc", "-o", file, "--", built("edges.c"), "far_blocks")
    assert done.returncode == 0, done.stderr
    answer = package.python("-c", LIVE, file)
    assert int(answer.stdout) < 500, answer.stderr  # without those 1000 that moved


def test_a_recorded_run_is_whole(package, built, tmp_path):
    file = tmp_path / "run.ace"
    done = package.ace("record", "--malloc", "-o", file, "--", built("edges.c"), "thread_ends")
    assert done.returncode == 0, done.stderr
    answer = package.python("-c", CHECK, file)
    assert answer.stdout.split() == ["malloc", "whole", "True", "True"], answer.stderr
