"""Programs of real interpreters that are recorded, and the command `ace`."""

import os
import subprocess
import sys
import textwrap

ACE = [sys.executable, "-m", "acealloc.cli"]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("ACE_", "LD_PRELOAD", "PYTHONM"))}
PROGRAMS = {
    "cpython": ("/usr/bin/python3", "-S", "-c", textwrap.dedent("""
        import gc, time
        kept = []
        for turn in range(3):
            items = [{"id": i, "name": "n" * (i % 90), "parts": [i, str(i)]} for i in range(20000)]
            kept += items[::500]
            items[1]["itself"] = items
            del items
            gc.collect()
            time.sleep(0.4)
        kept.append(bytes(3_000_000))
    """)),
    "luajit": ("luajit", "-e", textwrap.dedent("""
        local kept = {}
        for turn = 1, 4 do
          local items = {}
          for i = 1, 30000 do items[i] = {id = i, name = ("n"):rep(i % 90) .. turn, parts = {i, i}} end
          for i = 1, 30000, 500 do kept[#kept + 1] = items[i] end
          items = nil
          collectgarbage() collectgarbage()
          os.execute('sleep 0.2')
        end
    """)),
    "lua5.4": ("lua5.4", "-e", "for turn = 1, 3 do local t = {} for i = 1, 30000 do t[i] = {i, tostring(i)} end end"),
}  # fmt: skip


def ace(*arguments, folder=None):
    words = [*ACE, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=600, env=CLEAN, cwd=folder)
