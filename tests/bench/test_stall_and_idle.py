"""bench/stall and the harness around it, and the harness that looks at what services hold when they rest: in small, on
the real library. Times are not judged."""

import csv
import gzip
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("ACE_BUILD", REPOSITORY / "build"))
STALL = BUILD / "bench" / "stall"

# So much that the worker does not take all of it for what the program turns over.
MIB = 512

needs_stall = pytest.mark.skipif(not STALL.exists(), reason="%s is not built (-Dbench=true)" % STALL)
needs_peers = pytest.mark.skipif(
    not (BUILD / "bench" / "peers" / "libpeer-hinted.so").exists(), reason="bench/peers is not built (-Dbench=true)"
)


def run(*command, **options):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "bench")}
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, env=environment, **options)


@needs_stall
@pytest.mark.parametrize("mode", ["trim", "control"])
def test_stall_counts_every_operation(tmp_path, mode):
    answer = run(STALL, mode, MIB, tmp_path / "times")
    assert answer.returncode == 0, answer.stderr
    said = json.loads(answer.stdout)
    times = list(csv.DictReader(open(tmp_path / "times")))
    assert sum(int(row["count"]) for row in times) == said["operations"]
    free = MIB << 20
    if mode == "trim":
        assert 0.85 * free < said["returned_bytes"] < 1.2 * free and said["purge_calls"] >= MIB / 2
    else:
        assert said["returned_bytes"] == 0


@needs_stall
@pytest.mark.parametrize("words", [(), ("trim",), ("trim", "x", "f"), ("trim", "0", "f"), ("both", "64", "f")])
def test_stall_says_how_it_is_used(words):
    answer = run(STALL, *words)
    assert (answer.returncode, answer.stdout) == (2, "") and answer.stderr.startswith("usage: ")


@needs_stall
def test_stall_into_a_place_that_is_not_there(tmp_path):
    answer = run(STALL, "control", 1, tmp_path / "nowhere" / "times")
    assert answer.returncode == 1 and "cannot write" in answer.stderr


@needs_stall
def test_the_stall_harness_keeps_all_it_shows(tmp_path):
    answer = run(sys.executable, "-m", "harness.stall", STALL, tmp_path / "out", MIB, 2)
    assert answer.returncode == 0, answer.stderr
    rows = list(csv.DictReader(open(tmp_path / "out" / "stall.csv")))
    assert [row["mode"] for row in rows] == ["control", "trim", "trim", "control"]
    with gzip.open(tmp_path / "out" / "stall-times.csv.gz", "rt") as file:
        seen = sum(int(row["count"]) for row in csv.DictReader(file))
    assert seen == sum(int(row["operations"]) for row in rows)
    text = (tmp_path / "out" / "stall.txt").read_text()
    largest = re.search(r"at most (\d+) KiB", text)
    assert largest is None or int(largest[1]) <= 2048
    assert (tmp_path / "out" / "stall.png").stat().st_size > 10_000


@needs_peers
def test_what_services_hold_at_rest(tmp_path):
    answer = run(sys.executable, "-m", "harness.idle", BUILD, tmp_path / "out", 2, "--quick", "--peer",
                 "off=ace:mode=off", "--peer", "static=ace:mode=static")  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    rows = {(row["host"], row["run"], row["peer"]): row for row in csv.DictReader(open(tmp_path / "out" / "idle.csv"))}
    assert {key[0] for key in rows} == {"luajit", "cpython"} and {key[1] for key in rows} == {"short", "long"}
    for host in ("luajit", "cpython"):
        for length in ("short", "long"):
            held = {mode: float(rows[host, length, mode]["at 1 s"]) for mode in ("off", "static")}
            assert held["static"] < held["off"] / 2, (host, length, held)
    assert (tmp_path / "out" / "idle.png").stat().st_size > 10_000
    assert "static" in (tmp_path / "out" / "idle.txt").read_text()


def test_a_missing_build_is_told(tmp_path):
    answer = run(sys.executable, "-m", "harness.idle", tmp_path, tmp_path / "out", 1, "--peer", "off=ace:mode=off")
    assert answer.returncode == 1 and "there is no ACE here" in answer.stderr, answer.stderr
