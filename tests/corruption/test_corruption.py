"""Each mistake of mistakes.c in a process of its own, on a hardened heap and on a plain one."""

import signal

import pytest
from cases import cases, run
from conftest import PROGRAM

CASES = cases(PROGRAM) if PROGRAM.exists() else []


def test_there_is_a_list():
    assert PROGRAM.exists(), "build it: ninja -C build"
    assert len(CASES) >= 40
    assert len({case.name for case in CASES}) == len(CASES)


def check(case, wanted, hardened):
    end = run(PROGRAM, "ace", case.name, ACE_HARDENED=hardened)
    if wanted == "signal":
        assert end.status == -signal.SIGSEGV, end
    else:
        assert end.status == -signal.SIGABRT and wanted in end.said, end
        assert end.said.startswith("ace: "), end


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hardened(case):
    assert case.hardened, "a hardened heap notices all of the list"
    check(case, case.hardened, "on")


@pytest.mark.parametrize("case", [case for case in CASES if case.plain], ids=lambda case: case.name)
def test_plain(case):
    check(case, case.plain, "off")


@pytest.mark.parametrize("name", ["overflow-1", "double-free", "free-stack"])
def test_with_report_the_program_goes_on(name):
    """Unharmed: the call that was wrong has had no effect, so that nothing is handed out twice afterwards."""
    end = run(PROGRAM, "ace", name, ACE_HARDENED="on", ACE_BAD_POINTER="report")
    assert end.status == 0 and end.said.count("ace: ") == 1, end
