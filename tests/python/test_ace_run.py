"""`ace run`, on real programs: what passes through, what is refused, and what the screen says."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

ACE = [sys.executable, "-m", "acealloc.cli"]
PYTHON = sys.executable
# The variables of this test's own surroundings must not reach the programs.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "PYTHONMALLOC")}


def ace(*arguments, env=None, **options):
    return subprocess.run(
        [*ACE, *map(str, arguments)], capture_output=True, text=True, timeout=60, env=env or ENVIRONMENT, **options
    )


def active_hosts(path):
    lines = Path(path).read_text().splitlines() if Path(path).exists() else []
    entries = [json.loads(line) for line in lines]
    return [entry["host"] for entry in entries if entry.get("active")]


# ------------------------------------------------------------------------------------ passing through


def test_output_and_input_pass_through():
    code = "import sys; print(sys.stdin.read().upper()); print('oops', file=sys.stderr)"
    done = ace("run", "--", PYTHON, "-c", code, input="hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, "HELLO\n", "oops\n")


@pytest.mark.parametrize("report", [[], ["--report"]], ids=["exec", "report"])
@pytest.mark.parametrize("status", [0, 1, 3, 255])
def test_the_exit_status_passes_through(report, status):
    assert ace("run", *report, "--", PYTHON, "-c", "raise SystemExit(%d)" % status).returncode == status


@pytest.mark.parametrize("report", [[], ["--report"]], ids=["exec", "report"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGPIPE, 40])
def test_death_by_a_signal_passes_through(report, number):
    done = ace("run", *report, "--", PYTHON, "-c", "import os; os.kill(os.getpid(), %d)" % number)
    if number == signal.SIGPIPE:  # Python itself ignores it, so it lives on
        assert done.returncode == 0
    else:
        assert done.returncode == -number


@pytest.mark.parametrize("errors", ["2>/dev/full", "2>&-"])
def test_the_exit_status_is_kept_where_nothing_can_be_said(errors):
    command = "exec %s -m acealloc.cli run --report -- sh -c 'exit 5' %s" % (PYTHON, errors)
    assert subprocess.run(["sh", "-c", command], env=ENVIRONMENT, timeout=60).returncode == 5


@pytest.mark.parametrize("verb", ["options", "doctor", "options --help", "stats 1"])
def test_closed_output_is_no_accident(verb):
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        command = "exec %s -m acealloc.cli %s %s" % (PYTHON, verb, closed)
        done = subprocess.run(["sh", "-c", command], env=ENVIRONMENT, timeout=60, capture_output=True, text=True)
        assert "Traceback" not in done.stderr and done.returncode == (1 if verb == "stats 1" else 0)


def test_others_lines_in_a_report(tmp_path):
    """The file may be another's log as well."""
    lines = tmp_path / "lines"
    others = [{"host": "web1", "pid": None}, {"host": 1, "pid": 1}, {"pid": 1, "name": 2}, [], {"host": "x", "pid": 1,
              "command": 5}, {"pid": 1, "name": "x", "live_bytes": "many"},
              {"pid": 1, "name": "x", "phases": {"run": 5}}, {"pid": 1, "name": "x", "kinds": 7}]  # fmt: skip
    code = "".join("open(%r, 'a').write(%r + '\\n')\n" % (str(lines), json.dumps(line)) for line in others)
    done = ace("run", "--report", "--report-to", lines, "--", PYTHON, "-c", code + "raise SystemExit(3)")
    assert done.returncode == 3 and "8 lines of the report are damaged" in done.stderr


@pytest.mark.parametrize("verb", [["run", "--report"], ["record", "-o", "run.ace"]], ids=["run", "record"])
def test_the_exit_status_is_kept_where_nobody_listens(verb, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as closed:
        done = subprocess.run([*ACE, *verb, "--", "sh", "-c", "exit 7"], stderr=closed, env=ENVIRONMENT, cwd=tmp_path,
                              timeout=60)  # fmt: skip
    assert done.returncode == 7


def test_a_report_to_a_device_is_not_read_back():
    done = ace("run", "--report", "--report-to", "/dev/full", "--", PYTHON, "-c", "pass")
    assert done.returncode == 0 and "/dev/full is no file" in done.stderr


@pytest.mark.parametrize("option", ["--log", "--playbook", "--record", "--report-to"])
def test_files_that_cannot_be_written_are_told_before_the_program_runs(option, tmp_path):
    for place, said in [("/nowhere/file", "there is no folder /nowhere"), (tmp_path, "is a folder")]:
        done = ace("run", option, place, "--", PYTHON, "-c", "print('it ran')")
        assert (done.returncode, done.stdout) == (2, "") and said in done.stderr


@pytest.mark.parametrize("option", ["--log", "--report-to"])
def test_nobodys_files_are_appended_to(option, tmp_path):
    code = "import gc\nfor _ in range(5):\n    x = [[i] for i in range(500_000)]; del x; gc.collect()\nprint('it ran')"
    for text in ("mine\n", "{}\n", '{"key": 1}\n'):
        (tmp_path / "mine").write_text(text)
        done = ace("run", option, tmp_path / "mine", "--", PYTHON, "-c", code)
        assert (done.returncode, done.stdout) == (2, "") and "give another name" in done.stderr
        assert (tmp_path / "mine").read_text() == text
    (tmp_path / "ours").touch()
    before = b""
    for _ in range(2):
        done = ace("run", option, tmp_path / "ours", "--", PYTHON, "-c", code)
        assert (done.returncode, done.stdout, done.stderr) == (0, "it ran\n", "")
        after = (tmp_path / "ours").read_bytes()
        assert after.startswith(before) and len(after) > len(before)
        before = after


@pytest.mark.parametrize("place, said", [("none", "active"), ("stderr", "--report-to stderr: what was reported")])
def test_a_screen_says_nothing_wrong(place, said):
    done = ace("run", "--report", "--report-to", place, "--", PYTHON, "-c", "raise SystemExit(4)")
    assert done.returncode == 4 and said in done.stderr and "nothing was reported" not in done.stderr


@pytest.mark.parametrize("report", [[], ["--report"]], ids=["exec", "report"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT])
def test_signals_reach_the_program(report, number):
    code = (
        "import signal, sys, time\n"
        "signal.signal(%d, lambda *_: sys.exit(42))\n"
        "print('ready', flush=True)\n"
        "time.sleep(30)" % number
    )
    process = subprocess.Popen(
        [*ACE, "run", *report, "--", PYTHON, "-c", code], env=ENVIRONMENT, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.wait(20) == 42
    process.stdout.close()


def test_the_exit_status_passes_through_where_ends_of_children_are_ignored():
    """As who starts us may have it."""

    def ignore():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    for words in (["--report"], []):
        done = ace("run", *words, "--", "sh", "-c", "exit 7", preexec_fn=ignore)
        assert done.returncode == 7, done.stderr


def test_a_stopped_program_stops_ace_too():
    code = "import os, signal; print(os.getpid(), flush=True); os.kill(os.getpid(), signal.SIGSTOP); print('on')"
    process = subprocess.Popen(
        [*ACE, "run", "--report", "--", PYTHON, "-c", code], env=ENVIRONMENT, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    child = int(process.stdout.readline())
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    process.send_signal(signal.SIGCONT)
    assert process.stdout.read() == "on\n"
    assert process.wait(20) == 0 and child != process.pid
    process.stdout.close()


@pytest.mark.parametrize("report", [[], ["--report"]], ids=["exec", "report"])
def test_the_program_starts_with_the_signals_a_shell_gives(report):
    # Those that are ignored here, as by nohup, stay so: what is asked for is the same as without ace.
    command = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]
    without = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    masks, wanted = (
        {name: int(mask, 16) & 0x7FFFFFFF for name, mask in (line.split(":\t") for line in text.splitlines())}
        for text in (ace("run", *report, "--", *command).stdout, without)
    )
    assert masks == wanted  # but for 32 and 33, which belong to the C library's threads


def test_a_command_may_have_options_of_its_own(tmp_path):
    done = ace("run", "--mode", "off", PYTHON, "-c", "import sys; print(sys.argv[1:])", "--mode", "--", "--report")
    assert done.stdout == "['--mode', '--', '--report']\n"


def test_a_script_without_a_first_line_runs_in_the_shell(tmp_path):
    script = tmp_path / "plain"
    script.write_text("echo $1 $0\nexit 5\n")
    script.chmod(0o755)
    for report in ([], ["--report"]):
        done = ace("run", *report, "--", script, "word")
        assert (done.returncode, done.stdout) == (5, "word %s\n" % script)


def test_an_existing_preload_is_kept():
    env = dict(ENVIRONMENT, LD_PRELOAD="/lib/x86_64-linux-gnu/libm.so.6")
    done = ace("run", "--", PYTHON, "-c", "import os; print(os.environ['LD_PRELOAD'])", env=env)
    ours, theirs = done.stdout.strip().split(":")
    assert Path(ours).name == "libace-preload.so" and Path(ours).is_absolute()
    assert theirs == env["LD_PRELOAD"]


# ------------------------------------------------------------------------------------ entering hosts


@pytest.mark.skipif(shutil.which("lua5.4") is None, reason="lua5.4 is not installed")
@pytest.mark.parametrize("variable", ["LUA_CPATH", "LUA_CPATH_5_4"])
@pytest.mark.parametrize("theirs", [None, "/a/?.so;;", "/a/?.so"])
def test_lua_finds_the_module(theirs, variable):
    env = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("LUA_")}
    if theirs is not None:
        env[variable] = theirs
    code = "local ace = require 'ace' assert(ace.active()) print(package.cpath)"
    done = ace("run", "--", "lua5.4", "-e", code, env=env)
    assert done.returncode == 0, done
    assert ("/usr/local/lib/lua/5.4/?.so" in done.stdout) == (theirs != "/a/?.so")
    assert ("/a/?.so" in done.stdout) == (theirs is not None)


def enter(tmp_path, *command, **options):
    lines = tmp_path / "lines"
    done = ace("run", "--report-to", lines, "--", *command, **options)
    assert done.returncode == 0, done.stderr
    return active_hosts(lines), done


@pytest.mark.parametrize(
    "command",
    [
        [PYTHON, "-c", "pass"],
        [os.path.realpath(PYTHON), "-c", "pass"],
        ["sh", "-c", PYTHON + " -c pass"],
        ["env", PYTHON, "-I", "-S", "-c", "pass"],
    ],
    ids=["environment", "base", "shell", "env"],
)
def test_python_is_entered(tmp_path, command):
    hosts, _ = enter(tmp_path, *command)
    assert hosts == ["cpython"]


def test_a_script_with_a_first_line_is_entered(tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/usr/bin/env python3\nimport sys\nprint(sys.argv[1:])\n")
    script.chmod(0o755)
    hosts, done = enter(tmp_path, script, "a", "b")
    assert hosts == ["cpython"] and done.stdout == "['a', 'b']\n"


def test_a_pyenv_shim_is_entered(tmp_path):
    shim = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "shims" / "python3"
    if not shim.exists():
        pytest.skip("there is no pyenv here")
    hosts, _ = enter(tmp_path, shim, "-c", "pass")
    assert hosts == ["cpython"]


@pytest.mark.parametrize("name", ["luajit", "lua5.1", "lua5.3", "lua5.4"])
def test_lua_is_entered(tmp_path, name):
    if not shutil.which(name):
        pytest.skip("%s is not installed" % name)
    hosts, _ = enter(tmp_path, name, "-e", "local t = {} for i = 1, 1e5 do t[i] = {} end")
    assert len(hosts) == 1 and hosts[0].startswith("lua")


def test_children_are_entered(tmp_path):
    code = "import subprocess, sys; [subprocess.run([sys.executable, '-c', 'pass'], check=True) for _ in range(3)]"
    hosts, _ = enter(tmp_path, PYTHON, "-c", code)
    assert hosts == ["cpython"] * 4


def test_the_package_in_a_subinterpreter():
    """One that shares the GIL speaks to the heap; what must be compiled is not loaded there."""
    module = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    code = (
        "import %s as s\n"
        "i = s.create('legacy') if %r else s.create()\n"
        "s.run_string(i, 'import acealloc\\nwith acealloc.phase(): print(acealloc.active())')"
    ) % (module, sys.version_info >= (3, 13))
    done = ace("run", "--", sys.executable, "-c", code)
    assert done.returncode == 0 and done.stdout in ("True\n", "False\n"), done


def test_the_module_and_the_preloaded_library_keep_apart(tmp_path):
    """Both bring a core: the module's error handler must not swallow what the interpreter's heap reports."""
    code = (
        "import acealloc\n"
        "heap = acealloc.Heap('apart')\n"
        "try:\n"
        "    heap.free(id(heap))\n"  # a block of the interpreter's heap: foreign to the module's core
        "except acealloc.BadAddress as error:\n"
        "    print(error.reason)\n"
    )
    lines = tmp_path / "lines"
    done = ace("run", "--report-to", lines, "--", PYTHON, "-c", code)
    assert (done.returncode, done.stdout) == (0, "foreign\n")
    assert active_hosts(lines) == ["cpython"]
    assert "apart" not in lines.read_text()


def test_options_reach_the_library(tmp_path):
    done = ace("run", "--mode=off", "--idle-delay", "50ms", "--bad_pointer", "report", "--", "env")
    told = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("ACE_"))
    assert told["ACE_MODE"] == "off"
    assert told["ACE_IDLE_DELAY"] == "50ms"
    assert told["ACE_BAD_POINTER"] == "report"


def test_what_has_no_effect_is_said(tmp_path):
    (tmp_path / "run.ace").touch()
    done = ace("run", "--record", tmp_path / "run.ace", "--", "true", env=dict(ENVIRONMENT, ACE_HARDEND="on"))
    assert "ACE_HARDEND is no option's variable and has no effect: do you mean ACE_HARDENED?" in done.stderr
    assert "is there and is kept" in done.stderr and "%s.PID" % (tmp_path / "run.ace") in done.stderr


def test_a_limit_ends_in_memory_error():
    code = "try: data = [bytes(1000) for _ in range(200_000)]\nexcept MemoryError: print('MemoryError')"
    assert ace("run", "--limit", "64m", "--", PYTHON, "-c", code).stdout == "MemoryError\n"


# ------------------------------------------------------------------------------------------ the screen


def test_the_screen_shows_hosts_heaps_and_phases():
    code = "import gc; x = [[i] for i in range(300_000)]; del x; gc.collect()"
    done = ace("run", "--report", "--", PYTHON, "-c", code)
    assert done.stdout == ""
    screen = done.stderr
    assert "exit status 0" in screen
    assert re.search(r"host +cpython %d\.%d\.\d+: active" % sys.version_info[:2], screen)
    assert re.search(r"python +\d+ .* ok\b", screen)
    assert re.search(r"collect +[\d,]+ ", screen)
    assert "Foreign pointers 0" in screen and "Misrouted pointers 0" in screen


def test_the_screen_counts_processes():
    code = "import os\nfor _ in range(2):\n    if os.fork() == 0: raise SystemExit\n    os.wait()"
    assert "active (3 processes)" in ace("run", "--report", "--", PYTHON, "-c", code).stderr


def test_the_screen_says_that_nothing_was_entered():
    done = ace("run", "--report", "--", "true")
    assert done.returncode == 0 and "nothing was reported" in done.stderr


def test_the_screen_says_why_a_host_is_inactive():
    done = ace("run", "--report", "--", PYTHON, "-X", "dev", "-c", "pass")
    assert done.returncode == 0 and "inactive" in done.stderr


def test_a_report_of_kinds_of_which_none_is_left(tmp_path):
    """A Lua that has ended has closed its state."""
    done = ace("run", "--kinds", "on", "--report", "--", "lua5.4", "-e", "print(#arg)")
    assert done.returncode == 0 and "Kinds of objects in slabs: none of their blocks is left" in done.stderr


@pytest.mark.parametrize("verb", (["run", "--log"], ["record", "-o"]))
def test_a_file_in_a_folder_too_deep_for_an_option(verb, tmp_path):
    """The name alone is short enough, but the option holds the path from the root on."""
    folder = tmp_path / ("a" * 120) / ("b" * 140)
    folder.mkdir(parents=True)
    done = ace(*verb, "file", "--", PYTHON, "-c", "print('ran')", cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is a path of more than 255 bytes: name a file in a folder less deep" in " ".join(done.stderr.split())


def test_nothing_is_left_in_the_temporary_folder(tmp_path):
    env = dict(ENVIRONMENT, TMPDIR=str(tmp_path))
    ace("run", "--report", "--", PYTHON, "-c", "import os; os.kill(os.getpid(), 15)", env=env)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["run", "--colour", "red", "--", "true"], r"no option --colour; there are .*--mode"),
        (["run", "--mode", "red", "--", "true"], r"mode cannot be 'red': it takes off\|static"),
        (["run", "--limit", "much", "--", "true"], r"limit cannot be 'much': it takes bytes"),
        (["run", "--mode"], r"--mode: expected one argument"),
        (["run"], r"no command to run"),
        (["run", "--"], r"no command to run"),
        (["walk"], r"invalid choice: '?walk"),
        ([], r"required: VERB"),
        (["options", "--mode"], r"no option --mode"),
    ],
)
def test_wrong_command_lines(arguments, said):
    done = ace(*arguments)
    assert done.returncode == 2 and re.search(said, done.stderr), done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr


@pytest.mark.parametrize("name, value, said", [("LIMIT", "64MB", "limit cannot be '64MB': it takes bytes"),
                                               ("MODE", "", "mode cannot be ''")])  # fmt: skip
def test_wrong_values_in_the_environment(name, value, said):
    done = ace("run", "--", "echo", "it ran", env=dict(ENVIRONMENT, **{"ACE_" + name: value}))
    assert (done.returncode, done.stdout) == (2, "")
    assert "ACE_%s in the environment: option %s" % (name, said) in done.stderr
    chosen = "--" + name.lower(), "64m" if name == "LIMIT" else "static"
    assert ace("run", *chosen, "--", "true", env=dict(ENVIRONMENT, **{"ACE_" + name: value})).returncode == 0


def test_commands_that_do_not_exist(tmp_path):
    for command in ("no-such-command-anywhere", tmp_path / "missing"):
        done = ace("run", "--", command)
        assert done.returncode == 127 and done.stderr.startswith("ace run: there is no "), done.stderr


def test_a_missing_interpreter(tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/nowhere/python3\n")
    script.chmod(0o755)
    for report in ([], ["--report"]):
        done = ace("run", *report, "--", script)
        assert done.returncode == 127 and "needs an interpreter that is not there" in done.stderr


def test_commands_that_cannot_be_executed(tmp_path):
    file = tmp_path / "file"
    file.write_text("text")
    for command, said in ((file, "is not executable"), (tmp_path, "is a folder")):
        done = ace("run", "--", command)
        assert done.returncode == 126 and said in done.stderr


def test_a_preload_that_is_not_there(tmp_path):
    for named, said in (("/nowhere/lib.so", "no preloaded library at /nowhere"), (None, "contains a space")):
        if named is None:
            named = tmp_path / "a b.so"
            named.write_text("")
        done = ace("run", "--", "true", env=dict(ENVIRONMENT, ACE_PRELOAD=str(named)))
        assert done.returncode == 1 and said in done.stderr


# ---------------------------------------------------------------------- programs that cannot be entered


@pytest.fixture
def compiled(tmp_path):
    def compile(text, *flags):
        if not shutil.which("cc"):
            pytest.skip("there is no C compiler")
        (tmp_path / "program.c").write_text(text)
        subprocess.run(["cc", "-o", tmp_path / "program", tmp_path / "program.c", *flags], check=True)
        return tmp_path / "program"

    return compile


def test_a_static_program_runs_on(compiled):
    program = compiled('#include <stdio.h>\nint main(void) { puts("ran"); return 9; }', "-static")
    done = ace("run", "--", program)
    assert (done.returncode, done.stdout) == (9, "ran\n")
    assert "cannot be entered: it is linked statically" in done.stderr


def test_a_program_whose_loader_has_a_name_that_is_no_text(tmp_path):
    """Or that is damaged: the kernel judges it."""
    lua = shutil.which("lua5.4")
    if lua is None:
        pytest.skip("there is no lua5.4")
    (tmp_path / "lua").write_bytes(Path(lua).read_bytes().replace(b"/ld-linux", b"/ld-linu\xff"))
    (tmp_path / "lua").chmod(0o755)
    done = ace("run", "--", tmp_path / "lua", "-e", "print(1)")
    assert (done.returncode, done.stdout) == (127, "") and "needs an interpreter that is not there" in done.stderr


def test_a_setuid_program_runs_on(compiled):
    if os.getuid() == 0:
        owner = 65534
    else:
        pytest.skip("only root can make a program of another user")
    program = compiled('#include <stdio.h>\nint main(void) { puts("ran"); return 9; }')
    program.parent.chmod(0o755)
    os.chown(program, owner, -1)
    program.chmod(0o4755 | stat.S_ISUID)
    done = ace("run", "--", program)
    assert (done.returncode, done.stdout) == (9, "ran\n")
    assert "it is setuid" in done.stderr


def test_a_free_threaded_python_is_told_by_its_library(compiled, tmp_path):
    library = tmp_path / "libpython3.13t.so.1.0"
    (tmp_path / "empty.c").write_text("int Py_IsInitialized(void) { return 0; }")
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler")
    subprocess.run(["cc", "-shared", "-o", library, tmp_path / "empty.c", "-Wl,-soname," + library.name], check=True)
    text = "int Py_IsInitialized(void); int main(void) { return Py_IsInitialized(); }"
    program = compiled(text, str(library), "-Wl,-rpath," + str(tmp_path))
    done = ace("run", "--", program)
    assert done.returncode == 0 and "it is a free-threaded Python" in done.stderr


def test_a_report_is_appended_to(tmp_path):
    lines = tmp_path / "lines"
    lines.write_text('{"host":"old","pid":1,"version":"0","active":true}\n')
    done = ace("run", "--report", "--report-to", lines, "--", PYTHON, "-c", "pass")
    assert "old" not in done.stderr
    assert active_hosts(lines) == ["old", "cpython"]


@pytest.mark.skipif(shutil.which("luajit") is None, reason="luajit is not installed")
def test_a_luajit_under_a_limit_is_warned_of():
    limited = dict(ENVIRONMENT, ACE_LIMIT="64m")
    for words, env, warned in ((["--limit", "64m"], ENVIRONMENT, True), ([], limited, True), ([], ENVIRONMENT, False),
                               (["--limit", "0"], limited, False), (["--limit", "0k"], limited, False)):  # fmt: skip
        done = ace("run", *words, "--", "luajit", "-e", "print(1)", env=env)
        assert (done.returncode, done.stdout, "jit.off() avoids it" in done.stderr) == (0, "1\n", warned), done.stderr
    for program in ("lua5.4", PYTHON):
        if shutil.which(program):
            assert "LuaJIT" not in ace("run", "--limit", "64m", "--", program, "-h").stderr


def test_starting_costs_little():
    """`ace run` is in the way of every start: it must stay far below a second."""
    begin = time.monotonic()
    ace("run", "--", "true")
    assert time.monotonic() - begin < 2
