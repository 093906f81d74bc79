"""Interpreters that cannot be entered: they run on as if we were not there, and we say why."""

import glob
import os
import subprocess

import pytest

OLD = glob.glob(
    os.path.join(os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv")), "versions/3.[67].*/bin/python3")
)

# A stand-in, since no free-threaded or future CPython can be installed here. It shows what such a build shows at
# start (its version, its self-description, the allocator functions), tells what was set, and ends.
STAND_IN = """
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
struct { char cookie[8]; uint64_t version, free_threaded; } _PyRuntime = {"xdebugpy", 0, FREE_THREADED};
struct allocator { void *context, *functions[4]; } domains[3];
const char *Py_GetVersion(void) { return VERSION; }
void PyMem_GetAllocator(int domain, struct allocator *a) { *a = domains[domain]; }
void PyMem_SetAllocator(int domain, struct allocator *a) { domains[domain] = *a; }
#ifndef INCOMPLETE
int Py_IsInitialized(void) { return 0; }
#define OTHER(name) void name(void) {}
OTHER(Py_AddPendingCall) OTHER(PyMem_SetupDebugHooks) OTHER(PyImport_ImportModuleLevel) OTHER(PyObject_GetAttrString)
OTHER(PyCFunction_NewEx) OTHER(PyList_Append) OTHER(PyTuple_GetItem) OTHER(PyDict_GetItemString) OTHER(PyLong_AsLong)
OTHER(PyUnicode_AsUTF8AndSize) OTHER(Py_BuildValue) OTHER(PyErr_Clear) OTHER(Py_DecRef)
#ifndef INTERPRETERS_ALIKE
OTHER(PyThreadState_GetUnchecked) OTHER(PyThreadState_GetInterpreter) OTHER(PyInterpreterState_Main)
#endif
#endif
int main(void) {
  for (int i = 0; i < 3; ++i) printf("%d", domains[i].functions[0] != NULL);
  return chdir("/");
}
"""


@pytest.fixture
def stand_in(tmp_path):
    def build(version, free_threaded=False, incomplete=False, alike=False):
        program = tmp_path / "stand-in"
        defines = ['-DVERSION="%s"' % version, "-DFREE_THREADED=%d" % free_threaded] + ["-DINCOMPLETE"] * incomplete
        defines += ["-DINTERPRETERS_ALIKE"] * alike
        command = ["cc", "-rdynamic", *defines, "-x", "c", "-", "-o", program]
        subprocess.run(command, input=STAND_IN, text=True, check=True)
        return program

    return build


def test_a_free_threaded_build_gets_raw_alone(run, stand_in):
    program = stand_in("3.13.0 experimental free-threading build (main)", free_threaded=True)
    result = run([program], {"ACE_VERBOSE": "on"})
    assert (result.returncode, result.stdout) == (0, "100")
    assert "entered: raw; mem and obj cannot be taken over: a free-threaded build" in result.stderr
    assert result.host()["domains"] == "raw"


def test_a_free_threaded_build_without_raw_is_refused(run, stand_in):
    result = run([stand_in("3.13.0", free_threaded=True)], {"ACE_DOMAINS": "mem,obj"})
    assert (result.returncode, result.stdout) == (0, "000")
    assert "not entered: a free-threaded build" in result.stderr and "ACE_DOMAINS=raw" in result.stderr
    host = result.host()
    assert not host["active"] and host["reason"].startswith("a free-threaded build") and host["domains"] == ""


@pytest.mark.parametrize("version, many", [("3.13.5", False), ("3.15.2", False), ("3.16.0", True), ("3.20.1", True)])
def test_a_version_newer_than_what_was_tried_looks_for_its_interpreter(run, stand_in, version, many):
    result = run([stand_in(version)], {"ACE_VERBOSE": "on"})
    assert (result.returncode, result.stdout) == (0, "111")
    assert result.host()["many_gils"] == many
    assert ("newer than what was tried" in result.stderr) == many


@pytest.mark.parametrize("version, entered", [("3.11.9", "111"), ("3.12.0", "000"), ("3.14.0", "000")])
def test_a_build_that_hides_its_interpreters_is_refused(run, stand_in, version, entered):
    """From 3.12 on each may have a GIL of its own."""
    result = run([stand_in(version, alike=True)], {"PYTHONMALLOC": "ace"})
    assert (result.returncode, result.stdout) == (0, entered)
    assert ("does not export what tells interpreters apart" in result.stderr) == (entered == "000")


@pytest.mark.parametrize("version", ["2.7.18", "3.7.16", "4.0.0", ""])
def test_other_versions_are_refused(run, stand_in, version):
    result = run([stand_in(version)], {"PYTHONMALLOC": "ace"})
    assert (result.returncode, result.stdout) == (0, "000")
    assert "not entered: CPython 3.8 or later is needed" in result.stderr


def test_the_report_is_where_the_program_began(run, stand_in, tmp_path):
    assert run([stand_in("3.7.16")], {"ACE_REPORT": "here"}, cwd=tmp_path).returncode == 0
    assert "CPython 3.8 or later is needed" in (tmp_path / "here").read_text()


def test_a_build_that_hides_a_function_is_refused(run, stand_in):
    result = run([stand_in("3.12.0", incomplete=True)], {"PYTHONMALLOC": "ace"})
    assert (result.returncode, result.stdout) == (0, "000")
    assert "not entered: this build does not export Py_IsInitialized" in result.stderr


@pytest.mark.skipif(not OLD, reason="no CPython 3.6 or 3.7 on this machine")
@pytest.mark.parametrize("old", OLD)
@pytest.mark.parametrize("env", [{}, {"PYTHONMALLOC": "ace"}])
def test_an_old_python_runs_on_without_us(run, old, env):
    result = run([old, "-c", "print(sum(range(1000)))"], env)
    assert (result.returncode, result.stdout) == (0, "499500\n")
    assert result.host()["reason"] == "CPython 3.8 or later is needed"
    assert ("3.8 or later" in result.stderr) == bool(env)
