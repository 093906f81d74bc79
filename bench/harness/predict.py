"""Does a replay predict the live run? (bench/predict)

Runs programs live on several allocators in turn, records each once, replays it on the same allocators, and compares
what `acealloc.Replay.predict` says from the program's time and peak on its own allocator with what was seen on the
others.
Writes predict.csv, predict.txt and machine.json into FOLDER. Needs the package acealloc.
"""

import argparse
import csv
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import acealloc

from harness import machine, measure, peers, session
from harness.errors import Trouble
from harness.programs import BENCH, Program, interpreter, matching

TIME_WITHIN, PEAK_WITHIN = 0.05, 0.10
PEERS = ("own", "glibc", "mimalloc", "jemalloc", "ace")
# host, kind, interpreter, script, arguments, for a quick look
PROGRAMS = (
    ("luajit", "luajit", "luajit", "binary_trees.lua", "15", "13"),
    ("luajit", "luajit", "luajit", "string_churn.lua", "1000000", "200000"),
    ("luajit", "luajit", "luajit", "table_churn.lua", "1000000", "200000"),
    ("lua5.4", "lua", "lua5.4", "string_churn.lua", "500000", "100000"),
    ("lua5.4", "lua", "lua5.4", "table_churn.lua", "500000", "100000"),
    ("cpython", "cpython", "/usr/bin/python3", "rhythm.py", "60000 1 0.3 1 6 1", "20000 1 0.1 1 3 1"),
    ("cpython", "cpython", "/usr/bin/python3", "swell.py", "150000 2 0.3 100", "50000 1 0.1 100"),
)
COLUMNS = ("program", "peer", "live_seconds", "predicted_seconds", "live_ratio", "predicted_ratio", "time_error",
           "live_peak", "predicted_peak", "peak_error")  # fmt: skip


@dataclasses.dataclass
class Seen:
    """Medians of the rounds."""

    seconds: float
    peak: float


def programs(quick):
    for host, kind, name, script, args, quick_args in PROGRAMS:
        path = interpreter(name, None)
        if path is None:
            print("skipped: %s %s: there is no %s" % (host, script, name))
            continue
        words = (quick_args if quick else args).split()
        command = (path, str(BENCH / "vm" / script), *words)
        yield Program("predict", host, kind, Path(script).stem, " ".join(words), command, compares_output=False)


def live(program, chosen, bench, rounds):
    """{peer: Seen}, in turn (A B B A)."""
    rows = {peer.name: [] for peer in chosen}
    for number in range(rounds):
        for peer in chosen if number % 2 == 0 else reversed(chosen):
            row, _ = measure.run(program, peer, bench)
            rows[peer.name].append((row["seconds_cpu"], row["peak_rss"]))
    return {name: Seen(*map(statistics.median, zip(*values))) for name, values in rows.items()}


def recorded(program, build, path):
    environment = session.foreign_free()
    environment.update(LD_PRELOAD=str(build / "bindings/preload/libace-preload.so"), ACE_RECORD=str(path))
    environment["PYTHONHASHSEED"] = "0"
    subprocess.run(program.command, env=environment, stdout=subprocess.DEVNULL, check=True)


def compare(program, chosen, bench, rounds, scratch):
    """The rows of one program."""
    seen = live(program, chosen, bench, rounds)
    trace = scratch / "run.ace"
    recorded(program, bench.build, trace)
    # The harness has kept itself off the programs' core; what it starts may use it.
    replays = acealloc.replay(trace, [peer.name for peer in chosen], rounds=rounds, detail=False, core=bench.core)
    trace.unlink()
    own = seen["own"]
    predicted = replays.predict(own.seconds, int(own.peak), "own")
    for peer in chosen:
        if peer.name == "own":
            continue
        one, (seconds, peak) = seen[peer.name], predicted[peer.name]
        yield dict(zip(COLUMNS, (
            program.title, peer.name, one.seconds, seconds, one.seconds / own.seconds, seconds / own.seconds,
            seconds / one.seconds - 1, one.peak, peak, peak / one.peak - 1)))  # fmt: skip


def verdicts(rows):
    """A line for each, and the sums."""
    yield "%-24s %-9s %8s %10s %7s %9s %9s %7s" % ("program", "allocator", "live x", "predicted", "error", "peak MB",
                                                    "predicted", "error")  # fmt: skip
    for row in rows:
        yield "%-24s %-9s %8.3f %10.3f %6.1f%% %9.1f %9.1f %6.1f%%" % (
            row["program"], row["peer"], row["live_ratio"], row["predicted_ratio"], 100 * row["time_error"],
            row["live_peak"] / 1e6, row["predicted_peak"] / 1e6, 100 * row["peak_error"])  # fmt: skip
    for what, column, limit in (("time", "time_error", TIME_WITHIN), ("peak", "peak_error", PEAK_WITHIN)):
        errors = [abs(row[column]) for row in rows]
        yield "%s: %d of %d within %d%%; median error %.1f%%, most %.1f%%" % (
            what, sum(error <= limit for error in errors), len(errors), 100 * limit,
            100 * statistics.median(errors), 100 * max(errors))  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="small programs, one round")
    parser.add_argument("--programs", metavar="GLOB", action="append", default=[], help="only these, or HOST/NAME")
    parser.add_argument("--core", type=int)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    core = session.choose_core(options.core)
    bench = session.Bench(options.build, core, 900)
    found, missing = peers.find(bench.build)
    chosen = peers.choose([name for name in PEERS if name in found], found, missing)
    print("compared: %s" % ", ".join(peer.name for peer in chosen))
    rows = []
    with tempfile.TemporaryDirectory(prefix="ace-predict-") as scratch:
        for program in matching(list(programs(options.quick)), options.programs):
            # LuaJIT's malloc peers have a bridge; Lua's own is glibc's.
            fitting = [peer for peer in chosen if not peer.why_not(program.host_kind)]
            rows += compare(program, fitting, bench, 1 if options.quick else options.rounds, Path(scratch))
            print("done: %s" % program.title, flush=True)
    with open(options.folder / "predict.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    text = "\n".join(verdicts(rows)) + "\n"
    (options.folder / "predict.txt").write_text(text)
    hosts = sorted({(host, interpreter(name, None)) for host, _, name, *_ in PROGRAMS if interpreter(name, None)})
    build = machine.build_options(bench.build)
    described = machine.describe(BENCH.parent, "bench/predict", chosen, hosts, None, core, build)
    (options.folder / "machine.json").write_text(json.dumps(described, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    try:
        main()
    except Trouble as trouble:
        sys.exit("predict: %s" % trouble)
