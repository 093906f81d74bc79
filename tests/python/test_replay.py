"""Recorded runs of real interpreters, replayed: on ACE and on other allocators, measured, searched over, drawn."""

import contextlib
import csv
import gzip
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from html.parser import HTMLParser
from pathlib import Path

import acealloc
import pytest
from acealloc import ablating, comparing, searching
from acealloc.errors import Failure
from acealloc.measured import histogram_of, quantile
from acealloc.page import Page
from acealloc.page_pictures import merged, pareto

ACE = [sys.executable, "-m", "acealloc.cli"]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("ACE_", "LD_PRELOAD", "PYTHONM"))}
PROGRAMS = {
    "cpython": ("/usr/bin/python3", "-S", "-c", textwrap.dedent("""
        import gc, time
        kept = []
        for turn in range(3):
            items = [{"id": i, "name": "n" * (i % 90), "parts": [i, str(i)]} for i in range(20000)]
            kept += items[::500]
            items[1]["itself"] = items
            del items
            gc.collect()
            time.sleep(0.4)
        kept.append(bytes(3_000_000))
    """)),
    "luajit": ("luajit", "-e", textwrap.dedent("""
        local kept = {}
        for turn = 1, 4 do
          local items = {}
          for i = 1, 30000 do items[i] = {id = i, name = ("n"):rep(i % 90) .. turn, parts = {i, i}} end
          for i = 1, 30000, 500 do kept[#kept + 1] = items[i] end
          items = nil
          collectgarbage() collectgarbage()
          os.execute('sleep 0.2')
        end
    """)),
    "lua5.4": ("lua5.4", "-e", "for turn = 1, 3 do local t = {} for i = 1, 30000 do t[i] = {i, tostring(i)} end end"),
}  # fmt: skip


def ace(*arguments, folder=None):
    words = [*ACE, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=600, env=CLEAN, cwd=folder)


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


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_replay_does_what_the_program_did(replays, name):
    result = replays[name]
    trace = result.trace
    live = max(sum(one.values()) for one in live_of_heaps(trace))
    for allocator in ("own", "glibc", "ace"):
        for run in result.timed(allocator):
            assert run.peak_live_bytes == pytest.approx(trace.totals["peak_live_bytes"], rel=0.02)
            # Samples of the trace are a millisecond apart.
            assert run.peak_live_bytes >= 0.9 * live
            at_peak = max(run.samples, key=lambda sample: sample[2])
            assert at_peak[1] > 0.95 * at_peak[2], "blocks were not touched"
            assert run.peak_bytes < 3 * run.peak_live_bytes
            assert run.faults >= run.peak_bytes / 2**21
    # What the replay itself takes is memory of its own, and counts for nobody.
    assert result.timed("none")[0].peak_bytes < 2**20


def live_of_heaps(trace):
    live = {}
    for moment in trace.live():
        live[moment.heap] = moment.live_bytes
        yield live


@pytest.mark.parametrize("name", PROGRAMS)
def test_blocks_are_put_into_the_same_places_every_time(replays, traces, name):
    again = acealloc.replay(traces[name], ["ace", acealloc.Policy("kinds", kinds="on")], fast=True, detail=False)
    first = replays[name].timed("ace")[0].placement
    assert again.timed("ace")[0].placement == first
    if name != "luajit":  # which tells no kinds
        assert again.timed("kinds")[0].placement != first


def test_detail(replays):
    result = replays["luajit"]
    calls = result.trace.totals
    detail = result.detail("ace")
    assert sum(detail.latency["alloc"].values()) == calls["allocations"]
    assert sum(detail.latency["free"].values()) == calls["frees"] - calls["unknown"]
    assert sum(detail.latency["realloc"].values()) == calls["reallocs"]
    before, after = detail.pages["before"], detail.pages["after"]
    assert len(after) < 0.7 * len(before), "what a full collection freed went back"
    full = sum(page > 200 for page in before) / len(before)
    assert full > sum(page > 200 for page in result.detail("glibc").pages["after"]) / len(before)
    summary = {one.allocator: one for one in result.summaries()}["ace"]
    assert summary.p50 <= summary.p99 <= summary.p999
    assert summary.rounds == 2 and summary.fastest <= summary.seconds <= summary.slowest


def test_memory_of_the_policies_differs(traces):
    policies = [acealloc.Policy.parse("mode=static"), acealloc.Policy.parse("held:mode=off")]
    result = acealloc.replay(traces["cpython"], policies, fast=True, detail=False)
    static, held = result.timed("mode=static")[0], result.timed("held")[0]
    assert static.byte_seconds < 0.9 * held.byte_seconds


def test_without_a_worker_nothing_goes_back_later(traces):
    policies = [acealloc.Policy("on", mode="static"), acealloc.Policy("off", mode="static", worker="off")]
    on, off = acealloc.replay(traces["cpython"], policies, fast=True, detail=False).runs
    assert on.byte_seconds != off.byte_seconds


def test_peers_that_are_told_give_memory_back(traces):
    result = acealloc.replay(traces["luajit"], ["glibc", "glibc-hinted"], fast=True, detail=False)
    assert result.timed("glibc-hinted")[0].byte_seconds < 0.9 * result.timed("glibc")[0].byte_seconds


def test_it_waits_where_the_program_waited(traces):
    begin = time.monotonic()
    waited = acealloc.replay(traces["cpython"], ["ace"], detail=False).timed("ace")[0]
    # The program slept for 1.2 seconds; less cannot have passed, however fast the machine is.
    assert time.monotonic() - begin > 1.2 and waited.trace_seconds > 1.2


def test_results_are_kept(traces, tmp_path):
    keep = tmp_path / "results"
    first = acealloc.replay(traces["lua5.4"], ["glibc", "ace"], fast=True, keep=keep)
    files = {path: path.stat().st_mtime_ns for path in keep.iterdir()}
    assert len(files) == 4
    told = []
    again = acealloc.replay(traces["lua5.4"], ["glibc", "ace"], fast=True, keep=keep, rounds=2,
                            progress=lambda share, what: told.append((share, what)))  # fmt: skip
    assert {path: path.stat().st_mtime_ns for path in files} == files, "what was there is not run again"
    assert len(list(keep.iterdir())) == 6 and again.timed("ace")[0] == first.timed("ace")[0]
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1
    with pytest.raises(Failure, match="another trace"):
        acealloc.replay(traces["luajit"], ["ace"], fast=True, keep=keep)
    (kept,) = keep.glob("glibc.1.json")
    written = kept.stat().st_mtime_ns
    acealloc.replay(traces["lua5.4"], ["glibc"], fast=True, detail=False, keep=keep)
    assert kept.stat().st_mtime_ns == written
    acealloc.replay(traces["lua5.4"], ["glibc"], fast=True, detail=False, keep=keep, core=0)
    assert kept.stat().st_mtime_ns > written, "measured under other conditions"


def test_a_kept_result_that_is_damaged_is_run_again(traces, tmp_path):
    first = acealloc.replay(traces["lua5.4"], ["ace"], fast=True, detail=False, keep=tmp_path)
    (kept,) = tmp_path.iterdir()
    for damaged in (kept.read_text()[:100], "{}", "[]"):
        kept.write_text(damaged)
        again = acealloc.replay(traces["lua5.4"], ["ace"], fast=True, detail=False, keep=tmp_path)
        assert again.runs[0].placement == first.runs[0].placement


def test_a_prediction_adds_what_the_allocators_differ_by(replays):
    result = replays["lua5.4"]
    one = {summary.allocator: summary for summary in result.summaries()}
    predicted = result.predict(10.0, 500_000_000)
    assert predicted["own"] == (10.0, 500_000_000)
    assert predicted["ace"][0] == pytest.approx(10.0 + one["ace"].seconds - one["own"].seconds)
    library = predicted["ace"][1] - (500_000_000 + one["ace"].peak_bytes - one["own"].peak_bytes)
    assert 0 <= library < 1_000_000
    with pytest.raises(Failure, match="nothing was replayed on 'jemalloc'"):
        result.predict(1.0, 1, of="jemalloc")


def test_frames(replays):
    result = replays["lua5.4"]
    frame = result.frame()
    assert list(frame.index) == ["own", "glibc", "none", "ace"] and (frame["peak_bytes"] >= 0).all()
    samples = result.samples_frame()
    assert set(samples.columns) == {"allocator", "round", "seconds", "resident_bytes", "live_bytes"}
    assert len(samples) == sum(len(run.samples) for run in result.runs)


@pytest.mark.parametrize(
    "allocators, message",
    [
        (["nosuch"], "there is no allocator 'nosuch'; there are own, ace"),
        (["own-hinted"], "there is no allocator 'own-hinted'; there are own, ace"),
        (["mine=/nowhere/lib.so"], "there is no library /nowhere/lib.so"),
        (["ace", "ace"], "called the same"),
        (["mine=" + sys.executable], "is no shared library of this machine that has a malloc"),
        (["mine=" + acealloc._core.__file__], "is no shared library of this machine that has a malloc"),
    ],
)
def test_what_cannot_be_replayed_on(traces, allocators, message):
    with pytest.raises(Failure, match=re.escape(message)):
        acealloc.replay(traces["lua5.4"], allocators, fast=True, detail=False)


def test_the_loader_refuses_what_it_cannot_preload(traces, monkeypatch):
    monkeypatch.setattr("acealloc.program.defines_malloc", lambda path: True)
    with pytest.raises(Failure, match="cannot be preloaded"):
        acealloc.replay(traces["lua5.4"], ["mine=" + sys.executable], fast=True, detail=False)


def test_processors_are_checked(traces):
    for verb in (["replay"], ["report"], ["sweep", "--storage", "sqlite:////nowhere/study.db"], ["ablate"]):
        done = ace(*verb, traces["lua5.4"], "--core", "4096")
        assert done.returncode == 1 and "there is no processor 4096" in done.stderr
    for verb in ("replay", "report", "sweep", "ablate"):
        done = ace(verb, traces["lua5.4"], "--rounds", "0")
        assert done.returncode == 2 and "--rounds must be at least 1" in done.stderr


def test_policies_are_checked():
    before = acealloc.option_get("mode"), acealloc.option_get("idle_delay")
    for wrong in ("mode=sideways", "mode=static,idle_delay=long"):
        with pytest.raises(Failure, match="cannot be '(sideways|long)': it takes"):
            acealloc.Policy.parse(wrong)
    assert acealloc.Policy("some", mode="static", idle_delay="5s").options == {"mode": "static", "idle_delay": "5s"}
    assert (acealloc.option_get("mode"), acealloc.option_get("idle_delay")) == before
    with pytest.raises(Failure, match="the option 'limit' has no effect in a replay"):
        acealloc.Policy("some", limit="64m")
    with pytest.raises(Failure, match="there is no option 'nosuch'; there are .*mode"):
        acealloc.Policy("wrong", nosuch="1")
    with pytest.raises(Failure, match="NAME:"):
        acealloc.Policy.parse("mode")
    policy = acealloc.Policy.parse("some:mode=static,playbook=/a,b,kinds=on")
    assert policy.name == "some" and policy.options == {"mode": "static", "playbook": "/a,b", "kinds": "on"}


def test_a_truncated_trace_is_replayed_up_to_its_end(traces, tmp_path):
    whole = traces["luajit"].read_bytes()
    part = tmp_path / "part.ace"
    part.write_bytes(whole[: 2 * len(whole) // 3])
    done = ace("replay", part, "--fast", "--no-detail", "--against", "glibc")
    assert done.returncode == 0 and "part.ace is truncated" in done.stderr
    assert re.search(r"^ glibc ", done.stdout, re.M) and re.search(r"^ ace ", done.stdout, re.M)
    (tmp_path / "none.ace").write_bytes(b"no trace at all")
    assert ace("replay", tmp_path / "none.ace").returncode == 1


def test_every_verb_says_that_a_trace_is_not_whole(traces, tmp_path):
    whole = traces["lua5.4"].read_bytes()
    (tmp_path / "part.ace").write_bytes(whole[: len(whole) // 2])
    packed = bytearray(gzip.compress(whole))
    packed[-6] ^= 1  # of the checksum
    (tmp_path / "wrong.ace.gz").write_bytes(packed)
    assert acealloc.Trace(tmp_path / "wrong.ace.gz").totals["status"] == "damaged"
    for verb in (["replay", "--core", "4096"], ["report", "--core", "4096"], ["sweep", "--core", "4096"],
                 ["ablate", "--core", "4096"]):  # fmt: skip
        for file, status in (("part.ace", "truncated"), ("wrong.ace.gz", "damaged")):
            done = ace(*verb, tmp_path / file)
            assert "%s is %s: what can be read" % (file, status) in " ".join(done.stderr.split()), done.stderr
    for words, what in ((["replay"], "trace"), (["report"], "trace"), (["explain"], "log")):
        done = ace(*words, "/nowhere/file")
        assert done.returncode == 1
        assert done.stderr.startswith("ace %s: there is no %s /nowhere/file" % (words[0], what)), done.stderr


def test_a_compressed_trace(traces, tmp_path):
    command = PROGRAMS["lua5.4"]
    done = ace("record", "-o", tmp_path / "run.ace.gz", "--", *command)
    assert done.returncode == 0 and "run.ace.gz: Lua 5.4" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run.ace.gz"]
    packed, plain = acealloc.Trace(tmp_path / "run.ace.gz"), acealloc.Trace(traces["lua5.4"])
    assert packed.totals["events"] == pytest.approx(plain.totals["events"], rel=0.01)
    assert packed.totals["status"] == "whole"
    assert packed.totals["file_bytes"] < 4 * packed.totals["events"] < packed.totals["bytes"] * 2
    result = acealloc.replay(packed, ["ace"], fast=True, detail=False)
    assert result.timed("ace")[0].peak_live_bytes == pytest.approx(packed.totals["peak_live_bytes"], rel=0.02)
    half = tmp_path / "half.ace.gz"
    half.write_bytes((tmp_path / "run.ace.gz").read_bytes()[: packed.totals["file_bytes"] // 2])
    part = acealloc.Trace(half)
    assert part.totals["status"] == "truncated" and 0 < part.totals["events"] < packed.totals["events"]
    (tmp_path / "none.gz").write_bytes(b"\x1f\x8b nothing of the kind")
    with pytest.raises(Failure, match="none.gz"):
        acealloc.Trace(tmp_path / "none.gz")


def test_the_command(traces):
    done = ace("replay", traces["lua5.4"], "--fast", "--policy", "held:mode=off", "--live", "2.5,100", "--rounds", "2")
    assert done.returncode == 0, done.stderr
    for name in ("own", "ace", "held"):
        assert re.search(r"^ %s .*%%\).* 2\.\d\d s" % name, done.stdout, re.M), done.stdout
    for wrong in ("2.5", "nan,100", "2.5,inf", "2.5,nan", "0,100", "2.5,-1"):
        assert "must be SECONDS,MB, above 0" in ace("replay", traces["lua5.4"], "--live=" + wrong).stderr


@pytest.mark.parametrize("keep", [False, True], ids=["", "keep"])
@pytest.mark.parametrize("verb", ["replay", "report"])
def test_an_interrupted_replay_shows_what_was_measured(verb, keep, traces, tmp_path):
    words = [verb, traces["cpython"], "--rounds", "50", "--against", "glibc", *(["--keep", tmp_path / "kept"] * keep)]
    terminal, end = os.openpty()  # where the progress is told
    replaying = subprocess.Popen([*ACE, *map(str, words)], env=dict(CLEAN, TERM="xterm", COLUMNS="80"), cwd=tmp_path,
                                 stdout=subprocess.PIPE, stderr=end, start_new_session=True)  # fmt: skip
    os.close(end)
    said = b""
    while not re.search(rb" ace .* ace ", said, re.S):  # the first of them is done
        said += os.read(terminal, 4096)
    os.killpg(replaying.pid, signal.SIGINT)
    with contextlib.suppress(OSError):
        while True:
            said += os.read(terminal, 4096)
    os.close(terminal)
    shown = replaying.communicate(timeout=60)[0].decode()
    assert replaying.returncode == 130 and re.search(r"^ glibc +[\d.]+ m?s ", shown, re.M), shown
    told = " ".join(re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", said).decode().split())
    assert "interrupted: what was measured by then follows" + (", and is kept in" if keep else "; with --keep") in told
    assert not (tmp_path / "report.html").exists() and (tmp_path / "kept").exists() == keep


def test_an_interrupt_holds_what_was_done(traces):
    def interrupt(share, what):
        if share >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        acealloc.replay(traces["lua5.4"], ["glibc", "ace"], fast=True, detail=False, progress=interrupt)
    assert [run.allocator for run in caught.value.result.runs] == ["glibc"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_replay_that_is_ended_leaves_nothing(number, traces, tmp_path):
    command = [*ACE, "replay", str(traces["cpython"]), "--rounds", "50"]
    replaying = subprocess.Popen(command, env=dict(CLEAN, TMPDIR=str(tmp_path)))
    children = Path("/proc/%d/task/%d/children" % (replaying.pid, replaying.pid))
    seen, child = "", ""
    while not child or child != seen:  # until its start is over
        seen = child
        time.sleep(0.3)
        child = children.read_text().strip()
    replaying.send_signal(number)
    assert replaying.wait(30) == 128 + number
    assert list(tmp_path.iterdir()) == [] and not Path("/proc", child).exists()


# ---- the page


class Outside(HTMLParser):
    """Gathers whatever the page would fetch."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data")
                       and value and not value.startswith(("#", "data:"))]  # fmt: skip
        self.found += [tag] if tag in ("script", "link", "iframe") else []


@pytest.fixture(scope="module")
def page(traces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    done = ace("report", traces["luajit"], "--fast", "--rounds", "1", "--against", "own,glibc-hinted", "--policy",
               "held:mode=off", "-o", folder / "page.html", "--png", folder / "png")  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "page.html"


def test_the_page_holds_everything(page):
    text = page.read_text()
    outside = Outside()
    outside.feed(text)
    assert outside.found == []
    assert len(text) < 2_000_000 and text.count("<svg") == 4
    for words in ("Resident memory over time", "Time and memory", "How long an allocation takes", "Resident pages",
                  "× the memory of the VM", "glibc-hinted", "held", "not live"):  # fmt: skip
        assert words in text
    pictures = {path.name: path.read_bytes()[:4] for path in (page.parent / "png").iterdir()}
    assert pictures == dict.fromkeys(["memory.png", "front.png", "latency.png", "pages.png"], b"\x89PNG")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_draws_the_page(page, tmp_path):
    browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir=%s" % tmp_path]
    picture = tmp_path / "page.png"
    subprocess.run([*browser, "--window-size=1100,3000", "--screenshot=%s" % picture, page.as_uri()],
                   check=True, capture_output=True, timeout=120)  # fmt: skip
    import matplotlib.image

    pixels = matplotlib.image.imread(picture)[:, :, :3]
    assert pixels.shape[:2] == (3000, 1100)
    blue = (abs(pixels - [0x0B / 255, 0x6F / 255, 0xB8 / 255]) < 0.02).all(axis=2).sum()
    red = (abs(pixels - [0xC8 / 255, 0x33 / 255, 0x1E / 255]) < 0.02).all(axis=2).sum()
    assert blue > 1000 and red > 1000, "ACE's colour is in the pictures, and empty pages in the map"


def test_a_page_needs_its_folder(traces):
    done = ace("report", traces["luajit"], "-o", "/nowhere/page.html")
    assert done.returncode == 1 and done.stderr == "ace report: there is no folder /nowhere\n"


@pytest.mark.parametrize("place, said", [("", "is a folder"), ("/nowhere/file", "there is no folder")])
def test_places_are_checked_before_anything_is_measured(place, said, traces, tmp_path):
    path = tmp_path / place
    keep = tmp_path / "keep"
    for words in (["report", traces["lua5.4"], "--keep", keep, "-o"], ["ablate", traces["lua5.4"], "--csv"],
                  ["sweep", traces["lua5.4"], "--csv"], ["simulate", "--csv"]):  # fmt: skip
        done = ace(*words, path, folder=tmp_path)
        assert done.returncode == 1 and said in done.stderr and done.stdout == "", done
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    done = ace("report", traces["lua5.4"], "--png", tmp_path / "file" / "png")
    assert done.returncode == 1 and done.stderr == "ace report: %s cannot be made: Not a directory\n" % (
        tmp_path / "file" / "png")  # fmt: skip


def test_what_was_measured_is_shown_where_it_cannot_be_written():
    done = ace("simulate", "--intervals", "100", "--csv", "/dev/full")
    assert done.returncode == 1 and "/dev/full cannot be written" in done.stderr and "Targets" in done.stdout


def test_a_page_replaces_pages_alone(page, traces, tmp_path):
    from acealloc.page import is_page

    assert is_page(page.read_bytes()) and not is_page(b"<!doctype html><html lang=en><title>mine</title>")
    (tmp_path / "mine.html").write_text("<html>mine")
    done = ace("report", traces["lua5.4"], "-o", tmp_path / "mine.html")
    assert done.returncode == 1 and "is no page of `ace report`: give another name" in done.stderr
    assert (tmp_path / "mine.html").read_text() == "<html>mine"


def test_a_page_is_whole_or_not_there(replays, tmp_path, monkeypatch):
    (tmp_path / "page.html").write_text("of before")
    monkeypatch.setattr(Path, "rename", lambda *_: open("/nowhere/page"))
    with pytest.raises(Failure, match="page.html cannot be written"):
        Page(replays["lua5.4"]).write(tmp_path / "page.html")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["of before"]


def test_the_subject_must_have_run(replays):
    with pytest.raises(Failure, match="nothing was replayed on 'jemalloc'"):
        Page(replays["lua5.4"], "jemalloc")


def test_spans_are_merged():
    assert merged([(5, 6), (0, 1), (1.2, 2), (4, 7)], 0.5) == [(0, 2), (4, 7)]


def test_the_front_has_what_nobody_beats():
    points = [(3, 1, "c"), (1, 5, "a"), (2, 6, "beaten"), (2, 2, "b"), (4, 4, "beaten, too")]
    assert [name for _, _, name in pareto(points)] == ["a", "b", "c"]


def test_quantiles():
    counts = {10: 990, 1000: 9, 50_000: 1}
    assert [quantile(counts, q) for q in (0.5, 0.99, 0.995, 1)] == [10, 10, 1000, 50_015]
    assert quantile({}, 0.5) is None and histogram_of(counts).get_total_count() == 1000


# ---- searches and ablations


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
    assert "goes on where this one was" in search.communicate(timeout=60)[1] and search.returncode == 130
    done = ace("sweep", traces["cpython"], "--storage", storage, "--trials", "5", "--csv", tmp_path / "trials.csv")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(open(tmp_path / "trials.csv")))
    assert [row["by_hand"] for row in rows] == 5 * ["True"]


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
        acealloc.sweep([traces["lua5.4"]], space={"idle_delay": searching.Choice(("5m",))}, storage=storage, name="wrong")
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
