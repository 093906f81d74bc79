"""The build folder is that of the environment variable ACE_BUILD, else `build` in the repository."""

import os
import pathlib
import platform
import shutil

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("ACE_BUILD", REPOSITORY / "build"))
TABLE = pytest.StashKey()


def _obstacle():
    """Why instructions cannot be counted here, or None."""
    if platform.machine() != "x86_64":
        return "the budget is one of x86-64 instructions, and this is %s" % platform.machine()
    absent = [tool for tool in ("valgrind", "objdump", "nm") if shutil.which(tool) is None]
    return "absent here: %s" % ", ".join(absent) if absent else None


def pytest_collection_modifyitems(items):
    reason = _obstacle()
    for item in items if reason else []:
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def table(pytestconfig):
    """Lines for the end of the run: the numbers are wanted where all is well too."""
    return pytestconfig.stash.setdefault(TABLE, [])


def pytest_terminal_summary(terminalreporter, config):
    if reason := _obstacle():
        terminalreporter.write_line("no instructions were counted: %s" % reason)
    for line in config.stash.get(TABLE, []):
        terminalreporter.write_line(line)
