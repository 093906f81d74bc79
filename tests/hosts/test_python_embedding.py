"""Embedding CPython with ace_python.h: by the headers and the library of each interpreter that has them."""

import os
import pathlib
import subprocess

import pytest
from conftest import BUILD, REPOSITORY

HERE = pathlib.Path(__file__).parent
ARCHIVES = [BUILD / "bindings/python/hook/libace-python.a", BUILD / "src/libace.a"]
CODE = """
import gc, sys, threading, time
import _ace
assert _ace.stats()['python']['limit_bytes'] == 0
kept = [{'n': n, 'text': str(n)} for n in range(100000)]
del kept
gc.collect()
assert _ace.stats()['python']['refills'] > 0
under_way = _ace.census_begin([dict])
while _ace.census_step(10**9): pass
assert _ace.census_end()[0][0] > 10
left = _ace.enter_limit(1 << 40), _ace.census_begin([dict])  # who holds these never ends
threading.Thread(target=lambda *_: time.sleep(10**6), args=left, daemon=True).start()
"""


def flags(python):
    """What compiles a program that embeds it; None where this machine has no headers for it."""
    name = "python%d.%d-config" % python.version[:2]
    tool = pathlib.Path(python.path).resolve().with_name(name)
    if not tool.exists():
        return None
    said = [said_by(tool, *words) for words in (["--includes"], ["--ldflags", "--embed"])]
    if None in said:
        return None
    folder = said_by(python.path, "-c", "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))")
    return " ".join(said).split() + ["-Wl,-rpath,%s" % folder, "-L%s" % folder]


def said_by(*command):
    """What it prints; None where it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def build(compiler, source, host, *more):
    own = ["-I%s" % (REPOSITORY / "include"), "-I%s" % (REPOSITORY / "bindings/python")]
    command = [*compiler, "-Wall", "-Wextra", "-Werror", *own, source, "-o", host, *ARCHIVES, *more, "-lpthread"]
    subprocess.run(list(map(str, command)), check=True)
    return host


def test_embedding(python, tmp_path):
    found = flags(python)
    if found is None:
        pytest.skip("no headers or no library to embed %s" % python.name)
    host = build(["cc", "-std=c11", "-O1"], HERE / "python_embed.c", tmp_path / "host", *found)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ACE_", "LD_", "PYTHON"))}
    # An isolated interpreter looks for its library where it was built.
    clean["PATH"] = "%s:/usr/bin:/bin" % pathlib.Path(python.path).parent
    result = subprocess.run([host, CODE], capture_output=True, text=True, timeout=120, env=clean)
    assert (result.returncode, result.stdout, result.stderr) == (0, "all holds, 0 foreign pointers\n", "")


def test_the_header_is_cpp(tmp_path):
    source = tmp_path / "host.cpp"
    source.write_text('#include "ace_python.h"\nint main() { return ace_python_install() == nullptr; }\n')
    host = build(["c++", "-Wpedantic"], source, tmp_path / "host")
    assert subprocess.run([host]).returncode == 0, "a program without CPython is told so"
