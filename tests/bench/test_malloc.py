"""bench/malloc on programs of its own: what it runs, what it makes of it, and what it says where something is wrong."""

import csv
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("ACE_BUILD", ROOT / "build"))


@pytest.fixture
def compare(tmp_path):
    if not (BUILD / "bench/launch").exists() or not (BUILD / "src/shim/libace-malloc.so").exists():
        pytest.skip("the build has no bench/launch or no libace-malloc.so (-Dbench=true)")

    def run(programs, *words):
        suites = tmp_path / "suites"
        suites.mkdir()
        for name, text in programs.items():
            (suites / name).write_text("#!/bin/sh\n" + text)
            (suites / name).chmod(0o755)
        command = [ROOT / "bench/malloc", "--suites", suites, "--output", tmp_path / "out", "--build", BUILD, *words]
        return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, timeout=60)

    return run


WORK = "i=0; while [ $i -lt 3000 ]; do i=$((i + 1)); done\n"


def test_every_program_runs_on_every_allocator_in_each_round(compare, tmp_path):
    done = compare({"cfrac": WORK, "larson": WORK + 'echo "Throughput = 500 operations"\n'}, "--rounds", "2")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(open(tmp_path / "out/runs.csv")))
    peers = {row["peer"] for row in rows}
    assert {"glibc", "ace"} <= peers and len(rows) == 2 * 2 * len(peers)
    assert {row["done"] for row in rows if row["program"] == "larsonN"} == {"500.0"}
    for row in rows:
        assert float(row["cost"]) == pytest.approx(float(row["seconds_cpu"]) / float(row["done"]))
    report = (tmp_path / "out/report.md").read_text()
    assert len(re.findall(r"^\| geometric mean \| [\d.]+", report, re.M)) == 2
    assert "espresso" in done.stderr  # left out, and that is said


def test_what_fails_is_told(compare, tmp_path):
    done = compare({"cfrac": "exit 3\n", "larson": WORK}, "--rounds", "1")
    assert done.returncode == 1
    report = (tmp_path / "out/report.md").read_text()
    assert "cfrac on ace, round 0: status 3" in report
    assert "larsonN on ace, round 0: it does not say what it did" in report


def test_an_allocator_that_is_not_in_the_program_does_not_count(compare, tmp_path):
    no_library = tmp_path / "no-library.so"
    no_library.write_text("")
    compare({"cfrac": WORK}, "--rounds", "1", "--peer", "none=%s" % no_library)
    rows = list(csv.DictReader(open(tmp_path / "out/runs.csv")))
    assert [row["failure"] for row in rows if row["peer"] == "none"] == ["the allocator was not in it"]


def test_nothing_to_run(compare):
    done = compare({})
    assert done.returncode == 2 and "there is no program to run" in done.stderr
