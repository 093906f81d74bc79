"""Programs of every kind on ACE: they must run to their end, with no pointer astray and every heap sound."""

import json
import signal
import subprocess

import pytest

WORK = """
def work(n=20000):
    kept = []
    for i in range(n):
        kept.append({'a': i, 'b': [str(i)] * 3, 'c': (i, float(i))})
        if i % 1000 == 999:
            del kept[::2]
    return len(kept)
"""


def script(tmp_path, text, name="program.py"):
    path = tmp_path / name
    path.write_text(WORK + text)
    return str(path)


def test_threads(run, python, tmp_path):
    """Blocks made by one thread and freed by another, with threads that come and go."""
    program = script(
        tmp_path,
        """
import queue, threading
q = queue.Queue(100)
def produce():
    for i in range(200): q.put([{'i': i, 'j': str(j)} for j in range(100)])
    q.put(None)
def consume():
    while q.get() is not None: work(50)
threads = [threading.Thread(target=f) for f in (produce, consume) * 3]
[t.start() for t in threads]; [t.join() for t in threads]
for _ in range(200):
    t = threading.Thread(target=work, args=(20,)); t.start(); t.join()
print('done')
""",
    )
    assert run([python.path, program]).check_sound().stdout == "done\n"


def test_daemon_threads_at_exit(run, python, tmp_path):
    program = script(
        tmp_path,
        """
import threading, time
def forever():
    while True: work(100); time.sleep(0.0001)
for _ in range(4): threading.Thread(target=forever, daemon=True).start()
work(); print('done')
""",
    )
    assert run([python.path, program]).check_sound().stdout == "done\n"


def test_fork(run, python, tmp_path):
    """Forks while other threads allocate; each child allocates, frees its parent's blocks and ends normally."""
    program = script(
        tmp_path,
        """
import os, sys, threading, warnings
warnings.simplefilter('ignore')
stop = []
def background():
    while not stop: work(100)
threads = [threading.Thread(target=background) for _ in range(2)]
[t.start() for t in threads]
kept = [{'i': i} for i in range(10000)]
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        del kept[::2]; work(1000); sys.stdout.flush(); sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
stop.append(1); [t.join() for t in threads]
print('done')
""",
    )
    result = run([python.path, program])
    if python.version[:2] == (3, 8):
        # CPython 3.8 makes one raw block by libc and frees it by the domain in a child that ends by sys.exit:
        # it comes to us and is passed on.
        for host in result.hosts:
            assert host["foreign"] <= 1
            host["foreign"] = 0
    assert result.check_sound().stdout == "done\n"
    assert len(result.hosts) == 11


def test_processes_that_run_no_destructors_have_their_reports(run, python, tmp_path):
    """multiprocessing ends its processes by os._exit."""
    program = script(
        tmp_path,
        """
import multiprocessing, os, subprocess, sys
multiprocessing.set_start_method('fork')
with multiprocessing.Pool(2) as pool: pool.map(work, [2000] * 4, chunksize=1); pool.close(); pool.join()
for user in (None, os.getuid()):  # by vfork, where CPython has it, and by fork
    try: subprocess.run(['/absent/program'], **({} if user is None or sys.version_info < (3, 9) else {'user': user}))
    except FileNotFoundError: pass
print(os.getpid(), flush=True)
os._exit(3)
""",
    )
    result = run([python.path, program])
    assert (result.returncode, result.stderr) == (3, "")
    assert len(result.hosts) == 3, "not the child that could not become a program"
    assert result.hosts[-1]["pid"] == int(result.stdout)
    assert all(host["active"] and host["foreign"] == 0 for host in result.hosts), result.hosts
    assert all(heap["audit"] == "ok" for heap in result.heaps), result.heaps


def test_a_report_in_the_middle(run, python, preload, tmp_path):
    """By a program that holds the GIL: nobody is inside the heap, which can be audited."""
    code = "import ctypes, sys; ctypes.PyDLL(sys.argv[1]).ace_report_now(None)"
    result = run([python.path, "-c", code, preload]).check_sound()
    (now,) = tmp_path.glob("report-*.now")
    lines = [json.loads(line) for line in now.read_text().splitlines()]
    assert [line["audit"] for line in lines[1:]] == ["ok", "ok"] and len(result.hosts) == 1


def test_a_child_without_a_heap_for_its_objects_has_its_report(run, python):
    code = "import os; os.fork() or os._exit(0); os.wait()"
    assert len(run([python.path, "-W", "ignore", "-c", code], {"ACE_DOMAINS": "raw"}).check_sound().hosts) == 2


def test_who_ends_from_c_code_goes_at_once(run, python, tmp_path):
    """As a signal's handler does, in the midst of anything."""
    library = tmp_path / "ends.so"
    source = "#include <unistd.h>\nvoid end(void) { _exit(4); }"
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", library], input=source, text=True, check=True)
    result = run([python.path, "-c", "import ctypes, sys; ctypes.PyDLL(sys.argv[1]).end()", library])
    assert (result.returncode, result.hosts) == (4, [])


def test_a_program_that_is_interrupted_has_its_report(run, python):
    """CPython cleans up and then ends itself by the signal, without any exit handler of C."""
    code = "import os, signal; kept = [[n] for n in range(10000)]; os.kill(os.getpid(), signal.SIGINT)"
    result = run([python.path, "-c", code])
    assert result.returncode == -signal.SIGINT and "KeyboardInterrupt" in result.stderr
    assert result.host()["active"] and result.host()["foreign"] == 0
    assert result.heap("python")["audit"] == "ok"


def test_an_interrupt_that_is_blocked_leaves_one_report(run, python):
    code = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]); raise KeyboardInterrupt"
    result = run([python.path, "-c", code])
    assert result.returncode == 128 + signal.SIGINT and result.host()["active"]


def test_a_fork_finds_no_other_thread(run, python, tmp_path):
    """Memory that goes back later is the worker's; CPython 3.12 and later warn of it, were it there at a fork."""
    program = script(
        tmp_path,
        """
import gc, os, sys, warnings
warnings.simplefilter('error')
def threads():
    return len(os.listdir('/proc/self/task'))
seen = 0
for i in range(20):
    records = [{'i': j} for j in range(50000)]; del records; gc.collect()
    seen = max(seen, threads())
    pid = os.fork()
    if pid == 0:
        work(2000); gc.collect(); os._exit(0)
    assert threads() == 1, threads()
    assert os.waitpid(pid, 0)[1] == 0
print(seen)
""",
    )
    result = run([python.path, program], {"ACE_IDLE_DELAY": "1s"}).check_sound()
    assert (result.stdout, result.stderr) == ("2\n", "")


def test_a_child_forked_by_a_thread_ends_with_it(run, python, tmp_path):
    """It has no main thread that would end the process: a worker would keep it for ever."""
    program = script(
        tmp_path,
        """
import gc, os, threading
def fork():
    pid = os.fork()
    if pid == 0:
        records = [{'i': j} for j in range(50000)]; del records; gc.collect()
        grandchild = os.fork()
        records = [{'i': j} for j in range(50000)]; del records; gc.collect()
        if grandchild != 0:
            os.waitpid(grandchild, 0)
    else:
        print(os.waitpid(pid, 0)[1])
records = [{'i': j} for j in range(50000)]; del records; gc.collect()
thread = threading.Thread(target=fork)
thread.start()
thread.join()
""",
    )
    result = run([python.path, "-W", "ignore", program], timeout=60)
    assert result.stdout == "0\n"


@pytest.mark.parametrize("interpreters", [1, 2])
def test_a_fork_without_the_gil(run, python, tmp_path, interpreters):
    """From C code: another thread is inside the heap, which must be left alone. After a second interpreter CPython's own
    question, PyGILState_Check, is answered with yes by every thread."""
    source, library = tmp_path / "forks.c", tmp_path / "forks.so"
    source.write_text("""
#include <sys/wait.h>
#include <unistd.h>
void forks(int count) {
  for (int i = 0; i < count; ++i) {
    pid_t child = fork();
    if (child == 0) _exit(0);
    waitpid(child, 0, 0);
  }
}
""")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    program = script(
        tmp_path,
        """
import ctypes, random, sys, threading
if sys.argv[1] == '2':
    try: import _interpreters as interpreters
    except ImportError: import _xxsubinterpreters as interpreters
    interpreters.destroy(interpreters.create())
forking = threading.Thread(target=ctypes.CDLL(sys.argv[2]).forks, args=(100,))  # it is called without the GIL
forking.start()
while forking.is_alive():
    records = [(i, str(i), [i] * random.randrange(40)) for i in range(30000)]
    random.shuffle(records)
    kept = records[:1000]; del records
print('done')
""",
    )
    assert run([python.path, program, str(interpreters), str(library)]).check_sound().stdout == "done\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(run, python, tmp_path, method):
    program = script(
        tmp_path,
        """
import multiprocessing, sys
if __name__ == '__main__':
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(3) as pool:
        print(len(set(pool.map(work, [3000] * 12))))
        pool.close(); pool.join()
""",
    )
    result = run([python.path, program, method]).check_sound()
    assert (result.stdout, result.stderr) == ("1\n", "")


@pytest.mark.parametrize("domains", ["raw,mem,obj", "mem,obj"])
@pytest.mark.parametrize("kinds", ["off", "on"])
def test_subinterpreters(run, python, tmp_path, domains, kinds):
    """From 3.12 on these have a GIL of their own: each has a heap of its own from the first one on."""
    program = script(
        tmp_path,
        """
import sys, threading
if sys.version_info >= (3, 13): import _interpreters as interpreters
else: import _xxsubinterpreters as interpreters
def isolated():
    return interpreters.create(*['isolated'] if sys.version_info >= (3, 13) else [])
code = open(__file__).read().split('import sys')[0]
code += 'import json, gc; json.loads(json.dumps(list(range(1000)))); work(); gc.collect()'
def use():
    i = isolated()
    failure = interpreters.run_string(i, code)
    assert failure is None, failure
    interpreters.destroy(i)
threads = [threading.Thread(target=use) for _ in range(4)]
[t.start() for t in threads]; work(); [t.join() for t in threads]
use()
print('done')
""",
    )
    result = run([python.path, "-W", "ignore", program], {"ACE_DOMAINS": domains, "ACE_KINDS": kinds}).check_sound()
    assert (result.stdout, result.stderr) == ("done\n", "")
    many = python.version >= (3, 12)
    assert result.host()["many_gils"] == many
    others = [heap for heap in result.heaps if heap["name"] == "python interpreter"]
    assert bool(others) == many and len(others) <= 4, "those of ended interpreters serve the next"
    assert all(heap["refills"] > 100 for heap in others[:1])


def test_extension_modules(run, python, tmp_path):
    program = script(
        tmp_path,
        """
import array, bz2, ctypes, datetime, decimal, hashlib, json, lzma, pickle, re, socket, sqlite3, ssl, struct, zlib
import xml.etree.ElementTree as tree
rows = [{'i': i, 's': str(i) * 3} for i in range(5000)]
assert pickle.loads(pickle.dumps(rows)) == json.loads(json.dumps(rows)) == rows
base = sqlite3.connect(':memory:')
base.execute('create table t (i integer, s text)')
base.executemany('insert into t values (:i, :s)', rows)
assert base.execute('select count(*) from t').fetchone() == (5000,)
data = json.dumps(rows).encode()
for codec in (zlib, bz2, lzma): assert codec.decompress(codec.compress(data)) == data
assert len(tree.fromstring('<a>' + '<b/>' * 1000 + '</a>')) == 1000
pointer = ctypes.POINTER(ctypes.c_int)
compare = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer)(lambda a, b: a[0] - b[0])
numbers = (ctypes.c_int * 1000)(*range(1000, 0, -1))
ctypes.CDLL(None).qsort(numbers, 1000, 4, compare)
assert list(numbers) == list(range(1, 1001))
assert sum(map(decimal.Decimal, range(100))) == 4950 and hashlib.sha256(data).digest() and array.array('d', range(1000))
print('done')
""",
    )
    assert run([python.path, program]).check_sound().stdout == "done\n"


def test_virtual_environment(run, python, tmp_path):
    subprocess.run([python.path, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    code = "import sys; print(sys.prefix != sys.base_prefix)"
    result = run([tmp_path / "venv" / "bin" / "python", "-c", code]).check_sound()
    assert result.stdout == "True\n"


def test_requests_that_cannot_be_met(run, python, tmp_path):
    """A MemoryError each, and the program goes on."""
    program = script(
        tmp_path,
        """
import sys
def refused(f):
    try: f()
    except (MemoryError, OverflowError): return True
assert refused(lambda: bytearray(sys.maxsize))
assert refused(lambda: bytearray(sys.maxsize - 1))
assert refused(lambda: bytes(sys.maxsize - 40))
assert refused(lambda: [None] * (sys.maxsize // 8))
assert refused(lambda: 'x' * (sys.maxsize - 100))
assert refused(lambda: bytearray(10) * (sys.maxsize // 10))
big = bytearray(1)
assert refused(lambda: big.__imul__(sys.maxsize))
work(); print('done')
""",
    )
    assert run([python.path, program]).check_sound().stdout == "done\n"


def test_requests_by_the_c_interface(run, python, tmp_path):
    """CPython promises: size 0 gives a block of its own, and resizing to 0 does not free."""
    program = script(
        tmp_path,
        """
import ctypes, sys
api, size, pointer = ctypes.pythonapi, ctypes.c_size_t, ctypes.c_void_p
for domain in ('PyMem_Raw', 'PyMem_', 'PyObject_'):
    f = {}
    for name, result, arguments in (('Malloc', pointer, [size]), ('Calloc', pointer, [size, size]),
                                    ('Realloc', pointer, [pointer, size]), ('Free', None, [pointer])):
        f[name] = getattr(api, domain + name); f[name].restype = result; f[name].argtypes = arguments
    a, b, c = f['Malloc'](0), f['Malloc'](0), f['Calloc'](0, 0)
    assert a and b and c and len({a, b, c}) == 3
    a = f['Realloc'](a, 0); assert a
    old = 0
    for n in (1, 16, 511, 512, 513, 1024, 5000, 100000, 5000000, 3000, 40, 1):
        a = f['Realloc'](a, n); assert a and a % 16 == 0
        assert old == 0 or ctypes.string_at(a, min(old, n)) == b'x' * min(old, n)
        ctypes.memset(a, ord('x'), n); old = n
    zeros = f['Calloc'](1000, 40); assert ctypes.string_at(zeros, 40000) == bytes(40000)
    assert not f['Malloc'](sys.maxsize) and not f['Calloc'](sys.maxsize, 2) and not f['Realloc'](b, sys.maxsize)
    for p in (a, b, c, zeros, None): f['Free'](p)
work(); print('done')
""",
    )
    assert run([python.path, program]).check_sound().stdout == "done\n"


def test_exit_from_c_while_threads_run(run, python, tmp_path):
    """The report must not walk a heap that a thread with the GIL may be changing."""
    program = script(
        tmp_path,
        """
import ctypes, threading
def forever():
    while True: work(1000)
for _ in range(2): threading.Thread(target=forever, daemon=True).start()
work(); ctypes.CDLL(None).exit(0)
""",
    )
    result = run([python.path, program])
    assert result.returncode == 0, result
    assert result.host()["active"] and {heap["name"] for heap in result.heaps} == {"python", "python raw"}


def test_free_watch_sees_a_leak(run, python):
    """The counter of leaked pointers must be able to count: one of ours is given to libc on purpose."""
    code = "import ctypes; f = ctypes.pythonapi.PyMem_Malloc; f.restype = ctypes.c_void_p\n"
    code += "ctypes.CDLL(None).free(ctypes.c_void_p(f(100)))"
    result = run([python.path, "-c", code])
    assert result.returncode == 0 and [line["leaked"] for line in result.watch] == [1], result


def test_foreign_pointers_are_passed_on(run, python):
    """A block of libc that is freed or resized by CPython's domains goes back to the allocator before us."""
    code = (
        "import ctypes; c = ctypes.CDLL(None); api = ctypes.pythonapi; c.malloc.restype = ctypes.c_void_p\n"
        "api.PyMem_RawRealloc.restype = api.PyMem_Realloc.restype = ctypes.c_void_p\n"
        "p = lambda: ctypes.c_void_p(c.malloc(5000))\n"
    )
    resize = "c.free(ctypes.c_void_p(api.%s(p(), ctypes.c_size_t(9000))))"
    raw = "api.PyMem_RawFree(p()); " + resize % "PyMem_RawRealloc"
    vm = "api.PyObject_Free(p()); api.PyMem_Free(p()); " + resize % "PyMem_Realloc"
    # With all domains taken, what comes to mem or obj is counted there and once more in raw, to which CPython's
    # own allocator passes it on.
    for domains, calls, count in (("raw,mem,obj", raw, 2), ("mem,obj", vm, 3), ("raw,mem,obj", vm, 6)):
        result = run([python.path, "-c", code + calls], {"ACE_DOMAINS": domains})
        assert result.returncode == 0, result
        assert result.host()["foreign"] == count
