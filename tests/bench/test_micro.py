"""ace-micro: every workload in small, on ACE and on libc, and how it refuses what does not exist.

The build folder is that of the environment variable ACE_BUILD, else `build` in the repository; without
`-Dbench=true` there is no ace-micro in it, and all of this is skipped. Times are not judged.
"""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("ACE_BUILD", REPOSITORY / "build"))
MICRO = BUILD / "bench" / "micro" / "ace-micro"

pytestmark = pytest.mark.skipif(not MICRO.exists(), reason="%s is not built (-Dbench=true)" % MICRO)

# Workload: small arguments, and the operations that they make (None: depends on the machine).
SMALL = {
    "tiny-hot": ("64 10 100 fifo", 2000),
    "random-mixed": ("5000 50 1", 5000),
    "mid-mt": ("3000 50 1", 6000),
    "churn": ("500 3000 16 300 1", 6000),
    "realloc-growth": ("3 10000 2", None),
    "aligned": ("100 2000 1", 4000),
    "churn-long": ("1 1000000 1", None),
    "remote": ("2 3000 48", 12000),
}
ACROSS_THREADS = ("mid-mt", "remote")
FIELDS = (
    "workload args allocator api ops seconds cpu_seconds ops_per_second bytes bytes_per_second peak_rss_bytes "
    "rss_end_bytes vmsize_bytes faults live_bytes own_bytes fragmentation refills hot_share warm_share cold_share"
).split()


def micro(*words):
    return subprocess.run([MICRO, *map(str, words)], capture_output=True, text=True, timeout=120)


def result_of(*words):
    answer = micro(*words)
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    assert answer.stdout.count("\n") == 1
    return json.loads(answer.stdout)


def refused(*words):
    """The one line that a wrong use gets."""
    answer = micro(*words)
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (2, "", 1), answer
    return answer.stderr


def test_list_names_every_workload_with_defaults_and_meaning():
    answer = micro("list")
    assert answer.returncode == 0
    lines = answer.stdout.splitlines()
    assert {line.split()[0] for line in lines} == set(SMALL)
    assert all("=" in line and ": " in line for line in lines)


INTERFACES = [("libc", "plain"), ("ace", "plain"), ("ace", "heap"), ("ace", "heap-sized")]


@pytest.mark.parametrize("allocator, api", INTERFACES)
@pytest.mark.parametrize("workload", SMALL)
def test_workload(workload, allocator, api):
    if workload in ACROSS_THREADS and api != "plain":
        assert "only --api plain" in refused(workload, "--allocator", allocator, "--api", api)
        return
    arguments, ops = SMALL[workload]
    result = result_of(workload, *arguments.split(), "--allocator", allocator, "--api", api)
    assert list(result) == FIELDS
    assert [result[name] for name in ("workload", "allocator", "api")] == [workload, allocator, api]
    assert " ".join(map(str, result["args"])) == arguments
    assert result["ops"] == ops or (ops is None and result["ops"] > 0)
    assert result["ops_per_second"] == pytest.approx(result["ops"] / result["seconds"], rel=1e-3)
    assert result["bytes_per_second"] == pytest.approx(result["bytes"] / result["seconds"], rel=1e-3)
    assert result["cpu_seconds"] > 0
    assert 0 < result["rss_end_bytes"] <= result["peak_rss_bytes"] < result["vmsize_bytes"]
    assert (result["refills"] is None) == (allocator == "libc" or workload in ACROSS_THREADS)
    assert (result["fragmentation"] is None) == (result["live_bytes"] == 0)


def test_same_work_for_every_allocator():
    for workload in ("random-mixed", "churn", "aligned", "tiny-hot", "realloc-growth"):
        arguments = SMALL[workload][0].split()
        ace, libc = (result_of(workload, *arguments, "--allocator", name) for name in ("ace", "libc"))
        for field in ("ops", "bytes", "live_bytes"):
            assert ace[field] == libc[field]


SHARES = ("hot_share", "warm_share", "cold_share")


@pytest.mark.parametrize("api", ["plain", "heap", "heap-sized"])
@pytest.mark.parametrize("workload", SMALL)
def test_shares_of_hot_warm_and_cold(workload, api):
    if workload in ACROSS_THREADS and api != "plain":
        return
    arguments = SMALL[workload][0].split()
    result = result_of(workload, *arguments, "--api", api)
    hot, warm, cold = (result[name] for name in SHARES)
    assert hot + warm + cold == pytest.approx(1) and min(hot, warm, cold) >= 0
    if workload == "tiny-hot":
        assert hot > 0.9 and cold == 0
    if workload == "realloc-growth":
        assert cold > 0.9, "every resize is cold"
    if workload == "remote":
        assert cold >= 0.5, "each free is of another thread's block"


def test_the_timed_library_does_not_count():
    words = ["random-mixed", *SMALL["random-mixed"][0].split(), "--api", "heap", "--allocator"]
    counted, timed = result_of(*words, "ace-counting"), result_of(*words, "ace")
    assert [counted[name] for name in SHARES] == [timed[name] for name in SHARES], "the same work, the same ways"
    symbols = subprocess.run(["nm", "-D", BUILD / "src" / "libace.so"], capture_output=True, text=True).stdout
    assert "ace_alloc" in symbols and "ace_count_paths" not in symbols
    assert result_of("tiny-hot", 32, 5, "--allocator", "libc")["hot_share"] is None


def test_defaults_complete_the_arguments():
    assert result_of("tiny-hot", 32, 5)["args"] == [32, 5, 60000, "lifo"]


def test_series(tmp_path):
    path = tmp_path / "series.csv"
    result_of("churn-long", 2, 2000000, "--series", path)
    lines = path.read_text().splitlines()
    assert lines[0] == "seconds,resident,live"
    rows = [tuple(map(float, line.split(","))) for line in lines[1:]]
    assert 2 <= len(rows) <= 4
    assert all(resident > 0 and 0 < live <= 2000000 for _, resident, live in rows)


@pytest.mark.parametrize(
    "words, message",
    [
        ((), "no workload"),
        (("walk",), "no workload 'walk'"),
        (("churn", "--speed", "1"), "no option --speed"),
        (("churn", "--api"), "--api needs a value"),
        (("churn", "--api", "arena"), "no api 'arena'"),
        (("churn", "many"), "LIVE is a number"),
        (("churn", "0"), "LIVE lies between"),
        (("churn", "10", "10", "64", "32"), "SIZE_MIN is above"),
        (("churn", "1", "2", "16", "16", "5", "6"), "at most 5 arguments"),
        (("tiny-hot", "64", "1", "1", "sorted"), "ORDER is one of"),
        (("churn", "--series", "x.csv"), "writes no series"),
        (("churn", "--allocator", "/no/such/library.so"), "no library /no/such/library.so"),
        (("churn", "--allocator", "libc", "--api", "heap"), "no such interface"),
        (("churn", "--allocator", "ace", "--api", "theap"), "no such interface"),
    ],
)
def test_wrong_use(words, message):
    assert message in refused(*words)


@pytest.fixture
def library(tmp_path):
    """Compiles a library from C text."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")

    def compile_(text):
        source, output = tmp_path / "library.c", tmp_path / "liblibrary.so"
        source.write_text("#include <stdlib.h>\n" + text)
        subprocess.run([compiler, "-shared", "-fPIC", "-o", output, source], check=True)
        return output

    return compile_


def test_library_without_the_functions(library):
    path = library("int answer(void) { return 42; }\n")
    assert "has no function malloc" in refused("churn", "--allocator", path)


BROKEN = """
static char place[1 << 21] __attribute__((aligned(4096)));
void *ace_alloc(size_t size) { %s }
void ace_free(void *p) { (void)p; }
void *ace_realloc(void *p, size_t size) { (void)p; return malloc(size); }
void *ace_aligned_alloc(size_t alignment, size_t size) { (void)alignment; return (char *)malloc(size + 1) + 1; }
"""


@pytest.mark.parametrize("workload", [name for name in SMALL if name != "churn-long"])
def test_broken_allocator_fails(library, workload):
    path = library(BROKEN % "(void)size; return place;")
    answer = micro(workload, *SMALL[workload][0].split(), "--allocator", path)
    assert answer.returncode == 1
    assert "does not hold" in answer.stderr


def test_no_memory_fails(library):
    path = library(BROKEN % "(void)size; (void)place; return 0;")
    answer = micro("churn", "--allocator", path)
    assert answer.returncode == 1
    assert "returned NULL" in answer.stderr
