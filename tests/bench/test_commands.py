"""What the commands of scripts and bench that are shell say of themselves."""

import os
import pathlib
import subprocess

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("command", ["scripts/demo", "scripts/newer-hosts", "scripts/shim-programs", "scripts/test",
                                     "bench/predict"])  # fmt: skip
def test_help_is_all_that_it_does(command, tmp_path):
    """From any folder, and without installing or building anything."""
    folder, name = os.path.split(command)
    answer = subprocess.run(
        ["./" + name, "--help"], cwd=REPOSITORY / folder, env={**os.environ, "ACE_VENV": str(tmp_path / "venv")},
        capture_output=True, text=True, timeout=60)  # fmt: skip
    lines = answer.stdout.splitlines()
    assert (answer.returncode, answer.stderr) == (0, "") and len(lines) > 1
    assert lines == [line[2:] for line in (REPOSITORY / command).read_text().splitlines()[1 : 1 + len(lines)]]
    assert not (tmp_path / "venv").exists()


def test_who_names_no_folder_is_told_what_is_needed():
    answer = subprocess.run(["./newer-hosts"], cwd=REPOSITORY / "scripts", capture_output=True, text=True, timeout=60)
    assert answer.returncode == 2 and "scripts/newer-hosts DIR" in answer.stderr
