"""Embedding CPython with ace_python.h: by the headers and the library of each interpreter that has them."""

import os
import pathlib
import subprocess

import pytest

from conftest import BUILD, REPOSITORY

HERE = pathlib.Path(__file__).parent
ARCHIVES = [BUILD / "bindings/python/hook/libace-python.a", BUILD / "src/libace.a"]
CODE = """
import gc, sys
import _ace
kept = [{'n': n, 'text': str(n)} for n in range(100000)]
del kept
gc.collect()
assert _ace.stats()['python']['refills'] > 0
_ace.census_begin([dict])
while _ace.census_step(10**9): pass
assert _ace.census_end()[0][0] > 10
"""


def flags(python):
    """What compiles a program that embeds it; None where this machine has no headers for it."""
    name = "python%d.%d-config" % python.version[:2]
    tool = pathlib.Path(python.path).resolve().with_name(name)
    if not tool.exists():
        return None
    said = [subprocess.run([tool, *words], capture_output=True, text=True) for words in (["--includes"], ["--ldflags", "--embed"])]
    if any(one.returncode != 0 for one in said):
        return None
    folder = subprocess.run(
        [python.path, "-c", "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"], capture_output=True, text=True
    ).stdout.strip()
    return " ".join(one.stdout for one in said).split() + ["-Wl,-rpath,%s" % folder, "-L%s" % folder], folder


def test_embedding(python, tmp_path):
    found = flags(python)
    if found is None:
        pytest.skip("no headers or no library to embed %s" % python.name)
    host = tmp_path / "host"
    own = ["-I%s" % (REPOSITORY / "include"), "-I%s" % (REPOSITORY / "bindings/python")]
    command = ["cc", "-std=c11", "-O1", "-Wall", "-Werror", *own, HERE / "python_embed.c", "-o", host, *ARCHIVES, *found[0], "-lpthread"]
    subprocess.run(list(map(str, command)), check=True)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ACE_", "LD_", "PYTHON"))}
    # An isolated interpreter looks for its library where it was built.
    clean["PATH"] = "%s:/usr/bin:/bin" % pathlib.Path(python.path).parent
    result = subprocess.run([host, CODE], capture_output=True, text=True, timeout=120, env=clean)
    assert (result.returncode, result.stdout, result.stderr) == (0, "all holds, 0 foreign pointers\n", "")


def test_the_header_is_cpp(tmp_path):
    source = tmp_path / "host.cpp"
    source.write_text('#include "ace_python.h"\nint main() { return ace_python_install() == nullptr; }\n')
    own = ["-I%s" % (REPOSITORY / "include"), "-I%s" % (REPOSITORY / "bindings/python")]
    host = tmp_path / "host"
    subprocess.run(["c++", "-Wall", "-Wextra", "-Wpedantic", "-Werror", *own, source, "-o", host, *ARCHIVES, "-lpthread"], check=True)
    assert subprocess.run([host]).returncode == 0, "a program without CPython is told so"
