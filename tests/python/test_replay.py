"""Recorded runs of real interpreters, replayed: on ACE and on other allocators, measured."""

import contextlib
import gzip
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import acealloc
import pytest
from acealloc import _core
from acealloc.errors import Failure
from recorded import ACE, CLEAN, PROGRAMS, ace


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


def test_rounds_go_to_and_fro():
    from acealloc.replaying import _turns

    assert list(_turns("ab", 2, True)) == [("a", 1), ("b", 1), ("b", 2), ("a", 2), ("a", 0), ("b", 0)]


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
        (["mine=" + _core.__file__], "is no shared library of this machine that has a malloc"),
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
