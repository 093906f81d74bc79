"""Recordings of real interpreters, and what replays of them gave."""

import acealloc
import pytest
from recorded import PROGRAMS, ace


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    """A trace of each program, by its name."""
    folder = tmp_path_factory.mktemp("traces")
    found = {}
    for name, command in PROGRAMS.items():
        done = ace("record", "-o", folder / (name + ".ace"), "--", *command)
        assert done.returncode == 0, done.stderr
        found[name] = folder / (name + ".ace")
    return found


@pytest.fixture(scope="module")
def replays(traces):
    return {
        name: acealloc.replay(path, ["own", "glibc", "none", "ace"], fast=True, rounds=2)
        for name, path in traces.items()
    }
