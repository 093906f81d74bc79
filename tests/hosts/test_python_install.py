"""A stock interpreter that is put on ACE while it runs (acealloc.install, in vm.py)."""

import json
import pathlib
import subprocess

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
VM = "import sys; sys.path.append(%r); import vm\n" % str(REPOSITORY / "bindings" / "python" / "acealloc")


@pytest.fixture
def started_without(run, python, preload):
    """started_without(code, *flags, **env): runs it on the stock interpreter, with LIBRARY and the module `vm`."""

    def run_code(code, *flags, **env):
        return run([python.path, *flags, "-c", VM + "LIBRARY = %r\n" % preload + code], env, stock=True)

    return run_code


WORK = """
import gc, json, os, subprocess, threading, tracemalloc
class Node:
    def __init__(self, n): self.n, self.next = n, self
before = [Node(n) for n in range(20000)] + [{'a': [n], 'b': str(n)} for n in range(50000)]
texts = ['x' * n for n in range(2000)]
waiting = threading.Event()
thread = threading.Thread(target=lambda: [waiting.wait(0.001) for _ in range(50)]); thread.start()
vm.install(LIBRARY)
vm.install(LIBRARY)
assert vm.active()
after = [Node(n) for n in range(20000)] + [{'a': [n], 'b': str(n)} for n in range(50000)]
texts = [(text * 2)[:-1] for text in texts]
for record in before[20000:]: record['a'] += range(20)        # buffers of before grow
del before; gc.collect()
tracemalloc.start(); kept = [[n] for n in range(1000)]; tracemalloc.stop(); del kept
thread.join()
threads = [threading.Thread(target=lambda: [[n] for n in range(20000)]) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert subprocess.run([sys.executable, '-c', 'print(1)'], capture_output=True).stdout == b'1\\n'
child = os.fork()
if child == 0: os._exit(sum(len(node.__dict__) for node in after[:20000]) != 40000)
assert os.waitpid(child, 0)[1] == 0
limited = 0
try:
    with vm.memory_limit(extra=8 << 20): kept = [[n] for n in range(1000000)]
except MemoryError: limited = 1
stats = vm.stats()['python']
print(json.dumps([limited, stats['collections_full'], stats['foreign_pointers'], vm.census()[dict].count]))
"""


@pytest.mark.parametrize("domains", ["raw,mem,obj", "mem,obj", "obj"])
def test_a_running_interpreter_goes_over(started_without, tmp_path, domains):
    report = tmp_path / "report.jsonl"
    result = started_without(WORK, ACE_DOMAINS=domains, ACE_REPORT=str(report))
    # 3.14 may collect at the limit, and has no memory then to tell its callbacks, ours among them.
    said = [line for line in result.stderr.splitlines() if not line.startswith("Exception ignored ")]
    assert result.returncode == 0 and said == [], result
    limited, collections, foreign, dicts = json.loads(result.stdout)
    assert limited == 1
    assert collections >= 1, "its collector is heard"
    assert foreign > 100000, "what was there before goes home"
    assert dicts >= 49900, "all but those that the free list still had"
    host, *heaps = map(json.loads, report.read_text().splitlines())
    assert host["active"] and host["reason"] == "" and host["domains"] == domains and host["collector"]
    assert all(heap["audit"] == "ok" for heap in heaps)


LATER = r"""
#include <dlfcn.h>
int main(int argc, char **argv) {
  void *library = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
  if (library == 0) return 1;
  ((void (*)(void))dlsym(library, "Py_Initialize"))();
  int status = ((int (*)(const char *))dlsym(library, "PyRun_SimpleString"))(argv[2]);
  return status != 0 || ((int (*)(void))dlsym(library, "Py_FinalizeEx"))() != 0;
}
"""


@pytest.mark.parametrize("preloaded", [False, True])
def test_an_interpreter_that_its_program_loads_later(run, python, preload, preloaded, tmp_path):
    """A library that was there before does not see it."""
    prefix = pathlib.Path(python.path).resolve().parents[1]
    library = prefix / "lib" / ("libpython%d.%d.so.1.0" % python.version[:2])
    if not library.exists():
        pytest.skip("%s has no shared library" % python.name)
    (tmp_path / "host.c").write_text(LATER)
    subprocess.run(["cc", "-o", tmp_path / "host", tmp_path / "host.c", "-ldl"], check=True)
    code = VM + """
try: vm.install(%r)
except vm.CannotInstall as reason: print('loaded after' in str(reason))
print(vm.active())
""" % preload
    env = {"PYTHONHOME": str(prefix), **({"LD_PRELOAD": preload} if preloaded else {})}
    result = run([tmp_path / "host", library, code], env, stock=True)
    assert (result.returncode, result.stdout) == (0, "True\nFalse\n" if preloaded else "True\n"), result


TRY = """
try: vm.install(LIBRARY)
except vm.CannotInstall as error: print(error)
print(vm.active())
"""
IN_THE_WAY = {
    "tracemalloc": ("import tracemalloc; tracemalloc.start()" + TRY, (), {}),
    "-X dev": (TRY, ("-X", "dev", "-W", "ignore"), {}),
    "debug hooks": (TRY, (), {"PYTHONMALLOC": "debug"}),
    "ACE's debug hooks": (TRY, (), {"ACE_DEBUG_HOOKS": "on"}),
}


@pytest.mark.parametrize("what", list(IN_THE_WAY))
def test_not_where_something_stands_in_the_way(started_without, what):
    code, flags, env = IN_THE_WAY[what]
    result = started_without(code, *flags, **env)
    assert result.returncode == 0, result
    refusal, active = result.stdout.splitlines()
    assert "start the program with ACE" in refusal and active == "False"


def test_not_beside_subinterpreters(started_without, python):
    module = "_interpreters" if python.version >= (3, 13) else "_xxsubinterpreters"
    result = started_without("import %s as i; x = i.create()" % module + TRY)
    assert result.returncode == 0, result
    assert "several interpreters" in result.stdout.splitlines()[0]


def test_loading_the_library_alone_changes_nothing(started_without):
    result = started_without("""
import ctypes; ctypes.CDLL(LIBRARY)
kept = [[n] for n in range(100000)]
print(vm.active())
vm.install(LIBRARY); print(vm.active())
""")
    assert result.returncode == 0 and result.stdout == "False\nTrue\n", result


def test_malloc_instead_of_pymalloc_is_no_hindrance(started_without):
    result = started_without("kept = [[n] for n in range(1000)]" + TRY + "del kept", PYTHONMALLOC="malloc")
    assert result.returncode == 0 and result.stdout == "True\n", result


def test_an_interpreter_that_ends_is_refused(started_without):
    code = """
import os
class Late:
    def __del__(self, install=vm.install, refusal=vm.CannotInstall, write=os.write):
        try: install(LIBRARY)
        except refusal as reason: write(1, str(reason).encode())
late = sys.modules['late'] = Late()
late.itself = late
"""
    result = started_without(code)
    assert (result.returncode, result.stderr) == (0, "") and result.stdout.endswith("it is ending"), result
