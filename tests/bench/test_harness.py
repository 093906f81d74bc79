"""The logic of bench/run: order, resumption, ratios, raw files, and what it says where something is wrong.

Nothing here runs a benchmark, except one Lua program of a tenth of a second where the build has the launcher.
"""

import dataclasses
import gzip
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from harness import (
    cli,
    compare,
    cpython,
    figures,
    machine,
    matrix,
    measure,
    peers,
    programs,
    report,
    results,
    session,
    targets,
)
from harness.errors import Failed, Skipped, Trouble

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("ACE_BUILD", REPOSITORY / "build"))
OWN, A, B = peers.Peer("own", "own"), peers.Peer("a", "library", "/a"), peers.Peer("b", "library", "/b")


def program(name="trees", **more):
    return programs.Program("luajit", "luajit", "luajit", name, "16", ("luajit", name), **more)


def row(name, peer, number, seconds, peak=1000, **more):
    empty = dict.fromkeys(results.NUMBERS)
    return {**empty, "part": "luajit", "host": "luajit", "program": name, "args": "16", "peer": peer, "round": number,
            "order": 0, "status": "ok", "seconds_cpu": seconds, "peak_rss": peak, "output": "", "note": "",
            **more}  # fmt: skip


@pytest.fixture(autouse=True)
def unlocked(monkeypatch):
    """A real session may be at work meanwhile."""
    monkeypatch.setattr(session, "lock_core", lambda core: None)


# ---- order


def test_rounds_take_turns_forwards_and_backwards():
    cells = matrix.plan([program()], lambda _: [OWN, A, B], 4)
    by_round = [[c.peer.name for c in cells if c.round == n] for n in range(4)]
    assert by_round == [["own", "a", "b"], ["b", "a", "own"]] * 2
    assert [c.order for c in cells[:6]] == [0, 1, 2, 0, 1, 2]


def test_all_programs_have_two_rounds_before_one_has_three():
    cells = matrix.plan([program("x"), program("y")], lambda _: [OWN, A], 3)
    assert [(c.program.name, c.round) for c in cells[::2]] == [
        ("x", 0), ("x", 1), ("y", 0), ("y", 1), ("x", 2), ("y", 2)]  # fmt: skip


def test_what_is_done_is_not_planned_again():
    cells = matrix.plan([program()], lambda _: [OWN, A], 2)
    done = {cells[0].key, cells[2].key}
    assert [c.key for c in matrix.left_to_do(cells, done)] == [cells[1].key, cells[3].key]
    assert matrix.torn_rounds(cells, done) == 2
    assert matrix.torn_rounds(cells, {c.key for c in cells}) == 0


def test_other_arguments_are_another_cell():
    small = programs.Program("luajit", "luajit", "luajit", "trees", "10", ("luajit",))
    done = {matrix.Cell(small, OWN, 0, 0).key}
    assert len(matrix.left_to_do(matrix.plan([program()], lambda _: [OWN], 1), done)) == 1


# ---- ratios


def test_a_ratio_is_taken_within_each_round():
    rows = [row("x", "ace", n, 1.0 * scale) for n, scale in enumerate((1, 2, 4))]
    rows += [row("x", "own", n, 2.0 * scale) for n, scale in enumerate((1, 2, 4))]
    (table,) = compare.tables(rows)
    ratio = table.ratio(("x", "16"), "ace", "own", compare.CPU)
    assert (ratio.value, ratio.low, ratio.high, ratio.count) == (0.5, 0.5, 0.5, 3)


def test_the_interval_holds_the_median_and_is_the_same_each_time():
    ratios = [0.9, 0.95, 1.0, 1.02, 1.1, 0.97, 0.99]
    first = compare.of_rounds(ratios)
    assert first == compare.of_rounds(ratios)
    assert min(ratios) <= first.low < first.value < first.high <= max(ratios)


def test_few_rounds_give_no_interval():
    assert compare.of_rounds([0.8, 0.9]).low is None
    assert compare.of_rounds([]) is None
    assert compare.of_rounds([0.8]).text(2) == "0.80"


def test_the_mean_over_programs_is_geometric():
    mean = compare.of_programs([[0.5], [2.0], []])
    assert mean.value == pytest.approx(1.0) and mean.count == 2


def test_a_round_that_only_one_has_does_not_count():
    rows = [row("x", "ace", 0, 1.0), row("x", "ace", 1, 1.0), row("x", "own", 1, 4.0)]
    (table,) = compare.tables(rows)
    assert table.ratios(("x", "16"), "ace", "own", compare.CPU) == [0.25]


def test_the_best_peer_and_the_limit():
    times = {"ace": 1.0, "own": 2.0, "a": 0.8, "a-hinted": 0.5, "lifo": 0.4, "bump": 0.7}
    (table,) = compare.tables([row("x", peer, n, seconds, peak=None if peer == "bump" else 1000)
                               for peer, seconds in times.items() for n in range(3)], {"lifo"})  # fmt: skip
    rivals = table.rivals("ace")
    assert rivals == ["own", "a"] and table.rivals("ace", hinted=True) == ["a-hinted"]
    assert table.rivals("lifo") == rivals, "forms of ACE are no rivals of one another"
    ratio, peer = table.best(("x", "16"), "ace", compare.CPU, rivals)
    assert (ratio.value, peer) == (1.25, "a")
    heading, lines = report.ratio_rows(table, "ace", compare.CPU, digits=2)
    assert heading[-2:] == ["best peer", "limit"]
    assert lines[0][-2:] == ["1.25 [1.25, 1.25] a", "1.43 [1.43, 1.43] bump"]
    heading, lines = report.ratio_rows(table, "ace", compare.PEAK, digits=2)
    assert heading[-1] == "best peer" and "bump" not in heading, "its memory says nothing"


def test_the_mean_ratio_to_the_best_peer_takes_each_programs_own():
    times = {"x": {"ace": 1.0, "own": 2.0, "a": 0.8}, "y": {"ace": 1.0, "own": 0.5, "a": 4.0}}
    rows = [row(name, peer, 0, seconds) for name, by in times.items() for peer, seconds in by.items()]
    (table,) = compare.tables(rows)
    assert table.mean_of_best("ace", compare.CPU, ["own", "a"]).value == pytest.approx((1.25 * 2.0) ** 0.5)
    assert table.best_mean("ace", compare.CPU, ["own", "a"])[1] == "own"


def test_swell_figures():
    samples = [(n / 10, 100 if n < 20 else 40) for n in range(41)]
    marks = [(0.0, "build", 90), (1.0, "drop", 90), (2.0, "rest", 20), (4.0, "end", 20)]
    seen = figures.swell_figures(samples, marks)
    assert seen["rss_rest"] == 40 and seen["live"] == 20 and seen["fragmentation"] == 2.0
    assert seen["value_seconds"] == pytest.approx(2.0)
    assert seen["area"] == pytest.approx(100 * 1.9 + 70 * 0.1 + 40 * 2.0)
    assert seen["excess"] == pytest.approx(-60 * 2.0), "less than at the start"
    assert (seen["start"], seen["rest_seconds"]) == (100, 2.0)
    with pytest.raises(Failed, match="no rest"):
        figures.swell_figures(samples, marks[:2])


def test_excess_is_what_is_held_while_resting_beyond_the_start():
    samples = [(0.0, 10), (0.9, 10), (1.0, 100), (2.0, 100), (2.1, 30), (4.0, 30), (4.1, 500)]
    marks = [(0.5, "build", 0), (2.1, "rest", 0), (4.0, "build", 0), (4.1, "end", 0)]
    assert figures.swell_figures(samples, marks)["excess"] == pytest.approx(20 * 1.9)


def test_excess_counts_from_the_least_start_of_all():
    rows = [row("rhythm", "ace", 0, 1.0, part="rhythm"), row("rhythm", "a", 0, 1.0, part="rhythm")]
    rows[0].update(start=10.0, excess=40.0, rest_seconds=2.0)
    rows[1].update(start=25.0, excess=-4.0, rest_seconds=2.0)
    for _ in range(2):  # a table is made for the report, and one for the pictures
        (table,) = compare.tables(rows)
        assert table.ratio(("rhythm", "16"), "ace", "a", compare.EXCESS).value == pytest.approx(40 / 26)


def test_excess_counts_from_what_is_live_where_that_is_known():
    rows = [row("services", "ace", 0, 1.0, part="services"), row("services", "own", 0, 1.0, part="services")]
    rows[0].update(start=10.0, excess=40.0, rest_seconds=2.0, rss_rest=30.0, held=5.0)
    rows[1].update(start=12.0, excess=56.0, rest_seconds=2.0, rss_rest=40.0)
    for _ in range(2):
        (table,) = compare.tables(rows)
        key = ("services", "16")
        assert table.ratio(key, "ace", "own", compare.EXCESS).value == pytest.approx((60 - 50) / (80 - 50))
        assert table.ratio(key, "ace", "own", compare.REST_EXCESS).value == pytest.approx(5 / 15)


# ---- targets


def verdicts(rows):
    heading, lines = targets.rows(compare.tables(rows), "ace", digits=2)
    assert all(len(line) == len(heading) for line in lines)
    return {(line[0], line[1]): line[3:] for line in lines}


def test_a_target_is_met_or_nearly_or_missed_or_not_measured():
    assert targets.verdict(None, 1) == "not measured"
    assert targets.verdict(compare.Ratio(0.9, 0.8, 1.1, 9), 1) == "met"
    assert targets.verdict(compare.Ratio(1.1, 1.0, 1.2, 9), 1) == "met by interval"
    assert targets.verdict(compare.Ratio(1.1, 1.05, 1.2, 9), 1) == "missed"
    assert targets.verdict(compare.Ratio(1.1, None, None, 2), 1) == "missed"


def test_targets_of_lua():
    times = {"x": {"ace": 1.0, "mimalloc": 1.25, "own": 0.9, "snmalloc": 1.0},
             "y": {"ace": 1.0, "mimalloc": 1.25, "own": 2.0}}  # fmt: skip
    rows = [row(name, peer, n, seconds) for name, by in times.items() for peer, seconds in by.items() for n in range(3)]
    found = verdicts(rows)
    assert found["luajit", "processor time / mimalloc"] == ["0.80 (2 programs)", "0.80 to 0.80", "met"]
    assert found["luajit", "processor time / snmalloc"] == ["1.00 (1 program)", "1.00 to 1.00", "missed"]
    assert found["luajit", "processor time / its best peer, worst program"][0] == "1.11 (x / own)"
    assert found["luajit", "peak RSS / own"][-1] == "met"
    assert {where for where, _ in found} == {"luajit"}, "nothing is said of what was not run"
    found = verdicts([{**r, "part": "lua", "host": "lua5.4"} for r in rows])
    assert found["lua5.4", "processor time / the best peer over all"][0] == "0.80 (mimalloc, 2 programs)", (
        "the best over all, of those that ran all")  # fmt: skip


def test_targets_of_what_swells():
    swell = {"part": "swell", "host": "luajit", "args": "600000 4 3 1000", "area": 100.0}
    figures = {"walk_seconds": 0.001, "walked_bytes": 5e8, "purge_seconds": 0.021, "returned_bytes": 1e8,
               "rest_heap": 1e7, "rest_live_pages": 8e6, "metadata": 1e6, "heap_peak": 1e8}  # fmt: skip
    rows = [row("keep-1-in-1000", "ace", n, 1.0, **swell, **figures) for n in range(3)]
    rows += [row("keep-1-in-1000", peer, n, 2.0, **{**swell, "area": area}) for n in range(3)
             for peer, area in (("a", 400.0), ("a-hinted", 125.0))]  # fmt: skip
    found = {what: line for (where, what), line in verdicts(rows).items() if where == "swell, luajit"}
    assert [line[0] for line in found.values()] == ["0.50 (a-hinted)", "0.80 (a-hinted)", "0.25 (a)", "0.20", "20.00",
                                                    "1.25", "0.01"]  # fmt: skip
    assert [line[-1] for line in found.values()] == ["met", "missed", "met", "met", "missed", "missed", "met"]


# ---- raw files


def store_with(folder, *rows):
    warnings = []
    store = results.Store(folder, warnings.append)
    store.start()
    for one in rows:
        store.add(one)
    return store, warnings


def test_rows_survive_the_file(tmp_path):
    wanted = row("x", "ace", 0, 1.25, note='said "no", twice')
    store, _ = store_with(tmp_path, wanted)
    (got,) = store.read()
    assert got == wanted
    assert results.good_rows([got]).keys() == {("luajit", "luajit", "x", "16", "ace", 0)}


def test_the_last_good_row_counts(tmp_path):
    failed = row("x", "ace", 0, None, status="failed", note="exit status 1")
    store, _ = store_with(tmp_path, row("x", "ace", 0, 3.0), row("x", "ace", 0, 2.0), failed, row("y", "ace", 0, 1.0))
    good = results.good_rows(store.read())
    assert sorted(r["seconds_cpu"] for r in good.values()) == [1.0, 2.0]


def test_a_line_that_was_cut_off_is_left_out_with_a_warning(tmp_path):
    store, warnings = store_with(tmp_path, row("x", "ace", 0, 1.0), row("x", "own", 0, 1.0))
    store.runs.write_bytes(store.runs.read_bytes()[:-40])
    store.start()
    store.add(row("x", "b", 0, 1.0))
    assert [r["peer"] for r in store.read()] == ["ace", "b"]
    assert len(warnings) == 1 and "line 3 is damaged" in warnings[0]


def test_a_file_of_other_columns_is_not_added_to(tmp_path):
    (tmp_path / "runs.csv").write_text("a,b\n1,2\n")
    with pytest.raises(Trouble, match="choose another --output"):
        results.Store(tmp_path).read()


def test_a_file_of_an_older_version_is_read_but_not_added_to(tmp_path):
    wanted = row("x", "ace", 0, 1.25)
    older = [name for name in results.COLUMNS if name != "purge_seconds"]
    (tmp_path / "runs.csv").write_bytes(
        results.line_of(older) + results.line_of([results.text_of(wanted[name]) for name in older]))  # fmt: skip
    store = results.Store(tmp_path)
    assert store.read() == [wanted]
    with pytest.raises(Trouble, match="choose another --output"):
        store.start()


def test_forms_of_ace_are_known_by_kind_or_in_older_files_by_name(tmp_path):
    peers_of = {"ace": {"kind": "ace", "file": "x.so"}, "lazy": {"file": "x.so", "options": {"worker": "off"}},
                "old": {"file": "libace-preload.so"}, "a": {"file": "liba.so", "kind": "library"}}  # fmt: skip
    (tmp_path / "machine.json").write_text(json.dumps({"sessions": [{"peers": peers_of}]}))
    assert results.Store(tmp_path).forms_of_ace() == {"ace", "lazy", "old"}
    assert results.Store(tmp_path / "nowhere").forms_of_ace() == set()


def test_a_full_disk_is_named():
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    with pytest.raises(Trouble, match="the disk is full"):
        results.append("/dev/full", b"row\n")


def test_samples_survive_and_repeated_ones_are_left_out(tmp_path):
    store, _ = store_with(tmp_path)
    key = ("swell", "luajit", "keep", "1 2", "ace", 0)
    store.add_samples(key, [(0.0, 1024), (0.01, 4096), (0.02, 4096), (0.03, 4096), (0.04, 1024)])
    store.add_samples((*key[:-1], 1), [(0.0, 1024)])
    series = store.read_samples()
    assert series[key] == [(0.0, 1024), (0.01, 4096), (0.03, 4096), (0.04, 1024)]
    assert len(series) == 2


def test_samples_that_were_cut_off_are_dropped(tmp_path):
    store, warnings = store_with(tmp_path)
    key = ("swell", "luajit", "keep", "1 2", "ace", 0)
    store.add_samples(key, [(0.0, 1024)])
    store.samples.write_bytes(store.samples.read_bytes() + gzip.compress(b"more")[:-6])
    store.start()
    assert len(warnings) == 1 and "cut off" in warnings[0]
    assert store.read_samples() == {key: [(0.0, 1024)]}


def test_no_path_of_this_machine_is_kept():
    assert machine.without_paths("--peer=x=/home/me/libs/libx.so") == "--peer=x=libx.so"
    assert machine.without_paths("/home/me/bench-results/") == "bench-results"
    assert machine.without_paths("--peers") == "--peers"


def test_only_an_optimized_build_is_measured(tmp_path):
    with pytest.raises(Trouble, match="is no build folder"):
        machine.build_options(tmp_path)
    (tmp_path / "meson-info").mkdir()
    table = tmp_path / "meson-info" / "intro-buildoptions.json"
    table.write_text('[{"name": "optimization", "value": "0"}, {"name": "b_sanitize", "value": "none"}]')
    with pytest.raises(Trouble, match="is not optimized"):
        machine.build_options(tmp_path)
    table.write_text('[{"name": "optimization", "value": "3"}, {"name": "b_sanitize", "value": "none"}]')
    assert machine.build_options(tmp_path)["optimization"] == "3"


# ---- peers


def test_who_gets_in_how():
    build, bridge = pathlib.Path("/b"), "/b/bench/peers/libpeer-%s.so"
    hinted = peers.Peer("a-hinted", "library", "/a", "mallctl")
    ace = peers.Peer("lazy", "ace", "/ace", options={"ACE_IDLE_DELAY": "1s"})
    assert OWN.environment("luajit", build, "/r") == {}
    assert A.environment("luajit", build, "/r") == {"LD_PRELOAD": bridge % "plain" + ":/a", "ACE_REPORT": "/r"}
    assert A.environment("lua", build, "/r") == {"LD_PRELOAD": "/a"}
    assert A.environment("cpython", build, "/r") == {"LD_PRELOAD": "/a", "PYTHONMALLOC": "malloc"}
    assert hinted.environment("cpython", build, "/r")["LD_PRELOAD"] == bridge % "hinted" + ":/a"
    assert ace.environment("lua", build, "/r") == {"LD_PRELOAD": "/ace", "ACE_REPORT": "/r", "ACE_IDLE_DELAY": "1s"}
    assert hinted.why_not("micro") and OWN.why_not("micro") and not A.why_not("micro")
    bump = peers.Peer("bump", "bump", "/bump")
    assert bump.environment("luajit", build, "/r") == {"LD_PRELOAD": "/bump", "ACE_REPORT": "/r"}
    assert bump.environment("cpython", build, "/r")["PYTHONMALLOC"] == "malloc"
    assert bump.why_not("micro") and bump.why_not("luajit", "swell") and not bump.why_not("luajit", "luajit")
    assert peers.Peer("glibc", "glibc").why_not("lua") and not peers.Peer("glibc", "glibc").why_not("luajit")


def test_unknown_and_missing_peers_are_told_apart():
    found, missing = {"own": OWN, "a": A}, {"jemalloc": "install the package libjemalloc2"}
    assert peers.choose(["a", "own"], found, missing) == [A, OWN]
    with pytest.raises(Trouble, match="there is no peer 'tc'; there are a, own, and --peer NAME=PATH adds one"):
        peers.choose(["tc"], found, missing)
    with pytest.raises(Trouble, match="'jemalloc-hinted' is missing here: install the package libjemalloc2"):
        peers.choose(["jemalloc-hinted"], found, missing)
    with pytest.raises(Trouble, match="'a' cannot be told to give memory back"):
        peers.choose(["a-hinted"], found, missing)


@pytest.mark.parametrize(
    "text, wrong",
    [
        ("x", "NAME=PATH"), ("a=/bin/true", "is taken"), ("x y=/bin/true", "letters"), ("x=/no/file", "no file"),
        ("x-hinted=/bin/true", "not end with"), ("x=ace:mode=off", "no ACE here"), ("x=a:fast", "SETTING=VALUE"),
        ("x=a-hinted:y=1", "name the plain one"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_peer_is_said(text, wrong):
    with pytest.raises(Trouble, match=wrong):
        peers.by_user(text, {"a": A, "a-hinted": peers.Peer("a-hinted", "library", "/a", "mallctl")})


def test_a_library_without_malloc_is_no_peer(tmp_path):
    text = tmp_path / "libx.so"
    text.write_text("no library")
    with pytest.raises(Trouble, match="no library that can be loaded"):
        peers.by_user("x=%s" % text, {})
    with pytest.raises(Trouble, match="defines no malloc"):
        peers.by_user("x=%s" % shutil.which("sh"), {})


def test_ace_with_other_options(tmp_path):
    ace = peers.Peer("ace", "ace", "/ace")
    (lazy,) = peers.by_user("lazy=ace:idle_delay=1s,worker=off", {"ace": ace})
    assert (lazy.name, lazy.kind, lazy.path) == ("lazy", "ace", "/ace")
    assert lazy.options == {"ACE_IDLE_DELAY": "1s", "ACE_WORKER": "off"}
    environment = lazy.environment("luajit", tmp_path, "report")
    assert environment == {"LD_PRELOAD": "/ace", "ACE_REPORT": "report", **lazy.options}


@pytest.mark.parametrize("host", ["luajit", "lua", "cpython", "micro"])
def test_a_rival_with_settings_of_its_own(tmp_path, host):
    (slow,) = peers.by_user("slow=a:CONF=decay:1,background:true", {"a": A})
    assert (slow.kind, slow.path, slow.options) == ("library", A.path, {"CONF": "decay:1,background:true"})
    plain, set_up = (peer.environment(host, tmp_path, "report") for peer in (A, slow))
    assert set_up == {**plain, **slow.options}


# ---- programs


def test_missing_suites_are_told_and_our_own_remain(tmp_path):
    without = programs.lua_programs("luajit", "luajit", "luajit", "/lua", None, False)
    assert [p.name for p in without.programs] == ["binary_trees", "string_churn", "table_churn"]
    assert "--suites DIR" in without.skipped[0]
    elsewhere = programs.lua_programs("luajit", "luajit", "luajit", "/lua", str(tmp_path), False)
    assert "no harness.lua" in elsewhere.skipped[0]


def test_the_selections_of_cpython():
    everything = cpython.names()
    assert len(cpython.SHORT) == len(set(cpython.SHORT)) == 20
    assert set(cpython.names(short=True)) == set(cpython.SHORT) <= set(everything)
    assert set(cpython.names(quick=True)) == set(cpython.QUICK) <= set(everything)
    assert not set(cpython.SHORT) & set(cpython.SLOW)
    assert len(everything) >= 20


def test_loops_make_a_value_long_enough(capsys):
    assert cpython.loops_for(0.04, 0.3) == 8 and cpython.loops_for(2.0, 0.3) == 1
    assert cli.parse(["run", "cpython", "--short", "--loop-seconds", "0.2"]).loop_seconds == 0.2
    with pytest.raises(SystemExit):
        cli.parse(["run", "cpython", "--loop-seconds", "0"])
    assert "must be above 0" in capsys.readouterr().err


def test_an_unknown_program_is_told():
    some = [program("Json"), program("CD")]
    assert programs.matching(some, ["js*"]) == some[:1]
    assert programs.matching(some, ["%s/cd" % some[1].host]) == some[1:]
    assert programs.matching(some, ["*/*"]) == some
    assert programs.matching(some, []) == some
    with pytest.raises(Trouble, match="no program fits 'xml'; there are CD, Json"):
        programs.matching(some, ["xml"])


def test_what_may_differ_in_the_output_is_not_compared():
    suite = program(unsteady=programs.AWFY_UNSTEADY)
    first, second = ("Json: iterations=1 runtime: %dus\nJson: iterations=1 average: %dus total: %dus\n" % (n, n, n)
                     for n in (12, 34567))  # fmt: skip
    assert programs.steady(suite, first) == programs.steady(suite, second)


# ---- the command


def test_an_unknown_part_is_told(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["run", "ruby"])
    assert end.value.code == 2
    assert "there is no part 'ruby'; the parts are: luajit" in capsys.readouterr().err


def test_a_report_of_nothing_is_told(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "is it the folder of a former run?" in capsys.readouterr().err


def test_a_report_from_raw_files(tmp_path, capsys):
    rows = [row(name, peer, n, seconds + n) for name in ("x", "y") for n in range(3)
            for peer, seconds in (("own", 2.0), ("a", 3.0), ("ace", 1.0))]  # fmt: skip
    failed = row("x", "b", 0, None, status="failed", note="exit status 1: it broke")
    store_with(tmp_path, *rows, failed)
    assert cli.main(["report", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "exit status 1: it broke" in said and "picture:" in said
    text = (tmp_path / "report.md").read_text()
    assert "| luajit | processor time / mimalloc | 0.82 |  |  | not measured |" in text and "lua5.4" not in text
    assert "| x | 0.667 [0.500, 0.750] | 0.500 [0.333, 0.600] |" in text and "| all | 0.667" in text
    assert (tmp_path / "ratios-luajit.png").stat().st_size > 5000
    assert cli.main(["report", str(tmp_path), "--subject", "nobody"]) == 2
    assert "--subject names another: a, ace, own" in capsys.readouterr().err


def test_a_core_that_is_not_there():
    with pytest.raises(Trouble, match="--core 4096 cannot be used here"):
        session.choose_core(4096)


# ---- one real run, where it is possible

needs_build = pytest.mark.skipif(
    not (BUILD / "bench" / "launch").exists() or not shutil.which("luajit"), reason="no bench/launch, or no luajit"
)


@needs_build
def test_a_run_is_measured_and_done_only_once(tmp_path, capsys):
    affinity = os.sched_getaffinity(0)
    words = ["run", "luajit", "--quick", "--programs", "binary_trees", "--peers", "own,glibc,glibc-hinted,ace",
             "--build", str(BUILD), "--output", str(tmp_path)]  # fmt: skip
    try:
        assert cli.main(words) == 0
        rows = results.Store(tmp_path).read()
        assert [r["peer"] for r in rows] == ["own", "glibc", "glibc-hinted", "ace"]
        assert {r["status"] for r in rows} == {"ok"} and len({r["output"] for r in rows}) == 1
        assert all(r["seconds_cpu"] > 0 and r["peak_rss"] > 1e6 and r["vmsize"] > r["peak_rss"] for r in rows)
        assert rows[1]["purges"] is None and rows[2]["purges"] > 0
        capsys.readouterr()
        assert cli.main(words) == 0
        assert "4 of 4 runs are done already" in capsys.readouterr().out
        assert len(results.Store(tmp_path).read()) == 4
    finally:
        os.sched_setaffinity(0, affinity)


@needs_build
@pytest.mark.parametrize("host, interpreter", [("luajit", "luajit"), ("cpython", "/usr/bin/python3")])
def test_ace_tells_how_its_heap_stands_at_rest(host, interpreter):
    ace = peers.find(BUILD)[0].get("ace")
    if ace is None or shutil.which(interpreter) is None:
        pytest.skip("no libace-preload.so, or no %s" % interpreter)
    (program,) = programs.swell_programs([(host, host, shutil.which(interpreter))], True).programs
    small = (*program.command[:2], "30000", "1", "0.3", "100")
    measured, samples = measure.run(dataclasses.replace(program, command=small), ace, session.Bench(BUILD, None, 60))
    assert len(samples) > 5 and measured["purges"] > 0
    assert 0 < measured["walk_seconds"] < measured["purge_seconds"]
    assert 0 < measured["returned_bytes"] < measured["walked_bytes"]
    assert 0 < measured["rest_live_pages"] <= measured["rest_heap"] < measured["heap_peak"]
    assert 0 < measured["metadata"] < measured["heap_peak"] / 5


@needs_build
@pytest.mark.parametrize(
    "host, interpreter", [("luajit", "luajit"), ("lua", "lua5.4"), ("cpython", "/usr/bin/python3")]
)
def test_rhythm(host, interpreter):
    if shutil.which(interpreter) is None:
        pytest.skip("no %s" % interpreter)
    own = peers.find(BUILD)[0]["own"]
    program, _ = programs.rhythm_programs([(host, host, shutil.which(interpreter))], True).programs
    small = (*program.command[:2], "2000", "1", "0.05", "1")
    measured, samples = measure.run(dataclasses.replace(program, command=small), own, session.Bench(BUILD, None, 60))
    assert measured["excess"] is not None and measured["area"] > 0


@pytest.mark.skipif(shutil.which("luajit") is None, reason="no luajit")
def test_the_rhythm_is_the_same_in_all_languages():
    def marks(*command, more=()):
        done = subprocess.run([*command, "10", "2", "0.001", "7", *more], capture_output=True, text=True, check=True)
        return [line.split()[1:3] for line in done.stdout.splitlines() if line.startswith("@")]

    folder = programs.BENCH / "vm"
    seen = marks("luajit", str(folder / "rhythm.lua"))
    assert len(seen) > 20 and seen == marks(sys.executable, str(folder / "rhythm.py"))
    for command in (("luajit", str(folder / "rhythm.lua")), (sys.executable, str(folder / "rhythm.py"))):
        assert len(marks(*command, more=("3", "1"))) == 2 * 2 * (3 + 1) + 1


@needs_build
def test_the_limit_that_never_frees(tmp_path):
    library = BUILD / "bench" / "peers" / "libpeer-bump.so"
    bump, bench = peers.Peer("bump", "bump", os.path.realpath(library)), session.Bench(BUILD, None, 60)

    def run(code):
        command = (shutil.which("luajit"), "-e", code)
        one = programs.Program("luajit", "luajit", "luajit", "x", "", command, settings={"BUMP_MIB": "128"})
        return measure.run(one, bump, bench)[0]

    churn = "local t for i = 1, 300000 do t = tostring(i) .. 'x' end print(t)"
    measured = run(churn)
    assert measured["seconds_cpu"] > 0 and measured["peak_rss"] is None
    with pytest.raises(Skipped, match="more than fits without freeing"):
        run("local t for i = 1, 100 do t = string.rep('x', 9e6 + i) end")


@needs_build
@pytest.mark.parametrize(
    "peer, code, wrong",
    [
        (peers.Peer("x", "library", "/no/libx.so"), "os.exit(0)", "libx.so was not loaded"),
        (OWN, "error('broken')", "exit status 1: .*broken"),
        (OWN, "os.execute('kill -SEGV $PPID')", "ended by signal 11"),
        (OWN, "while true do end", "not done after"),
    ],
)
def test_what_makes_a_run_fail(peer, code, wrong):
    bench = session.Bench(BUILD, None, 2)
    broken = programs.Program("luajit", "luajit", "lua", "x", "", (shutil.which("luajit"), "-e", code))
    with pytest.raises(Failed, match=wrong):
        measure.run(broken, peer, bench)


def test_the_tables_say_which_rounds_failed():
    failed = row("x", "b", 0, None, status="failed", note="ended by signal 11: nothing")
    assert report.failures([failed]) == ["luajit x 16 on b: 1 rounds failed: ended by signal 11: nothing"]
    assert report.failures([failed, row("x", "b", 0, 1.0)]) == []
