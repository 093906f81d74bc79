"""The part `services`: a server program is loaded, watched and ended, and what goes wrong is told."""

import csv
import os
import sys

import pytest

pytest.importorskip("hdrh")
from harness import cli, measure, peers, programs, service, session  # noqa: E402
from harness.errors import Failed  # noqa: E402


def jobs(args="2 cycles of 50 requests, rests of 0.4 s", command=("jobs.py", "{port}")):
    return programs.Program("services", "cpython", "cpython", "jobs", args, (sys.executable, *command),
                            str(service.SERVICES), compares_output=False, way="service",
                            settings={"SERVICE_PROTOCOL": "lines"})  # fmt: skip


@pytest.fixture
def bench(build):
    bench = session.Bench(build, None, 60)
    yield bench
    if bench.lock:
        bench.lock.close()


@pytest.fixture
def build():
    return cli.Path(os.environ.get("ACE_BUILD", cli.ROOT / "build")).resolve()


@pytest.mark.parametrize("name", ["own", "ace", "glibc-hinted"])
def test_a_service_is_measured(bench, build, name):
    found, _ = peers.find(build)
    row, samples = measure.run(jobs(), found[name], bench)
    assert row["ops_per_second"] > 0 and 0 < row["p50_seconds"] <= row["p99_seconds"] < 60
    assert row["seconds_cpu"] > 0.1
    assert row["peak_rss"] >= row["rss_rest"] > 5e6 and row["private_dirty"] > 1e6
    assert 0.7 < row["rest_seconds"] < 1.5
    assert len(samples) > 15
    if name == "ace":
        assert row["purges"] > 0
        assert 0 < row["held"] < row["rss_rest"]
    else:
        assert row["held"] is None


def test_a_service_that_does_not_start_is_told(bench, build):
    found, _ = peers.find(build)
    with pytest.raises(Failed, match="it ended at its start: .*no_such_file"):
        measure.run(jobs(command=("no_such_file.py",)), found["own"], bench)


def test_a_peer_that_is_not_in_it_fails(bench, build):
    found, _ = peers.find(build)
    absent = peers.Peer("absent", "library", "/no/such/library.so")
    with pytest.raises(Failed, match="was not loaded into process"):
        measure.run(jobs(), absent, bench)
    assert found["own"].why_not("cpython", "services") == ""


def test_one_server_answers_alike_whatever_its_framework():
    """All services do the same work, so that they can be compared."""
    sys.path.insert(0, str(service.SERVICES))
    try:
        import work

        assert work.small(3) == work.small(3) != work.small(4)
        answer = work.large(1)
        assert answer.startswith('{"') and answer.count("[") == 16
    finally:
        sys.path.remove(str(service.SERVICES))


def test_its_row_can_be_written(tmp_path, bench, build):
    from harness.results import COLUMNS, Store

    found, _ = peers.find(build)
    row, samples = measure.run(jobs(), found["own"], bench)
    assert set(row) <= set(COLUMNS)
    store = Store(tmp_path)
    store.start()
    key = ("services", "cpython", "jobs", "x", "own", 0)
    store.add({**dict(zip(("part", "host", "program", "args", "peer", "round"), key)), "status": "ok", **row})
    store.add_samples(key, samples)
    with open(tmp_path / "runs.csv") as file:
        assert float(next(csv.DictReader(file))["p99_seconds"]) > 0
