"""The examples: each is built by the command in its head comment against the build folder, and run."""

import os
import re
import subprocess
import time

import pytest
from conftest import BUILD, REPOSITORY

EXAMPLES = REPOSITORY / "examples"
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
SANITIZERS = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
# By what a command asks pkg-config for: what Debian calls it.
PACKAGES = {
    "duktape": "duktape-dev",
    "mujs": "libmujs-dev",
    "sqlite3": "libsqlite3-dev",
    "luajit": "libluajit-5.1-dev",
    "lua5.1": "liblua5.1-0-dev",
    "lua5.3": "liblua5.3-dev",
    "lua5.4": "liblua5.4-dev",
    "lua5.5": "liblua5.5-dev",
}
LUAS = ["luajit", "lua5.1", "lua5.3", "lua5.4", "lua5.5"]
# 5.5.1 collects though its collector was stopped, and so before the game's loop does.
STOPPABLE = LUAS[:-1]
# What stops a script that hits its limit, in the words of its VM.
OUT_OF_MEMORY = {"duktape_host": "Error: alloc failed", "mujs_host": "out of memory"}


def clean_environment(**more):
    return {k: v for k, v in os.environ.items() if not k.startswith(("ACE_", "LD_"))} | more


def command_of(source):
    """The command in the head comment, which ends with the program's name."""
    (command,) = re.findall(r"^ \* {5}(cc .*-o %s)$" % source.stem, source.read_text(), re.MULTILINE)
    return command


def build(name, folder, *more, lua="luajit"):
    """The example's program, made in `folder`; skips where a library that it needs is not installed."""
    source = EXAMPLES / (name + ".c")
    command = command_of(source).replace("luajit)", lua + ")")
    (asked,) = re.findall(r"pkg-config --cflags --libs ([^)]*)\)", command)
    for library in set(asked.split()) & set(PACKAGES):
        if subprocess.run(["pkg-config", "--exists", library]).returncode != 0:
            pytest.skip("%s is missing: apt-get install %s" % (library, PACKAGES[library]))
    (folder / source.name).symlink_to(source)
    environment = clean_environment(PKG_CONFIG_PATH=str(BUILD / "meson-uninstalled"))
    command = " ".join(["cc", *WARNINGS, *more, command.removeprefix("cc ")])
    subprocess.run(["sh", "-c", command], cwd=folder, env=environment, check=True)
    return folder / name


def execute(program, *arguments):
    environment = clean_environment(LD_LIBRARY_PATH=str(BUILD / "src"))
    command = list(map(str, [program, *arguments]))
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def parts_of(output):
    """What each script printed, by the name that stands alone on the line before it."""
    parts, lines = {}, output.splitlines()[1:]
    for line in lines:
        if line.startswith("  "):
            parts[list(parts)[-1]].append(line.strip())
        else:
            parts[line] = []
    return parts


def figures(line):
    """The megabytes of a line of figures, by what they are."""
    return {name: float(number) for name, number in re.findall(r"(\w+) +([\d.]+) MB", line)}


@pytest.fixture(params=[[], SANITIZERS], ids=["plain", "sanitized"])
def flags(request):
    return request.param


@pytest.mark.parametrize("name", OUT_OF_MEMORY)
def test_javascript(name, flags, tmp_path):
    result = execute(build(name, tmp_path, *flags), 8)
    assert (result.returncode, result.stderr) == (0, ""), result
    parts = parts_of(result.stdout)
    worked, littered, hoarded = parts.values()
    assert re.fullmatch(r"works: built \d+ records", worked[0]), worked
    assert re.fullmatch(r"(cycles|litters): last was \d+", littered[0]), littered
    # Its garbage is gone, and so are the pages that held nothing else.
    before, after = figures(littered[1]), figures(littered[2])
    assert after["live"] < before["live"] / 2, littered
    # One got all that its limit allows, was stopped, and its VM could be used again.
    assert hoarded[0] == "stopped: " + OUT_OF_MEMORY[name] and hoarded[2] == "goes on: 1 2 3", hoarded
    full, recovered = figures(hoarded[1]), figures(hoarded[3])
    assert full["live"] > 6 and full["peak"] <= 8, hoarded
    assert recovered["live"] < 1 and recovered["resident"] < 1, "what was dropped went back: %s" % hoarded


@pytest.mark.parametrize("name", OUT_OF_MEMORY)
def test_javascript_files(name, tmp_path):
    host = build(name, tmp_path)
    good, bad, absent = tmp_path / "good.js", tmp_path / "bad.js", tmp_path / "absent.js"
    good.write_text("print('from a file: ' + 6 * 7);")
    bad.write_text("throw 'on purpose';")
    result = execute(host, 1, good, bad, absent)
    assert result.returncode == 1
    parts = parts_of(result.stdout)
    assert parts[str(good)][0] == "from a file: 42"
    assert parts[str(bad)][0] == "stopped: on purpose"
    assert "cannot open" in parts[str(absent)][0]
    assert execute(host, 1, good).returncode == 0
    for wrong in ("0", "-3", "nan"):
        refused = execute(host, wrong)
        assert refused.returncode == 2 and "usage:" in refused.stderr


@pytest.mark.parametrize("name", OUT_OF_MEMORY)
def test_javascript_with_hardly_any_memory(name, tmp_path):
    """A limit that leaves no room for an error object is survived as well."""
    host = build(name, tmp_path)
    for limit in (0.2, 0.3, 0.5, 1):
        result = execute(host, limit)
        assert (result.returncode, result.stderr) == (0, ""), result
        assert parts_of(result.stdout)["hoards"][-2] == "goes on: 1 2 3"


def test_sqlite(flags, tmp_path):
    result = execute(build("sqlite_host", tmp_path, *flags), 16)
    assert (result.returncode, result.stderr) == (0, ""), result
    _, threads, filled, stopped, goes_on, heap = result.stdout.splitlines()
    assert threads == "3 threads: 20000 rows in each"
    written, times = re.fullmatch(r"\d+ transactions: ([\d.]+) MB .* taken back (\d+) times", filled).groups()
    assert float(written) > 32 and int(times) > 3
    wanted, got = re.fullmatch(r"one transaction of ([\d.]+) MB: out of memory after ([\d.]+) MB", stopped).groups()
    assert float(wanted) > 32 and 3 < float(got) < 16
    assert goes_on.endswith("the database is sound")
    found = figures(heap)
    assert 12 < found["peak"] <= 16 and found["resident"] < 1, "the caches went back"


def table_after(head, output):
    """The rows of a table, by their first word."""
    rows = output.split("\n%s " % head)[1].split("\n\n")[0].splitlines()
    names = rows[0].replace("in frame", "in_frame").split()
    return {name: dict(zip(names, map(float, numbers))) for name, *numbers in map(str.split, rows[1:])}


@pytest.mark.parametrize("package", [*STOPPABLE, "sanitized-lua5.4"])
def test_game_loop(package, tmp_path):
    # Frames of a second, so that no machine is too slow for the work on memory.
    flags = SANITIZERS if package.startswith("sanitized-") else []
    program = build("game_loop", tmp_path, *flags, lua=package.removeprefix("sanitized-"))
    result = execute(program, "--frames", 420, "--no-wait", "--hz", 1, "--memory", 500)
    assert (result.returncode, result.stderr) == (0, ""), result
    assert "\n420 frames; " in result.stdout
    for what, times in table_after("ms", result.stdout).items():
        assert 0 < times["p50"] <= times["p99"] <= times["p99.9"] <= times["max"], what
    scripts = table_after("MB", result.stdout)
    assert list(scripts) == ["world", "agents", "texts", "hoard"]
    assert all(0 < script["live"] <= script["resident"] <= script["peak"] for script in scripts.values()), scripts
    assert all(script["cycles"] > 5 for script in scripts.values()), "the collectors went on"
    hoard = scripts.pop("hoard")
    assert hoard["restarts"] >= 2 and abs(hoard["peak"] - hoard["budget"]) < 0.2, "one was stopped by its budget"
    assert all(script["restarts"] == script["in_frame"] == 0 for script in scripts.values()), scripts
    # The world was left twice. What the others hold they need again at once.
    world = scripts.pop("world")
    assert world["peak"] < world["budget"] and world["returned"] > 5, world
    assert all(script["returned"] < 1 for script in scripts.values()), scripts


@pytest.mark.parametrize("package", STOPPABLE)
def test_game_loop_without_time(package, tmp_path):
    """Collectors that hardly get any time: the budgets hold, and the loop goes on."""
    result = execute(build("game_loop", tmp_path, lua=package), "--frames", 300, "--no-wait", "--memory", 0.001)
    assert (result.returncode, result.stderr) == (0, ""), result
    scripts = table_after("MB", result.stdout)
    assert all(script["peak"] <= script["budget"] + 1.05 for script in scripts.values()), scripts
    assert scripts["hoard"]["restarts"] >= 1


def test_game_loop_waits(tmp_path):
    """A frame begins when its time has come: 60 frames are no less than a second, but for the last."""
    program = build("game_loop", tmp_path)
    begin = time.monotonic()
    assert execute(program, "--frames", 60).returncode == 0
    assert time.monotonic() - begin > 0.98
    for wrong in (["--frames", "0"], ["--memory", "nan"], ["--hz", "0"], ["--frame"]):
        refused = execute(program, *wrong)
        assert refused.returncode == 2 and "[--hz N]" in refused.stderr
