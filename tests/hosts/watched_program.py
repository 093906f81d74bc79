"""Programs on ACE that are watched, and that tell what they count themselves."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys

import pytest
from conftest import PRELOAD

needs_package = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import acealloc"], capture_output=True).returncode != 0,
    reason="the package acealloc is not installed here",
)
SYSTEM = "/usr/bin/python3"
ACE = [sys.executable, "-m", "acealloc.cli"]
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("ACE_", "PYTHON", "LD_", "LUA_"))}
CLEAN["ACE_PRELOAD"] = str(PRELOAD)

# Each tells its statistics and waits for a line, again and again.
PYTHON = """
import gc, json, sys, _ace
kept = [{'n': n, 'text': str(n)} for n in range(30000)] + [bytes(1000) for _ in range(3000)]
dropped = [[n] for n in range(30000)]
del dropped
gc.collect()
json.dumps(_ace.stats())
for line in iter(lambda: (print(json.dumps(_ace.stats()), flush=True), sys.stdin.readline())[1], ''): exec(line)
"""
LUA = """
local ace = require "ace"
kept = {} for i = 1, 30000 do kept[i] = {i, "text " .. i} end
for i = 1, 30000 do local dropped = {i} end
collectgarbage() collectgarbage()
repeat
  local words = {}
  for name, value in pairs(ace.stats()) do
    if type(value) == "number" then words[#words + 1] = ('"%s": %.0f'):format(name, value) end
  end
  io.write("{", table.concat(words, ", "), "}\\n") io.flush()
until not io.read()
"""


def ace(*arguments, status=0, **more):
    done = subprocess.run([*ACE, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=CLEAN, **more)
    assert done.returncode == status, done
    return done.stdout if status == 0 else done.stderr


class Program:
    """A program on ACE that can be watched, and that tells its own statistics."""

    def __init__(self, process):
        self.process, self.pid = process, process.pid
        self.own = json.loads(process.stdout.readline())

    def tell(self, line=""):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        self.own = json.loads(self.process.stdout.readline())
        return self.own

    def pages(self):
        return pages_of(self.pid)

    def stats(self):
        return json.loads(ace("stats", self.pid, "--json"))


def pages_of(pid):
    return [page for page in pathlib.Path("/dev/shm").glob("ace-stats.*") if page.name.split(".")[2] == str(pid)]


@contextlib.contextmanager
def running(interpreter, code, folder, *options):
    script = folder / "program"
    script.write_text(code)
    # Without the worker a program that rests is at rest.
    command = [*ACE, "run", "--stats-page", "on", "--worker", "off", *options, "--", interpreter, str(script)]
    process = subprocess.Popen(command, env=CLEAN, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Program(process)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
        for page in pages_of(process.pid):
            page.unlink()
