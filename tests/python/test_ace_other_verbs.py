"""`ace doctor`, `ace options`, how `ace stats` and `ace top` are called, and the command itself."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import acealloc
import pytest

ACE = [sys.executable, "-m", "acealloc.cli"]
ROOT = Path(__file__).resolve().parent.parent.parent


def ace(*arguments, **env):
    return subprocess.run([*ACE, *arguments], capture_output=True, text=True, timeout=300, env=dict(os.environ, **env))


def test_the_version():
    assert ace("--version").stdout == "ace %s (ABI %d)\n" % (acealloc.version(), acealloc.abi_version())


def test_the_package_is_the_command():
    done = subprocess.run([sys.executable, "-m", "acealloc", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ace("--version").stdout)
    wrong = subprocess.run([sys.executable, "-m", "acealloc", "walk"], capture_output=True, text=True)
    assert wrong.returncode == 2 and wrong.stderr.startswith("usage: ace ")


def test_options_are_listed():
    done = ace("options")
    assert done.returncode == 0
    for option in acealloc.options():
        assert re.search(r"^ %s +%s +" % (option.name, option.environment), done.stdout, re.M)


def test_the_readme_shows_the_options_table():
    table = ace("options", "--markdown").stdout
    assert table.count("\n") == len(acealloc.options()) + 2
    assert table in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("verb", ["doctor", "options"])
def test_a_full_disk_is_said(verb):
    with open("/dev/full", "w") as full:
        done = subprocess.run([*ACE, verb], stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (1, "ace %s: No space left on device\n" % verb)


def test_record_deletes_nobodys_files(tmp_path):
    (tmp_path / "log").write_text("mine\n")
    (tmp_path / "run.1").write_text("mine too\n")
    done = ace("record", "-o", str(tmp_path / "log"), "--", sys.executable, "-c", "pass")
    assert done.returncode == 1 and "is no trace: give another name" in done.stderr
    for _ in range(2):  # a former trace goes
        assert ace("record", "-o", str(tmp_path / "run"), "--", sys.executable, "-c", "pass").returncode == 0
    assert (tmp_path / "log").read_text() + (tmp_path / "run.1").read_text() == "mine\nmine too\n"


def test_record_replaces_its_own_and_no_other_recordings(tmp_path):
    def record(name):
        return ace("record", "-o", str(tmp_path / name), "--", sys.executable, "-c", "pass")

    assert record("run.1").returncode == record("run.ace").returncode == 0
    before = {name: (tmp_path / name).read_bytes() for name in ("run.1", "run.ace")}
    further = tmp_path / ("run.%d" % json.loads(before["run.1"][16 : before["run.1"].index(b"}") + 1])["pid"])
    further.write_bytes(before["run.1"])  # as a further process of a recording into "run" would have left it
    assert "replaced: %s\n" % further in record("run").stderr
    assert (tmp_path / "run.1").read_bytes() == before["run.1"] and not further.exists()
    packed = record("run.ace.gz")
    assert packed.returncode == 1 and "run.ace is there" in packed.stderr
    assert (tmp_path / "run.ace").read_bytes() == before["run.ace"]
    assert "replaced: %s\n" % (tmp_path / "run") in record("run").stderr


def test_record_keeps_the_old_where_it_records_nothing(tmp_path):
    fork = "import os\nif os.fork() == 0: raise SystemExit([str(i) for i in range(100000)] and 0)\nos.wait()"
    for name in ("run.ace", "packed.ace.gz"):
        assert ace("record", "-o", str(tmp_path / name), "--", sys.executable, "-c", fork).returncode == 0
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        assert len([path for path in before if path.name.startswith(name[:6])]) == 2
        done = ace("record", "-o", str(tmp_path / name), "--", "sh", "-c", "exit 7")
        assert done.returncode == 7 and "nothing was recorded" in done.stderr and "replaced" not in done.stderr
        assert "kept: %s" % (tmp_path / name) in " ".join(done.stderr.split())
        (tmp_path / "script").write_text("#!/nowhere/python3\n")
        (tmp_path / "script").chmod(0o755)
        assert ace("record", "-o", str(tmp_path / name), "--", str(tmp_path / "script")).returncode == 127
        (tmp_path / "script").unlink()
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
        done = ace("record", "-o", str(tmp_path / name), "--", sys.executable, "-c", "pass")
        assert "replaced: " in done.stderr and (tmp_path / name).read_bytes() != before[tmp_path / name]
        assert len(list(tmp_path.iterdir())) == len(before) - 1, "that of the further process went, too"


@pytest.mark.parametrize("place, said", [("", "needs a name"), (".", "is a folder"), ("/nowhere/run", "no folder")])
def test_record_needs_a_place(place, said, tmp_path):
    done = ace("record", "-o", place, "--", "touch", str(tmp_path / "ran"))
    assert done.returncode == 1 and said in done.stderr and not (tmp_path / "ran").exists()


def test_a_recording_that_cannot_be_compressed_is_kept(tmp_path):
    packed = tmp_path / "run.gz"
    code = "import os, sys; os.mkdir(sys.argv[1]); sys.exit(7)"
    done = ace("record", "-o", str(packed), "--", sys.executable, "-c", code, str(packed))
    assert done.returncode == 7 and "%s cannot be compressed" % packed in done.stderr
    assert "%s is kept" % (tmp_path / "run") in " ".join(done.stderr.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run.gz"]


def test_a_trace_without_events_is_not_replayed(tmp_path):
    whole, cut = tmp_path / "run", tmp_path / "cut"
    ace("record", "-o", str(whole), "--", sys.executable, "-c", "pass")
    cut.write_bytes(whole.read_bytes()[:300])
    for verb in (["replay"], ["sweep", "--trials", "1"]):
        done = ace(*verb, str(cut), HOME=str(tmp_path))
        assert done.returncode == 1 and "holds no events (it is truncated): record it anew" in done.stderr
        assert "Traceback" not in done.stderr


def test_what_is_no_library_is_no_allocator(tmp_path):
    ace("record", "-o", str(tmp_path / "run"), "--", sys.executable, "-c", "pass")
    done = ace("replay", str(tmp_path / "run"), "--against", "foo=/etc/passwd")
    assert done.returncode == 1 and "/etc/passwd is no shared library" in done.stderr


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["report", "run.ace", "report.html,"], "'report.html,' is one argument too many"),
        (["doctor", "--jsn", "now"], "there is no option --jsn; there are"),
        (["options", "mode", "--x"], "there is no option --x"),
    ],
)
def test_a_word_too_many_is_no_option(arguments, said):
    done = ace(*arguments)
    assert done.returncode == 2 and said in done.stderr, done


def test_output_into_a_closed_pipe_is_no_accident():
    done = subprocess.run(
        "set -o pipefail; %s -m acealloc.cli options | true" % sys.executable, shell=True, executable="/bin/bash",
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode in (0, 1) and done.stderr == ""


@pytest.fixture(scope="module")
def findings():
    done = ace("doctor", "--json", LD_PRELOAD="", PYTHONMALLOC="")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_doctor_finds_the_library(findings):
    rows = {row["what"]: row for row in findings["installed"]}
    assert rows["acealloc"]["found"] == "%s, ABI %d" % (acealloc.version(), acealloc.abi_version())
    assert rows["preloaded library"]["state"] == "ok"
    assert "static-TLS" not in rows["preloaded library"]["found"]


def test_doctor_enters_this_python(findings):
    real = os.path.realpath(sys.executable)
    rows = [row for row in findings["hosts"] if real in row["what"]]
    assert [row["state"] for row in rows] == ["ok"]
    assert rows[0]["found"] == "cpython " + sys.version.split()[0]


def test_doctor_enters_each_lua(findings):
    rows = [row for row in findings["hosts"] if re.search(r"/lua(jit|5\.\d)", row["what"])]
    if not rows:
        pytest.skip("there is no Lua here")
    assert [row for row in rows if row["state"] != "ok"] == []
    told = [row for row in findings["hosts"] if row["state"] == "note"]
    assert ["jit.off()" in row["found"] for row in told] == [True] * any("/luajit" in row["what"] for row in rows)


def test_doctor_describes_the_machine(findings):
    assert {"C library", "kernel, processor", "transparent huge pages", "address space (ulimit -v)", "overcommit"} <= {
        row["what"] for row in findings["machine"]
    }


def test_doctor_sees_what_stands_in_the_way():
    done = ace("doctor", "--json", PYTHONMALLOC="malloc", LD_PRELOAD="/lib/x86_64-linux-gnu/libm.so.6")
    rows = {row["what"]: row for row in json.loads(done.stdout)["machine"]}
    assert rows["PYTHONMALLOC"]["state"] == "bad"
    assert rows["LD_PRELOAD"]["state"] == "note"


def test_doctor_sees_an_option_that_is_misspelt():
    done = ace("doctor", "--json", ACE_HARDEND="on", ACE_ROOT="/opt/ace")
    rows = {row["what"]: row for row in json.loads(done.stdout)["machine"]}
    assert rows["ACE_HARDEND"]["state"] == "bad" and "ACE_HARDENED" in rows["ACE_HARDEND"]["found"]
    assert "ACE_ROOT" not in rows, "another program's"


def test_doctor_writes_nothing(tmp_path):
    files = {name: str(tmp_path / name) for name in ("ACE_RECORD", "ACE_LOG", "ACE_PLAYBOOK", "ACE_REPORT")}
    assert ace("doctor", **files).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_doctor_fails_without_the_library():
    done = ace("doctor", ACE_PRELOAD="/nowhere/lib.so")
    assert done.returncode == 1 and "no preloaded library at /nowhere/lib.so" in " ".join(done.stdout.split())


def test_doctor_fails_with_something_that_is_no_library(tmp_path):
    text = tmp_path / "text.so"
    text.write_text("text")
    done = ace("doctor", ACE_PRELOAD=str(text))
    assert done.returncode == 1 and "is no shared library" in " ".join(done.stdout.split())


# ------------------------------------------------------------------------- ace stats, ace top; tests/hosts has the rest


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["stats", "--serve", "9700"], "'9700' is no ADDRESS:PORT"),
        (["stats", "--serve", "localhost:99999"], "is no ADDRESS:PORT"),
        (["stats", "--json", "--openmetrics"], "not allowed with argument"),
        (["stats", "me"], "invalid int value"),
        (["top", "--interval", "0"], "is not between"),
        (["top", "--interval", "soon"], "invalid seconds value"),
    ],
)
def test_wrong_ways_to_watch(arguments, said):
    done = ace(*arguments)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_watching_in_any_encoding(encoding):
    program = [sys.executable, "-c", "print(flush=True); input()", "\N{SNOWMAN}"]
    watched = subprocess.Popen([*ACE, "run", "--stats-page", "on", "--", *program], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)  # fmt: skip
    watched.stdout.readline()
    try:
        for verb in (["stats"], ["top", "--once"]):
            done = ace(*verb, str(watched.pid), PYTHONIOENCODING=encoding)
            assert (done.returncode, done.stderr) == (0, "") and ("#" in done.stdout) == (encoding != "utf-8")
            assert ("\N{SNOWMAN}" if encoding == "utf-8" else "\\u2603") in done.stdout
    finally:
        watched.communicate(b"\n")


def test_who_watches_the_parent_is_told_of_the_child():
    program = [sys.executable, "-c", "import os; print(os.getpid(), flush=True); input()"]
    parent = subprocess.Popen([*ACE, "run", "--report", "--stats-page", "on", "--", *program], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
    child = int(parent.stdout.readline())
    try:
        for verb in (["stats"], ["top", "--once"]):
            done = ace(*verb, str(parent.pid))
            assert done.returncode == 1 and "has started %d, which can be watched" % child in done.stderr
        with pytest.raises(acealloc.CannotWatch, match="has started %d" % child):
            acealloc.watch(parent.pid)
    finally:
        parent.communicate(b"\n")


def test_top_looks_once_on_a_dumb_terminal():
    terminal, end = os.openpty()
    with open(terminal, "rb", buffering=0), open(end, "wb", buffering=0) as output:
        environment = dict(os.environ, TERM="dumb")
        done = subprocess.run([*ACE, "top"], stdout=output, stderr=subprocess.PIPE, env=environment, timeout=60)
    assert done.returncode in (0, 1), "whether there is a process to be seen or not"


def test_counters_only_grow():
    counters = [name for name, type, *_ in acealloc.stats_fields() if type == "counter"]
    with acealloc.Heap("grows", limit=64 << 20) as heap:
        before = heap.stats()
        for size in (16, 100, 5000, 40_000, 700_000):
            blocks = [heap.alloc(size) for _ in range(30_000_000 // size)]
            heap.hint(acealloc.Hint.COLLECT_BEGIN)
            for block in blocks:
                heap.free(block)
            heap.hint(acealloc.Hint.COLLECT_END)
            heap.trim()
            after = heap.stats()
            assert [name for name in counters if after[name] < before[name]] == []
            before = after


def test_names_are_no_markup(capsys):
    from acealloc import console

    console.print_out("heap [/x] and [red]")
    assert capsys.readouterr().out == "heap [/x] and [red]\n"


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120])
def test_tables_leave_out_columns_and_cut_no_number(width):
    import io

    from acealloc import console
    from rich.console import Console

    columns = ["heap", "live", "mean memory", "peak", "faults", "and then"]
    rows = [["a heap of a long name", "240.1 MiB", "12.0 KiB", "1,234.5 MiB", "1,234,567", "it went back at once"]]
    rows.append(["python", "0 B", "0 B", "0 B", "0", "held until it is needed"])
    table = console.new_table("", columns, texts=("and then",), spare=("faults", "peak"))
    for row in rows:
        table.add_row(*row)
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=True, no_color=True).print(table)
    text = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert max(map(len, text.splitlines())) <= width
    shown = [name for name in columns if name.split()[0] in text.split()]
    assert shown[:2] == ["heap", "live"] and (shown == columns) == (width >= 80)
    assert ("peak" in shown) <= ("mean memory" in shown), "the spare ones go first"
    for name, number in list(zip(columns, rows[0]))[1:5]:
        assert (number in text) == (name in shown), "it is shown whole or not at all"
    whole = io.StringIO()
    Console(file=whole, width=width).print(table, crop=False)
    assert all(number in whole.getvalue() for number in rows[0][1:5]), "what is no terminal has room for all"
