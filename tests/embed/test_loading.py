"""libace.so as hosts load it: twice, closed under working threads, after libraries that used up the static TLS."""

import os
import pathlib
import shutil
import subprocess

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("ACE_BUILD", REPOSITORY / "build"))
LIBRARY = (BUILD / "src" / "libace.so").resolve()

# Two of three have variables that must lie in the static TLS block, which the loader keeps little room in.
TLS_LIBRARY = """
__thread char storage[1024] __attribute__((tls_model("%s")));
char *touch(void) { return storage; }
"""

# What the program has of its own lies on each thread's stack.
LARGE_TLS = """
#include <ace/ace.h>
#include <dirent.h>
#include <stdio.h>

static __thread volatile char storage[SIZE];
static void *blocks[100000];

int main(void) {
  struct dirent *task;
  int tasks = 0;
  DIR *folder = opendir("/proc/self/task");
  ace_heap *heap = ace_heap_create(NULL);
  storage[SIZE - 1] = 1;
  for (int i = 0; i < 100000; ++i) blocks[i] = ace_heap_alloc(heap, 64);
  ace_hint(heap, ACE_HINT_COLLECT_BEGIN, 1);
  for (int i = 0; i < 100000; ++i) {
    if (i % 6400 != 0) ace_heap_free(heap, blocks[i]);
  }
  ace_hint(heap, ACE_HINT_COLLECT_END, 0);
  while ((task = readdir(folder)) != NULL) tasks += task->d_name[0] != '.';
  printf("%d threads\\nok\\n", tasks);
  return 0;
}
"""


@pytest.fixture(scope="module")
def loading(tmp_path_factory):
    """loading.c, built."""
    program = tmp_path_factory.mktemp("loading") / "loading"
    source = pathlib.Path(__file__).with_name("loading.c")
    subprocess.run(["cc", "-O1", "-Wall", "-Werror", "-I", REPOSITORY / "include", "-o", program, source, "-ldl",
                    "-pthread"], check=True)  # fmt: skip
    return program


def clean():
    return {k: v for k, v in os.environ.items() if not k.startswith(("ACE_", "LD_"))}


def run(*command):
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, env=clean())
    assert process.returncode == 0 and process.stdout.endswith("ok\n"), (process.returncode, process.stdout,
                                                                         process.stderr)  # fmt: skip
    return process.stdout


@pytest.mark.parametrize("page", ["off", "on"])
@pytest.mark.parametrize("who", [[], ["other"]])
def test_the_first_thread_ends(tmp_path, who, page):
    """The process ends with its last thread, and what was to go back later has gone back before."""
    program, source = tmp_path / "first_thread", pathlib.Path(__file__).with_name("first_thread.c")
    subprocess.run(["cc", "-O1", "-Wall", "-Werror", "-I", REPOSITORY / "include", "-o", program, source, LIBRARY,
                    "-Wl,-rpath," + str(LIBRARY.parent), "-pthread"], check=True)  # fmt: skip
    environment = dict(clean(), ACE_MODE="static", ACE_IDLE_DELAY="1000s", ACE_STATS_PAGE=page)
    with subprocess.Popen([program, *who], env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0 and int(said) < 2 << 20
    assert not [name for name in os.listdir("/dev/shm") if name.split(".")[2:3] == [str(process.pid)]]


def test_two_copies_in_one_process(loading, tmp_path):
    copy = tmp_path / "libace-copy.so"
    shutil.copy(LIBRARY, copy)
    run(loading, "copies", LIBRARY, copy)


def test_the_same_file_twice_is_no_second_copy(loading):
    """That the test above can fail: the loader maps one file once."""
    process = subprocess.run([loading, "copies", LIBRARY, LIBRARY], capture_output=True, text=True)
    assert process.returncode == 1 and "the copies are one" in process.stderr


def test_closed_while_threads_work_with_it(loading):
    run(loading, "close", LIBRARY)


def test_loads_after_200_libraries_with_much_thread_local_storage(loading, tmp_path):
    libraries = []
    for model in ("initial-exec", "global-dynamic"):
        source = tmp_path / (model + ".c")
        source.write_text(TLS_LIBRARY % model)
        built = tmp_path / (model + ".so")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", built, source], check=True)
        libraries.append(built)
    copies = []
    for i in range(200):
        copy = tmp_path / ("tls-%d.so" % i)
        shutil.copy(libraries[i % 3 == 2], copy)
        copies.append(copy)
    first = run(loading, "after", LIBRARY, *copies).splitlines()[0].split()
    loaded, refused = int(first[0]), int(first[2])
    # The static block is full: a library that needs room in it is refused by now.
    assert loaded >= 60 and refused > 0 and loaded + refused == 200


@pytest.mark.parametrize("size", [100_000, 110_000, 120_000, 126_000, 131_072, 1 << 20])
def test_a_program_with_much_thread_local_storage_has_a_worker(tmp_path, size):
    source, program = tmp_path / "large_tls.c", tmp_path / "large_tls"
    source.write_text(LARGE_TLS)
    folders = ["-I", REPOSITORY / "include", "-L", LIBRARY.parent, "-Wl,-rpath,%s" % LIBRARY.parent]
    flags = ["-O1", "-Wall", "-Werror", "-DSIZE=%d" % size]
    subprocess.run(["cc", *flags, *folders, "-o", program, source, "-lace"], check=True)
    assert run(program).splitlines() == ["2 threads", "ok"]
