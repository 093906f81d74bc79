"""Replays a recorded run on ACE under any options and on other allocators, and measures each.

    result = acealloc.replay("run.ace", ["own", "mimalloc", acealloc.Policy("static", mode="static")])
    print(result.frame())
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from .allocators import Policy, Target, target_of
from .errors import Failure
from .measured import Replay, Run
from .tables import AnyPath
from .trace import Trace

Progress = Callable[[float, str], None]
# What may steer an allocator from the environment: each is measured as it comes.
SETTINGS = ("ACE_", "PYTHON", "LD_PRELOAD", "MALLOC_", "MIMALLOC_", "TCMALLOC_", "GLIBC_TUNABLES")


class Interrupted(KeyboardInterrupt):
    """An interrupt during a replay. `result`: the Replay with the runs that were done by then."""

    def __init__(self, result: Replay) -> None:
        super().__init__()
        self.result = result


def replay(
    trace: Union[AnyPath, Trace],
    allocators: Sequence[Union[str, Policy]] = ("own", "ace"),
    *,
    rounds: int = 1,
    detail: bool = True,
    fast: bool = False,
    core: Optional[int] = None,
    keep: Optional[AnyPath] = None,
    progress: Optional[Progress] = None,
) -> Replay:
    """Replays `trace` on each allocator, in processes of their own, one after the other.

    allocators: names (`own`, what the VM has by itself; `ace`; `glibc`, `mimalloc`, `jemalloc`, `tcmalloc`, and these
    with "-hinted": told to give memory back when ACE would be; `none`, what the replay itself takes; NAME=PATH of a
    library with a malloc) or policies. rounds: runs of each, interleaved (A B B A). detail: one run more of each, with
    the latency of each call and the pages before and after a collection. fast: does not wait where the program did;
    ACE's clock is then that of the trace, its worker does its work between steps, and blocks are put into the same
    places in every replay. core: which processor. keep: a folder for results, where those that are there already (of
    the same trace, allocator and way) are not run again. progress: called with a share from 0 to 1 and what is done
    now.

    All events are replayed by one thread, in the order of their times. Failure where an allocator is not to be had. A
    KeyboardInterrupt holds what was done by then (`result`).
    """
    require_core(core)
    if rounds < 1 or not allocators:
        raise Failure("a replay needs an allocator, and a round or more")
    recorded = trace if isinstance(trace, Trace) else Trace(trace)
    recorded.require_events()
    targets = [target_of(one, recorded) for one in allocators]
    names = [target.name for target in targets]
    if len(set(names)) != len(names):
        raise Failure("two allocators are called the same: %s" % ", ".join(names))
    plan_of_runs = list(_turns(targets, rounds, detail))
    store = _Store(keep, recorded, {"fast": fast, "core": core})
    runs: List[Run] = []
    try:
        with tempfile.TemporaryDirectory(prefix="ace-replay-") as folder:
            plan = os.path.join(folder, "plan")
            waiting = [turn for turn in plan_of_runs if not store.has(*turn[:2])]
            if waiting:
                _execute([_replayer(), "plan", recorded.plain_path, plan], {}, None)
            for done, (target, number) in enumerate(plan_of_runs):

                def tell(share: float, done: int = done, target: Target = target) -> None:
                    if progress is not None:
                        progress((done + share) / len(plan_of_runs), target.name)

                tell(0)
                if not store.has(target, number):
                    result = os.path.join(folder, "result.json")
                    extra = ["latency", "pages"] if number == 0 else ["placement"] if fast and number == 1 else []
                    words = ["run", plan, result, *target.words, *(["fast"] if fast else []), *extra, "progress"]
                    log = os.path.join(folder, "log")
                    _start(target, words, {"ACE_LOG": log} if number == 0 else {}, core, tell)
                    store.put(target, number, result, log)
                runs.append(Run.read(target.name, number, store.get(target, number)))
    except KeyboardInterrupt:
        raise Interrupted(Replay(recorded, names, runs)) from None
    if progress is not None:
        progress(1, "")
    return Replay(recorded, names, runs)


def require_core(core: Optional[int]) -> None:
    """Failure where there is no such processor."""
    count = os.cpu_count() or 1
    if core is not None and not 0 <= core < count:
        raise Failure("there is no processor %d; the first is 0, the last %d" % (core, count - 1))


def _turns(targets: Sequence[Target], rounds: int, detail: bool) -> Iterator[Tuple[Target, int]]:
    """(allocator, round) in the order of running; round 0 is that of detail."""
    for number in range(1, rounds + 1):
        for target in targets if number % 2 else reversed(targets):
            yield target, number
    if detail:
        for target in targets:
            yield target, 0


class _Store:
    """What was measured already: a file for each run, in a folder that may be kept."""

    def __init__(self, keep: Optional[AnyPath], trace: Trace, how: Mapping[str, Any]) -> None:
        self._how = how
        self._temporary = tempfile.TemporaryDirectory(prefix="ace-replay-") if keep is None else None
        self.folder = Path(self._temporary.name if keep is None else keep)  # type: ignore[union-attr]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.trace = {"bytes": trace.totals["bytes"], "events": trace.totals["events"], **trace.header}

    def _path(self, target: Target, number: int) -> Path:
        return self.folder / ("%s.%d.json" % (re.sub("[^A-Za-z0-9._+=,-]", "_", target.name), number))

    def _conditions(self, target: Target) -> Dict[str, Any]:
        """Under which it is measured, beside the trace: as JSON has it."""
        parts = {"replayer": target.replayer or _replayer(), "python": target.python, "preload": target.preload}
        files = {}
        for path in [*parts.values(), *target.words]:
            if os.path.isfile(path):
                found = os.stat(path)
                files[path] = [found.st_size, found.st_mtime_ns]
        return {**self._how, **parts, "files": files, "words": list(target.words),
                "environment": dict(target.environment)}  # fmt: skip

    def has(self, target: Target, number: int) -> bool:
        path = self._path(target, number)
        if not path.exists():
            return False
        try:
            found = json.loads(path.read_text())
            Run.read(target.name, number, found)
            trace, conditions = found["trace"], found["conditions"]
        except (ValueError, KeyError, TypeError):  # damaged: it is run again
            return False
        if trace != json.loads(json.dumps(self.trace)):
            raise Failure("%s is of another trace: name another folder" % path)
        return bool(conditions == self._conditions(target))

    def put(self, target: Target, number: int, result: str, log: str) -> None:
        data = json.loads(Path(result).read_text())
        if os.path.exists(log):
            data["log"] = Path(log).read_text()
            os.unlink(log)
        data.update(trace=self.trace, conditions=self._conditions(target))
        path = self._path(target, number)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(data))
        new.rename(path)

    def get(self, target: Target, number: int) -> Dict[str, Any]:
        data: Dict[str, Any] = json.loads(self._path(target, number).read_text())
        return data


# ---- the replayer's process


def _replayer() -> str:
    return str(Path(__file__).parent / "ace-replay")


def _start(
    target: Target,
    words: List[str],
    more: Mapping[str, str],
    core: Optional[int],
    tell: Callable[[float], None],
) -> None:
    command = [target.replayer or _replayer(), *words]
    if target.python:
        # pymalloc is in the interpreter: there the replayer is a library.
        code = (
            "import ctypes, os, sys; a = [os.fsencode(x) for x in sys.argv]; "
            "sys.exit(ctypes.PyDLL(sys.argv[0]).ace_replay_main(len(a), (ctypes.c_char_p * len(a))(*a)))"
        )
        library = str(Path(__file__).parent / "libace-replay.so")
        command = [target.python, "-I", "-S", "-c", "import sys; del sys.argv[0]; " + code, library, *words]
    preload = {"LD_PRELOAD": target.preload} if target.preload else {}
    _execute(command, {**more, **target.environment, **preload}, core, tell)


def _execute(
    command: List[str],
    environment: Mapping[str, str],
    core: Optional[int],
    tell: Optional[Callable[[float], None]] = None,
) -> None:
    """Runs the replayer; Failure with what it said where it fails."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    # What it says goes to a file: in a pipe there is only so much room while its progress is read.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(
            command, env={**clean, **environment}, stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace"
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if tell is not None and line.startswith("progress "):
                    tell(int(line.split()[1]) / 100)
            process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        errors.seek(0)
        said = errors.read().strip()
    if process.returncode != 0:
        last = said[-1000:] or "it said nothing"
        raise Failure("the replay ended with status %d: %s" % (process.returncode, last))
    if "cannot be preloaded" in said:  # the loader goes on without it
        raise Failure(said)
