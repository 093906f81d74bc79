"""memcheck of Valgrind sees what a program does to the memory of hardened heaps, byte by byte, and nothing else."""

import os
import re
import shutil
import subprocess

import pytest
from conftest import BUILD

PROGRAM = BUILD / "tests" / "memcheck"
PRELOAD = BUILD / "bindings" / "preload" / "libace-preload.so"
needs_memcheck = pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
SIZES = (24, 41, 200, 1000, 20000, 600000)  # of slabs with and without padding, of page runs, of a mapping


def memcheck(command, **environment):
    """What it said, without its numbers of processes; its errors as their first lines, and how many there were."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ACE_", "LD_PRELOAD"))} | environment
    valgrind = ["valgrind", "--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"]
    done = subprocess.run([*valgrind, *map(str, command)], env=env, capture_output=True, text=True, timeout=300)
    said = re.sub(r"^==\d+== ?", "", done.stderr, flags=re.MULTILINE)
    count = re.search(r"ERROR SUMMARY: (\d+) errors", said)
    assert count, done.stderr
    return said, int(count[1])


@needs_memcheck
@pytest.mark.parametrize("size", SIZES)
def test_a_program_without_mistakes(size):
    said, errors = memcheck([PROGRAM, "no-mistake", size], ACE_WORKER="off")
    assert errors == 0, said


@needs_memcheck
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "case, error, place",
    [
        ("write-behind", "Invalid write of size 1", "0 bytes after a block of size {size} "),
        ("read-behind", "Invalid read of size 1", "0 bytes after a block of size {size} "),
        ("write-before", "Invalid write of size 1", ""),
        ("use-uninitialised", "depends on uninitialised", ""),
        ("read-behind-shrunk", "Invalid read of size 1", "0 bytes after a block of size {shrunk} "),
        ("use-what-it-grew-by", "depends on uninitialised", ""),
        ("read-after-free", "Invalid read of size 1", "{half} bytes inside a block of size {size} free'd"),
        ("read-after-remote-free", "Invalid read of size 1", "0 bytes inside a block of size {size} free'd"),
    ],
)
def test_a_mistake(case, error, place, size):
    if case == "write-before" and size >= 20000:
        pytest.skip("what lies before is the block of another, or the heap's own")
    if case.startswith("read-after") and size > 512 << 10:
        pytest.skip("its memory is unmapped at once: a signal says so")
    said, errors = memcheck([PROGRAM, case, size])
    assert errors == 1, said
    assert error in said
    assert place.format(size=size, shrunk=size - 1, half=size // 2) in re.sub(r"(\d),(\d)", r"\1\2", said), said


@needs_memcheck
def test_a_second_free():
    said, errors = memcheck([PROGRAM, "free-twice", 100], ACE_BAD_POINTER="report")
    assert "the block is free already" in said and errors == 0  # ours, before memcheck is told of it


@needs_memcheck
def test_lost_blocks():
    said, errors = memcheck([PROGRAM, "lose", 100])
    lost = sum(int(n) for n in re.findall(r"in (\d+) blocks are definitely lost", said))
    assert lost in (10, 11) and errors != 0, said  # a word of the stack may lead to the last


@needs_memcheck
def test_lua(tmp_path):
    script = tmp_path / "churn.lua"
    script.write_text(
        "local t = {} for i = 1, 3000 do t[i] = {i, tostring(i), (' '):rep(i)} end t = nil collectgarbage()"
    )
    for lua in ("lua5.1", "lua5.3", "lua5.4", "luajit"):
        said, _ = memcheck([shutil.which(lua), script], LD_PRELOAD=str(PRELOAD))
        assert "Invalid" not in said and "uninitialised" not in said and "definitely lost: 0 bytes" in said, said


@needs_memcheck
def test_cpython(tmp_path):
    script = tmp_path / "mistake.py"
    script.write_text(
        "import ctypes, json, re\n"
        "json.loads(json.dumps({str(i): [i] * i for i in range(60)}))\n"
        "text = bytes(1000)\n"
        "ctypes.string_at(id(text) + bytes.__basicsize__ + 1000 - 1, 11)\n"
    )
    said, _ = memcheck(["/usr/bin/python3", script], LD_PRELOAD=str(PRELOAD))
    wrong = [line for line in said.splitlines() if "Invalid" in line or "uninitialised" in line]
    assert wrong, said
    assert all(line.startswith("Invalid read") for line in wrong), said
    size = 1000 + 33  # with its header
    assert "bytes after a block of size %d " % size in said.replace(",", ""), said
