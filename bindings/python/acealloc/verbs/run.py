"""`ace run`: starts a stock program on ACE."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import tempfile
import time
from typing import Any, Dict, List, Optional

from .. import Option, decisions, option_set, options, preload, process_report, program, supervise
from ..console import print_error, warning
from ..errors import Failure
from ..render_report import run_report
from ..tables import require_ours, require_place

# Files that a second run adds to.
APPENDED = {"report": ("report of ACE", process_report.is_report), "log": ("decision log", decisions.is_log)}
USAGE = "ace run [--OPTION VALUE ...] [--malloc] [--report] [--] COMMAND ..."
LUAJIT_AT_A_LIMIT = "LuaJIT may crash where compiled code is refused memory: jit.off() avoids it (docs/lua.md)"


class OptionsOfTheTable(argparse.Action):
    """Takes a value for an option of the table, where the table's own parser accepts it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        value: Any,
        option_string: Optional[str] = None,
    ) -> None:
        try:
            option_set(self.dest, value)
        except ValueError as error:
            parser.error(str(error))
        namespace.settings[self.dest] = value


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "run",
        help="run a program on ACE",
        usage=USAGE,
        allow_abbrev=False,
        description="Runs COMMAND and the programs it starts on ACE: each CPython and Lua among them gets heaps of its "
        "own; every other program runs as always, or, with --malloc, on ACE as well. Signals and the exit status pass "
        "through.",
        epilog="The options' defaults and values are also listed by `ace options`.",
    )
    table = parser.add_argument_group("options of the table")
    for option in options():
        names = ["--" + option.name.replace("_", "-"), "--" + option.name]
        text = "%s; %s (default: %s)" % (option.description, option.values, option.default)
        if option.name == "report":
            names = ["--report-to"]  # --report itself is the screen
        table.add_argument(
            *dict.fromkeys(names), dest=option.name, metavar="VALUE", action=OptionsOfTheTable,
            default=argparse.SUPPRESS, help=text.replace("%", "%%"),
        )  # fmt: skip
    parser.add_argument("--report", dest="screen", action="store_true", help="show one screen of figures at exit")
    parser.add_argument("--malloc", action="store_true", help="replace malloc too, in every program (docs/malloc.md)")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="the program and its arguments")
    parser.set_defaults(main=main, settings={})


def main(arguments: argparse.Namespace) -> int:
    command = command_of(arguments, USAGE)
    settings = environment_of(arguments.settings)
    path = program.find(command[0])
    library = preload.library()
    malloc = preload.malloc_library(library) if arguments.malloc else None
    found = program.inspect(path)
    for name, meant in preload.misspelt(os.environ):
        print_error(warning("%s is no option's variable and has no effect: do you mean %s?" % (name, meant)))
    if os.path.isfile(settings.get("ACE_RECORD", "")):
        print_error(warning("%(file)s is there and is kept: this recording goes to %(file)s.PID"
                            % {"file": settings["ACE_RECORD"]}))  # fmt: skip
    if found.obstacle:
        print_error(warning("%s cannot be entered: %s. It runs without ACE." % (found.executable, found.obstacle)))
    limit = settings.get("ACE_LIMIT", os.environ.get("ACE_LIMIT", "0"))
    if found.luajit and not found.obstacle and limit.strip("0kmgKMG"):
        print_error(warning("at a limit %s" % LUAJIT_AT_A_LIMIT))
    if not arguments.screen:
        return start(path, command, surroundings(found, library, settings, malloc))
    with tempfile.TemporaryDirectory(prefix="ace-") as folder:
        if settings.get("ACE_REPORT", "none") == "none":
            settings["ACE_REPORT"] = os.path.join(folder, "report.jsonl")
        lines = settings["ACE_REPORT"]
        status = run_and_report(path, command, surroundings(found, library, settings, malloc), lines)
    return supervise.end_as(status)


def command_of(arguments: argparse.Namespace, usage: str) -> List[str]:
    """The program and its arguments. Failure where there are none."""
    command: List[str] = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise Failure("there is no command to %s. Usage: %s" % (arguments.verb, usage), 2)
    return command


def environment_of(chosen: Dict[str, str]) -> Dict[str, str]:
    """The options that were given, as the variables that carry them. Failure where a file cannot be written, or is
    somebody's; also where an option in our own environment, which reaches the program, has a wrong value."""
    settings = {}
    for option in options():
        if option.name not in chosen:
            require_value(option)
            continue
        value = chosen[option.name]
        *words, last = option.values.split("|")
        if last == "a file's path" and value not in words:
            try:
                # A playbook that may only be read is of use, too.
                if option.name != "playbook" or not os.path.isfile(value):
                    require_place(value)
                if option.name in APPENDED:
                    require_ours(value, *APPENDED[option.name])
            except Failure as failure:
                raise Failure(str(failure), 2) from None
            value = preload.option_path(value)
        settings[option.environment] = value
    return settings


def require_value(option: Option) -> None:
    """Failure where the environment has a wrong value of an option."""
    value = os.environ.get(option.environment)
    try:
        if value is not None:
            option_set(option.name, value)
    except ValueError as error:
        raise Failure("%s in the environment: %s" % (option.environment, error), 2) from None


def surroundings(
    found: program.Program, library: str, settings: Dict[str, str], malloc: Optional[str] = None
) -> Dict[str, str]:
    """The program's environment. Where its loader would stumble over the libraries, they are left out."""
    return preload.environment(library, settings, os.environ, malloc) if found.loadable else dict(os.environ)


def start(path: str, command: List[str], environment: Dict[str, str]) -> int:
    """Becomes the program. Returns only where that fails."""
    try:
        supervise.replace(path, command, environment)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise cannot_start(path, error) from None
    # A script without a shebang line: as a shell does.
    supervise.replace("/bin/sh", ["sh", path] + command[1:], environment)
    return 126


def run_and_report(path: str, command: List[str], environment: Dict[str, str], lines: str) -> int:
    """Runs the program as a child, shows the screen, and returns the child's wait status."""
    problem = why_not_shown(lines)
    offset = os.path.getsize(lines) if os.path.exists(lines) else 0
    begin = time.monotonic()
    status = run_child(path, command, environment)
    outcome = "%s, %.2f s" % (ending(status), time.monotonic() - begin)
    if problem:
        print_error(warning(problem + ": what was reported is not shown"))
    else:
        print_error(run_report(command, outcome, process_report.read(lines, offset)))
    return status


def why_not_shown(lines: str) -> Optional[str]:
    """Why what is reported there cannot be read back; None where it can."""
    if lines == "stderr":
        return "--report-to stderr"
    if os.path.exists(lines) and not os.path.isfile(lines):
        return "%s is no file" % lines
    return None


def run_child(path: str, command: List[str], environment: Dict[str, str]) -> int:
    """Runs the program as a child and returns its wait status."""
    try:
        return supervise.run(path, command, environment)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise cannot_start(path, error) from None
    return supervise.run("/bin/sh", ["sh", path] + command[1:], environment)


def ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        names = {known.value: known.name for known in signal.Signals}
        return "ended by %s" % names.get(number, "signal %d" % number)
    return "exit status %d" % os.WEXITSTATUS(status)


def cannot_start(path: str, error: OSError) -> Failure:
    if error.errno == errno.ENOENT:
        return Failure("'%s' needs an interpreter that is not there (see its first line)" % path, 127)
    return Failure("'%s' cannot be started: %s" % (path, error.strerror), 126)
