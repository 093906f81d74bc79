"""When the preloaded library enters CPython, when it does not, and that it leaves all other processes alone."""

import os
import re
import shutil
import subprocess
import tempfile

import pytest

CHURN = "x = [{'a': i, 'b': [str(i)]} for i in range(20000)]; del x; import gc; gc.collect(); print('done')"


@pytest.mark.parametrize(
    "flags", [[], ["-I"], ["-S"], ["-E"], ["-I", "-S", "-E"], ["-X", "tracemalloc"], ["-OO", "-B"]]
)
def test_every_python_is_entered(run, python, flags):
    result = run([python.path, *flags, "-c", CHURN]).check_sound()
    assert (result.stdout, result.stderr) == ("done\n", "")
    host = result.host()
    assert host["version"] == "%d.%d.%d" % python.version
    assert host["domains"] == "raw,mem,obj"
    assert host["collector"] and not host["many_gils"] and not host["debug_hooks"]
    # Everything that was built went through the heap: each record is four blocks.
    assert result.heap("python")["peak_resident_bytes"] > 20000 * 4 * 32


@pytest.mark.parametrize("domains", ["raw", "mem", "obj", "mem,obj", "raw,obj"])
def test_domains(run, python, domains):
    result = run([python.path, "-c", CHURN], {"ACE_DOMAINS": domains}).check_sound()
    assert result.stdout == "done\n"
    assert result.host()["domains"] == domains
    names = {heap["name"] for heap in result.heaps}
    assert names == ({"python raw"} if "raw" in domains else set()) | ({"python"} if domains != "raw" else set())


def test_python_malloc_ace(run, python):
    """The value is ours alone, so it must be gone before CPython and its children look at it."""
    code = "import os, subprocess, sys; print(os.environ.get('PYTHONMALLOC'))\n"
    code += "if len(sys.argv) == 1: subprocess.run([sys.executable, '-c', open(0).read(), 'child'], check=True)"
    child = "import os; print(os.environ.get('PYTHONMALLOC'))"
    code = code.replace("open(0).read()", repr(child))
    result = run([python.path, "-c", code], {"PYTHONMALLOC": "ace"}).check_sound()
    assert (result.stdout, result.stderr) == ("None\nNone\n", "")
    assert len(result.hosts) == 2


def test_python_malloc_ace_debug(run, python):
    """CPython's own checks run on top of our blocks, in children as well: an overflow is found."""
    overflow = (
        "import ctypes, sys; api = ctypes.pythonapi; api.PyMem_Malloc.restype = ctypes.c_void_p;"
        "api.PyMem_Malloc.argtypes = [ctypes.c_size_t]; api.PyMem_Free.argtypes = [ctypes.c_void_p];"
        "p = api.PyMem_Malloc(20); ctypes.memset(p, 1, 21); "
        "sys.stdout.write('written'); sys.stdout.flush(); api.PyMem_Free(p)"
    )
    plain = run([python.path, "-c", CHURN], {"PYTHONMALLOC": "ace_debug"}).check_sound()
    assert plain.host()["debug_hooks"]
    parent = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', sys.argv[1]]).returncode != -6)"
    result = run([python.path, "-c", parent, overflow], {"PYTHONMALLOC": "ace_debug"})
    assert (result.returncode, result.stdout) == (0, "written"), result
    assert "bad trailing pad byte" in result.stderr


@pytest.mark.parametrize("value", ["malloc", "pymalloc", "debug", "malloc_debug", "pymalloc_debug", "default"])
def test_another_python_malloc_replaces_us(run, python, value):
    result = run([python.path, "-c", CHURN], {"PYTHONMALLOC": value})
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")
    assert not result.host()["active"]
    assert "PYTHONMALLOC" in result.host()["reason"]


def test_python_malloc_that_is_ignored_does_not(run, python):
    assert run([python.path, "-E", "-c", CHURN], {"PYTHONMALLOC": "malloc"}).check_sound().stdout == "done\n"


@pytest.mark.parametrize("flags, env", [(["-X", "dev"], {}), ([], {"PYTHONDEVMODE": "1"})])
def test_development_mode_replaces_us(run, python, flags, env):
    result = run([python.path, *flags, "-c", CHURN], env)
    assert (result.returncode, result.stdout) == (0, "done\n")
    assert not result.host()["active"]
    assert "-X dev" in result.host()["reason"]


@pytest.mark.parametrize("value", ["acex", "ace-debug", "unknown"])
def test_an_unknown_python_malloc_is_refused_by_cpython(run, python, value):
    result = run([python.path, "-c", CHURN], {"PYTHONMALLOC": value})
    assert result.returncode != 0 and "PYTHONMALLOC" in result.stderr
    assert ("it has ace and ace_debug" in result.stderr) == value.startswith("ace")


def test_a_python_that_runs_no_code_is_inactive(run, python):
    result = run([python.path, "--version"])
    assert result.returncode == 0 and result.stdout.startswith("Python 3.")
    assert (result.host()["active"], result.host()["reason"]) == (False, "Python code never ran")


def test_verbose_says_what_was_entered(run, python):
    result = run([python.path, "-c", CHURN], {"ACE_VERBOSE": "on"}).check_sound()
    assert "CPython %d.%d.%d: entered: raw,mem,obj" % python.version in result.stderr


def test_an_unknown_option_value_is_told_and_the_default_taken(run, python):
    result = run([python.path, "-c", CHURN], {"ACE_DOMAINS": "obj,heap"}).check_sound()
    assert "ACE_DOMAINS=obj,heap" in result.stderr
    assert result.host()["domains"] == "raw,mem,obj"


def test_a_report_that_cannot_be_written_is_told(run, python, tmp_path):
    target = tmp_path / "absent" / "report"
    result = run([python.path, "-c", CHURN], {"ACE_REPORT": str(target)})
    assert (result.returncode, result.stdout) == (0, "done\n")
    assert "cannot be written to %s (ACE_REPORT): No such file or directory" % target in result.stderr


def test_a_report_to_a_full_disk_is_told(run, python):
    result = run([python.path, "-c", CHURN], {"ACE_REPORT": "/dev/full"})
    assert (result.returncode, result.stdout) == (0, "done\n")
    assert re.search(r"the report in /dev/full \(ACE_REPORT\) of process \d+ is not whole: No space left", result.stderr)


def test_a_report_for_people(run, python):
    result = run([python.path, "-c", CHURN], {"ACE_REPORT": "stderr"})
    assert "ace: CPython %d.%d.%d, process" % python.version in result.stderr
    assert 'heap "python"' in result.stderr and "audit: ok" in result.stderr


# ---- processes that are no host


@pytest.mark.parametrize(
    "command", [["/bin/true"], ["/bin/bash", "-c", "echo $((6 * 7)); ls / >/dev/null"], ["/usr/bin/env"]]
)
def test_an_ordinary_process_is_untouched(run, command):
    stock, hooked = run(command, stock=True), run(command)
    ours = ("LD_PRELOAD=", "ACE_REPORT=", "FREE_WATCH=")
    visible = "".join(line for line in hooked.stdout.splitlines(True) if not line.startswith(ours))
    assert (hooked.returncode, visible, hooked.stderr) == (stock.returncode, stock.stdout, stock.stderr)
    assert hooked.hosts == hooked.heaps == []


def test_an_ordinary_process_pays_no_memory(run):
    def anonymous_bytes(result):
        (line,) = [line for line in result.stdout.splitlines() if line.startswith("Anonymous:")]
        return int(line.split()[1]) * 1024

    command = ["/bin/cat", "/proc/self/smaps_rollup"]
    # The data pages of two more libraries, nothing else.
    assert anonymous_bytes(run(command)) - anonymous_bytes(run(command, stock=True)) < 64 * 1024


def test_an_ordinary_process_says_why_when_asked(run):
    result = run(["/bin/true"], {"ACE_VERBOSE": "on"})
    assert result.returncode == 0 and "not entered" in result.stderr


def test_through_a_shim(run, python, tmp_path):
    """Shells, env and taskset run the constructor too, and nothing of it is seen."""
    shim = tmp_path / "python3"
    shim.write_text(
        '#!/bin/bash\nset -e\nhere=$(cd "$(dirname "$0")" && pwd)\nexec /usr/bin/env taskset -c 0 "%s" "$@"\n'
        % python.path
    )
    shim.chmod(0o755)
    result = run([shim, "-c", CHURN], {"PYTHONMALLOC": "ace"}).check_sound()
    assert (result.stdout, result.stderr) == ("done\n", "")
    assert result.host()["version"] == "%d.%d.%d" % python.version


def test_a_static_program_is_untouched(run, tmp_path):
    source, program = tmp_path / "hello.c", tmp_path / "hello"
    source.write_text('#include <stdio.h>\nint main(void) { puts("hello"); return 3; }\n')
    subprocess.run(["cc", "-static", "-o", program, source], check=True)
    result = run([program])
    assert (result.returncode, result.stdout, result.stderr, result.hosts) == (3, "hello\n", "", [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a program that belongs to root")
def test_a_setuid_python_runs_on_without_us(run):
    """The dynamic linker drops the preload: the interpreter must run as if nothing had been asked."""
    # pytest's own folders are closed to other users.
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="ace-setuid-") as folder:
        os.chmod(folder, 0o755)
        program = os.path.join(folder, "python3")
        shutil.copy(os.path.realpath("/usr/bin/python3"), program)
        os.chmod(program, 0o4755)
        code = "import os; print(os.getuid(), os.geteuid())"
        result = run([program, "-I", "-S", "-c", code], user=65534, group=65534, cwd="/")
    assert (result.returncode, result.stdout, result.hosts) == (0, "65534 0\n", [])
