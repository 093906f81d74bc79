"""bench/predict's harness, in small, on real interpreters and the real library. How well it predicts is not judged."""

import csv
import json
import os
import pathlib
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("ACE_BUILD", REPOSITORY / "build"))

pytestmark = pytest.mark.skipif(
    not (BUILD / "bench" / "launch").exists(), reason="bench/launch is not built (-Dbench=true)"
)


def predict(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "bench")}
    command = [sys.executable, "-m", "harness.predict", BUILD, *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, env=environment)


def test_a_prediction_stands_beside_what_was_seen(tmp_path):
    done = predict(tmp_path, "--quick", "--programs", "lua5.4/table_churn", "--programs", "cpython/swell")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(open(tmp_path / "predict.csv")))
    assert {row["program"] for row in rows} == {"lua5.4 table_churn", "cpython swell"}
    assert {"ace", "glibc"} <= {row["peer"] for row in rows if row["program"] == "cpython swell"}
    for row in rows:
        seconds, predicted = float(row["live_seconds"]), float(row["predicted_seconds"])
        assert seconds > 0 and float(row["time_error"]) == pytest.approx(predicted / seconds - 1)
        # Memory repeats: of the real thing most is foreseen.
        assert abs(float(row["peak_error"])) < 0.35, row
    assert (tmp_path / "predict.txt").read_text() in done.stdout
    assert json.loads((tmp_path / "machine.json").read_text())["command"].startswith("bench/predict ")


def test_a_program_that_there_is_not(tmp_path):
    done = predict(tmp_path, "--quick", "--programs", "nosuch")
    assert done.returncode == 1 and "predict: no program fits 'nosuch'" in done.stderr
