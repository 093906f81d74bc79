"""Searches over options, and ablations, on recorded runs; also by several processes at one study."""

import csv
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import acealloc
import pytest
from acealloc import ablating, comparing, searching
from acealloc.errors import Failure
from recorded import ACE, CLEAN, ace


def test_a_search_goes_on_where_it_was(traces, tmp_path):
    storage = "sqlite:///%s" % (tmp_path / "study.db")
    command = ["sweep", traces["cpython"], "--storage", storage, "--csv", tmp_path / "trials.csv"]
    assert ace(*command, "--trials", "3").returncode == 0
    done = ace(*command, "--trials", "7")
    assert done.returncode == 0 and "7 trials" in done.stdout, done.stderr
    rows = list(csv.DictReader(open(tmp_path / "trials.csv")))
    assert len(rows) == 7 and [row["by_hand"] for row in rows] == 5 * ["True"] + 2 * ["False"]
    assert {row["mode"] for row in rows[:5]} == {"learn", "static", "off"}
    front = [(float(row["seconds"]), float(row["mean_bytes"])) for row in rows if row["on_front"] == "True"]
    assert front and all(not (a[0] < b[0] and a[1] < b[1]) for a in front for b in front)
    other = ace("sweep", traces["luajit"], "--storage", storage)
    assert other.returncode == 1 and "is of other traces: give this search another name (--study NAME" in other.stderr


def test_a_search_that_is_interrupted_loses_nothing(traces, tmp_path):
    storage = "sqlite:///%s" % (tmp_path / "study.db")
    command = [*ACE, "sweep", traces["cpython"], "--storage", storage, "--trials", "5", "--rounds", "20"]
    search = subprocess.Popen(list(map(str, command)), env=CLEAN, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "study.db").exists() or not begun(storage):
        time.sleep(0.1)
    time.sleep(1)  # it is being replayed by now, twenty times and more
    search.send_signal(signal.SIGINT)
    said = search.communicate(timeout=60)[1]
    assert search.returncode == 130, said
    assert "goes on where this one was" in said
    done = ace("sweep", traces["cpython"], "--storage", storage, "--trials", "5", "--csv", tmp_path / "trials.csv")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(open(tmp_path / "trials.csv")))
    assert [row["by_hand"] for row in rows] == 5 * ["True"]


def test_an_interrupt_that_spoils_the_connection_loses_nothing(traces, tmp_path, monkeypatch):
    import optuna

    storage = "sqlite:///%s" % (tmp_path / "study.db")
    studies = []

    def interrupted(*_):
        raise KeyboardInterrupt

    def put_back(study, begun):
        studies.append(study)
        if study is studies[0]:
            raise optuna.exceptions.StorageInternalError("its connection was left as it was")
        searched(study, begun)

    searched = searching._put_back
    monkeypatch.setattr(searching, "compare", interrupted)
    monkeypatch.setattr(searching, "_put_back", put_back)
    with pytest.raises(KeyboardInterrupt):
        acealloc.sweep([traces["lua5.4"]], storage=storage, trials=5)
    assert len(studies) == 2
    waiting = optuna.load_study(storage=storage, study_name="ace").get_trials(states=[optuna.trial.TrialState.WAITING])
    assert len(waiting) == len(searching.BY_HAND)


def begun(storage):
    """Has one of a study's trials begun?"""
    import optuna

    try:
        return any(trial.state == optuna.trial.TrialState.RUNNING for trial in
                   optuna.load_study(storage=storage, study_name="ace").get_trials(deepcopy=False))  # fmt: skip
    except Exception:  # its tables are being made
        return False


def test_a_search_of_ones_own(traces, tmp_path):
    storage = "sqlite:///%s" % (tmp_path / "study.db")
    done = ace("sweep", traces["lua5.4"], "--storage", storage, "--trials", 3, "--option", "kinds=on,off",
               "--option", "idle_delay=1ms..2000ms", "--csv", tmp_path / "t.csv")  # fmt: skip
    assert done.returncode == 0, done.stderr
    for row in csv.DictReader(open(tmp_path / "t.csv")):
        assert row["kinds"] in ("on", "off") and 1 <= int(row["idle_delay"].removesuffix("ms")) <= 2000
    other = ace("sweep", traces["lua5.4"], "--storage", storage, "--trials", 4, "--option", "kinds=on,off")
    assert other.returncode == 1
    assert "the study 'ace' in %s is of another search: give this search another name" % storage in other.stderr
    with pytest.raises(Failure, match="cannot be '5m': it takes"):
        wrong = {"idle_delay": searching.Choice(("5m",))}
        acealloc.sweep([traces["lua5.4"]], space=wrong, storage=storage, name="wrong")
    assert "wrong" not in (tmp_path / "study.db").read_text(errors="replace")
    import optuna

    optuna.create_study(storage=storage, study_name="single", direction="minimize")
    with pytest.raises(Failure, match="is none of `ace sweep`"):
        acealloc.sweep([traces["lua5.4"]], trials=1, storage=storage, name="single")
    waiting = ace("sweep", traces["lua5.4"], "--storage", storage, "--trials", 4, "--option", "kinds=on,off",
                  "--option", "idle_delay=1ms..2000ms", "--wait")  # fmt: skip
    assert waiting.returncode == 1 and "of replays that do not wait" in waiting.stderr, waiting.stderr
    for wrong in ("kinds", "nosuch=1,2", "idle_delay=5ms..2s", "idle_delay=9ms..2ms", "kinds=on,both",
                  "idle_delay=1m..2m", "limit=64m,1g"):  # fmt: skip
        assert ace("sweep", traces["lua5.4"], "--option", wrong).returncode == 1
    absent = ace("sweep", traces["lua5.4"], "--storage", "sqlite:////nowhere/study.db")
    assert absent.returncode == 1 and "cannot be used" in absent.stderr


def test_an_ablation(traces, tmp_path):
    done = ace("ablate", traces["cpython"], "--rounds", "1", "--csv", tmp_path / "table.csv")
    assert done.returncode == 0, done.stderr
    rows = {row["variant"]: row for row in csv.DictReader(open(tmp_path / "table.csv"))}
    assert list(rows) == ["mode=static", "mode=off", "idle_delay=1s", "idle_delay=10ms", "worker=off", "kinds=on",
                          "huge_pages=off"]  # fmt: skip
    assert float(rows["mode=off"]["mean"]) > 1.1, "what is never given back is memory"
    assert "no difference" not in done.stdout and "time undecided: 1 of 6 comparisons" in " ".join(done.stdout.split())
    assert "--source" in done.stdout and ace("ablate", traces["cpython"], "--source", "/nowhere").returncode == 1


@pytest.mark.parametrize("traces_and_rounds, decides", [((1, 5), False), ((1, 6), True), ((2, 3), True)])
def test_six_comparisons_decide(traces_and_rounds, decides, traces, monkeypatch):
    count, rounds = traces_and_rounds
    dearer = comparing.Compared("", 1.1, 1.05, 1.2, 1.0, 1.0, 1.0)
    monkeypatch.setattr(ablating, "compare", lambda *_: [dearer])
    row = next(acealloc.ablate([traces["lua5.4"]] * count, rounds=rounds))
    assert row.decides is decides and row.comparisons == count * rounds


@pytest.mark.parametrize(
    "seconds, mean, decides, comparisons, said",
    [
        (1.1, 1.0, True, 6, "costs 10.0% time"),
        (1.1, 0.9, False, 5, "time undecided: 5 of 6 comparisons, saves 10.0% memory"),
        (1.1, 1.0, False, 6, "time undecided: more in some of 6 comparisons, less in others"),
        (1.01, 1.0, False, 6, "makes no difference"),
    ],
)
def test_what_is_not_decided_is_no_lack_of_difference(seconds, mean, decides, comparisons, said):
    from acealloc.render_experiments import _meaning

    assert _meaning(ablating.Ablated("", "", seconds, 1.0, mean, 1.0, decides, comparisons)) == said


# ---- several processes at one study


@pytest.fixture
def postgresql(tmp_path):
    """The URL of a database of its own, on a real server."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("PostgreSQL is not installed")
    folder = found[-1].parent
    # The server refuses to be root's.
    is_root = os.getuid() == 0
    place = Path(tempfile.mkdtemp(prefix="ace-postgresql-"))
    if is_root:
        shutil.chown(place, "postgres")

    def as_user(*words):
        command = ["runuser", "-u", "postgres", "--", *words] if is_root else list(words)
        subprocess.run(list(map(str, command)), check=True, capture_output=True, cwd=place)

    data, log = place / "data", place / "log"
    settings = "-c listen_addresses= -c unix_socket_directories=%s" % place
    as_user(folder / "initdb", "-D", data, "-A", "trust", "-U", "ace", "-E", "UTF8")
    as_user(folder / "pg_ctl", "-D", data, "-l", log, "-w", "-o", settings, "start")
    try:
        yield "postgresql+psycopg2://ace@/postgres?host=%s" % place
    finally:
        as_user(folder / "pg_ctl", "-D", data, "-m", "fast", "stop")
        shutil.rmtree(place)


def test_two_processes_search_together(traces, tmp_path, postgresql):
    command = [*ACE, "sweep", traces["luajit"], "--storage", postgresql, "--study", "shared", "--trials", "12"]
    workers = [
        subprocess.Popen(list(map(str, command)), env=CLEAN, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for worker in workers:
        output, problems = worker.communicate(timeout=600)
        assert worker.returncode == 0, problems
    import optuna

    shared = optuna.load_study(storage=postgresql, study_name="shared")
    done = [trial for trial in shared.trials if trial.values is not None]
    assert len(done) == 12
    assert len({trial.user_attrs["process"] for trial in done}) == 2, "both took part"
    by_hand = [trial for trial in done if trial.user_attrs.get("by_hand")]
    assert len(by_hand) == 5, "none was tried twice"
