"""Edge cases: edges.c has a case each, operators.cpp those of C++."""

import re
import shutil
import subprocess
import sys

import pytest
from conftest import HERE, LIBRARY

CASES = re.findall(r'\{"(\w+)", \1\}', (HERE / "edges.c").read_text())


@pytest.mark.parametrize("case", CASES)
def test_edge(shim, built, case):
    run = shim.run(built("edges.c"), case)
    assert run.returncode == 0, run.stderr
    assert len(run.reports) >= 1


def test_statistics_go_to_standard_error(shim, built):
    run = shim.run(built("edges.c"), "information")
    assert run.stdout == "" and "thread" in run.stderr


def test_every_case_is_run(built):
    listed = subprocess.run([built("edges.c")], capture_output=True, text=True, check=True).stdout.split()
    assert sorted(listed) == sorted(CASES)


@pytest.mark.parametrize("records", [False, True], ids=["plain", "recorded"])
def test_fork_handlers_of_others_may_allocate(shim, built, tmp_path, records):
    settings = {"ACE_RECORD": str(tmp_path / "run.ace")} if records else {}
    library = built("at_fork.c", "-shared", "-fPIC")
    run = shim.run(built("edges.c"), "forks", libraries=(LIBRARY, library), settings=settings)
    assert run.returncode == 0, run.stderr


def test_foreign_pointers_are_counted(shim, built):
    (report,) = shim.run(built("edges.c"), "foreign").reports.values()
    assert report["foreign_frees"] == 7


def test_a_report_to_a_full_disk_is_told(shim):
    done = shim.run(sys.executable, "-c", "print(1)", settings={"ACE_REPORT": "/dev/full"})
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert "the report in /dev/full (ACE_REPORT) of process" in done.stderr
    assert "is not whole: No space left on device" in done.stderr


def test_operators(shim, built):
    run = shim.run(built("operators.cpp"))
    assert run.returncode == 0, run.stderr
    assert run.reports


PLUGIN = """
#include <cstddef>
#include <new>
extern "C" int run() {
  volatile std::size_t huge = std::size_t{1} << 60;
  if (void *p = ::operator new(huge, std::nothrow)) return p != nullptr;
  try { ::operator delete(::operator new[](huge)); } catch (const std::bad_alloc &) { return 0; }
  return 2;
}
"""
HOST = """
#include <dlfcn.h>
int main(int count, char **words) {
  void *plugin = dlopen(words[count - 1], RTLD_NOW | RTLD_LOCAL);
  return plugin == 0 ? 3 : ((int (*)(void))dlsym(plugin, "run"))();
}
"""


@pytest.mark.parametrize("options", [(), ("-static-libstdc++", "-static-libgcc")], ids=["shared", "static"])
def test_a_plugin_in_cpp_of_a_program_in_c(shim, tmp_path, options):
    """The libstdc++ that throws is in no scope but the plugin's."""
    plugin, host = tmp_path / "plugin.so", tmp_path / "host"
    (tmp_path / "plugin.cpp").write_text(PLUGIN)
    (tmp_path / "host.c").write_text(HOST)
    subprocess.run(["g++", "-O1", "-shared", "-fPIC", "-o", plugin, tmp_path / "plugin.cpp", *options], check=True)
    subprocess.run(["gcc", "-o", host, tmp_path / "host.c", "-ldl"], check=True)
    run = shim.same(host, plugin)
    assert run.returncode == 0, run.stderr


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_a_far_block_is_found_at_once(shim, built):
    """By instructions: 1.5 million, or 13 million where each is looked for among all."""
    run = shim.run("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", built("edges.c"), "far_blocks")
    assert run.returncode == 0, run.stderr
    assert int(re.search(r"Collected : (\d+)", run.stderr)[1]) < 5_000_000


def test_what_the_options_have_to_say_is_said(shim, built):
    """Before the first heap is there, and so from memory of its own."""
    settings = {"ACE_MODE": "no-such", "ACE_VERBOSE": "on", "ACE_NO_SUCH": "1"}
    run = shim.run(built("edges.c"), "family", settings=settings)
    assert run.returncode == 0
    assert "ACE_MODE=no-such" in run.stderr and "ACE_NO_SUCH" in run.stderr and "malloc: entered" in run.stderr


@pytest.mark.parametrize("option", ["ACE_RECORD", "ACE_HARDENED"])
def test_no_call_is_a_cancellation_point(shim, built, tmp_path, option):
    settings = {option: "on" if option == "ACE_HARDENED" else str(tmp_path / "run.ace")}
    run = shim.run(built("edges.c"), "cancelled", settings=settings)
    assert run.returncode == 0, run.stderr


SMALL_STACK = """
#include <pthread.h>
#include <stdlib.h>
static void *run(void *unused) {
  for (size_t i = 0; i < 1000; ++i) { void *volatile p = malloc(i * 37); free(p); }
  exit(0);
}
int main(void) {
  pthread_attr_t small;
  pthread_t thread;
  pthread_attr_init(&small);
  if (pthread_attr_setstacksize(&small, 24 << 10) != 0 || pthread_create(&thread, &small, run, NULL) != 0) return 77;
  pthread_join(thread, NULL);
  return 1;
}
"""


def test_exit_from_a_thread_with_a_small_stack(shim, tmp_path):
    """No report is wanted, which takes more."""
    source, program = tmp_path / "small.c", tmp_path / "small"
    source.write_text(SMALL_STACK)
    subprocess.run(["gcc", "-O1", "-o", program, source, "-pthread"], check=True)
    run = shim.run(program, settings={"ACE_REPORT": "none"})
    if run.returncode == 77:
        pytest.skip("the system gives no thread so small a stack")
    assert run.returncode == 0, run.stderr


GOES_ELSEWHERE = """
import os
os.chdir("/")
os.closerange(3, 100)
blocks = [bytes(i % 5000) for i in range(100_000)]
"""


def test_relative_paths_are_those_of_the_first_folder(shim, tmp_path):
    """Also where the process goes elsewhere, and closes descriptors that are not its own."""
    settings = {"ACE_RECORD": "run.ace", "ACE_REPORT": "report.jsonl", "PYTHONMALLOC": "malloc"}
    run = shim.run(sys.executable, "-c", GOES_ELSEWHERE, settings=settings, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert len(run.reports) == 1 and (tmp_path / "run.ace").stat().st_size > 100_000


def test_a_free_of_nothing_is_not_recorded(shim, tmp_path):
    source, program, file = tmp_path / "nothing.c", tmp_path / "nothing", tmp_path / "run.ace"
    source.write_text("#include <stdlib.h>\nint main(void) { for (int i = 0; i < 300000; ++i) free(NULL); }\n")
    subprocess.run(["gcc", "-O0", "-fno-builtin", "-o", program, source], check=True)
    run = shim.run(program, settings={"ACE_RECORD": str(file)})
    assert run.returncode == 0 and file.stat().st_size < 30_000, run.stderr


def test_a_full_disk_ends_the_recording_alone(shim, built, tmp_path):
    """Said in the middle of a malloc, by a thread whose locks a fork wants as well."""
    settings = {"ACE_RECORD": str(tmp_path / "run.ace")}
    run = shim.run(built("edges.c"), "full_disk", settings=settings)
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("File too large; what came before is kept") == 1


@pytest.mark.parametrize("call", ["free(p)", "return realloc(p, 500) != NULL"], ids=["free", "realloc"])
@pytest.mark.parametrize(
    "block", ["(char *)malloc(5000000) + 4000000", "(char *)memalign(4 << 20, 100000) + 16"], ids=["large", "far"]
)
def test_a_pointer_into_a_mapping_is_reported(shim, tmp_path, block, call):
    source, program = tmp_path / "into.c", tmp_path / "into"
    code = "void *volatile p = %s; %s; return 0;" % (block, call)
    source.write_text("#include <malloc.h>\n#include <stdlib.h>\nint main(void) { %s }\n" % code)
    subprocess.run(["gcc", "-O1", "-w", "-fno-builtin", "-o", program, source], check=True)
    run = shim.run(program)
    assert run.returncode == -6 and "does not point to the start of a block; block size " in run.stderr
    run = shim.run(program, settings={"ACE_BAD_POINTER": "report"})
    assert run.returncode == 0 and run.stderr.count("the start of a block") == 1, run.stderr
    assert [report["foreign_frees"] for report in run.reports.values()] == [0]


@pytest.mark.parametrize("call", ["free(p)", "return realloc(p, 500) != NULL"], ids=["free", "realloc"])
def test_a_double_free_is_reported_once(shim, tmp_path, call):
    source, program = tmp_path / "twice.c", tmp_path / "twice"
    code = "void *volatile p = malloc(50); free(p); %s; return 0;" % call
    source.write_text("#include <stdlib.h>\nint main(void) { %s }\n" % code)
    subprocess.run(["gcc", "-O1", "-w", "-fno-builtin", "-o", program, source], check=True)
    run = shim.run(program)
    assert run.returncode == -6 and "is free already" in run.stderr
    for settings in ({}, {"ACE_HARDENED": "on"}, {"ACE_RECORD": str(tmp_path / "run.ace")}):
        run = shim.run(program, settings={"ACE_BAD_POINTER": "report", **settings})
        assert run.returncode == 0 and run.stderr.count("is free already") == 1, run.stderr
