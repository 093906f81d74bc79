"""The installed package inside an interpreter on ACE: phases, limits and the census, as README.md shows them."""

import json
import os
import subprocess
import sys

import acealloc
import pytest

ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "PYTHONMALLOC")}


def on_ace(code):
    command = [sys.executable, "-m", "acealloc.cli", "run", "--", sys.executable, "-c", "import acealloc\n" + code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=ENVIRONMENT)
    assert done.returncode == 0, done
    return done.stdout


def test_what_the_readme_shows():
    said = on_ace(
        """
import json
class Record:
    __slots__ = ('a',)
kept = [Record() for _ in range(20000)]
hit = False
try:
    with acealloc.memory_limit(extra=8 << 20): [[n] for n in range(10**6)]
except MemoryError: hit = True
with acealloc.phase('request'), acealloc.idle(): pass
census = acealloc.census()
print(json.dumps([acealloc.active(), hit, census[Record].count, census[Record].domain, len(acealloc.pinned()) > 0,
                  'Record' in str(census), census.steps >= 1, sorted(acealloc.stats())]))
"""
    )
    assert json.loads(said) == [True, True, 20000, "obj", True, True, True, ["python", "python raw"]]


def test_a_running_interpreter_goes_over():
    code = """
import acealloc
try: acealloc.stats()
except acealloc.NotActive as error: print("install()" in str(error))
acealloc.install()
kept = [[n] for n in range(50000)]
print(acealloc.active(), acealloc.stats()["python"]["live_bytes"] > 4000000, acealloc.census()[list].count >= 49900)  # but for the free list
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=ENVIRONMENT)
    assert done.returncode == 0 and done.stderr == "", done
    assert done.stdout == "True\nTrue True True\n"


def test_a_census_has_no_row_for_what_is_not_there():
    assert on_ace(
        """
class Absent: pass
try: acealloc.census()[Absent]
except KeyError: print('none')
"""
    ) == "none\n"  # fmt: skip


def test_an_interpreter_that_is_not_on_ace_is_told_so():
    assert not acealloc.active()
    with acealloc.phase("request"), acealloc.idle():
        pass
    for call in (acealloc.census, acealloc.pinned, acealloc.stats, acealloc.trim):
        with pytest.raises(acealloc.NotActive, match="ace run -- python3"):
            call()


def test_options_are_texts():
    for call in (lambda: acealloc.option_get(None), lambda: acealloc.option_set(None, "off"),
                 lambda: acealloc.option_set("mode", None)):  # fmt: skip
        with pytest.raises(TypeError):
            call()


def test_a_limit_takes_one_of_two():
    for wrong in ({}, {"limit": 1, "extra": 1}):
        with pytest.raises(TypeError, match="either limit or extra"):
            with acealloc.memory_limit(**wrong):
                pass
