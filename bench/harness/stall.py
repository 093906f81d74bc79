"""How long allocations take while a heap gives gigabytes back: python -m harness.stall PROGRAM FOLDER [MIB] [ROUNDS]

PROGRAM is bench/stall. Runs it with and without the trim in turn, and writes into FOLDER stall.csv (a row a run),
stall-times.csv.gz (how often each time in nanoseconds was seen), stall.txt and stall.png. Where strace is installed, it
also says how much the largest system call gave back.
"""

import csv
import gzip
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

MODES = ("control", "trim")
COLOURS = {"control": "#6f6f6f", "trim": "#0b6fb8"}
PERCENTILES = (50, 99, 99.9, 99.99, 99.999, 100)
# Beyond an hour in nanoseconds nothing is expected.
MOST = 3600 * 10**9


def measure(program, mode, mib):
    """One run: what it says, and its times."""
    with tempfile.NamedTemporaryFile(mode="r", suffix=".csv") as file:
        done = subprocess.run([program, mode, str(mib), file.name], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit("stall failed: " + done.stderr.strip())
        times = Counter({int(row["ns"]): int(row["count"]) for row in csv.DictReader(file)})
    return json.loads(done.stdout), times


def histogram_of(times):
    from hdrh.histogram import HdrHistogram

    histogram = HdrHistogram(1, MOST, 3)
    for ns, count in times.items():
        histogram.record_value(max(ns, 1), count)
    return histogram


def largest_call(program, mib):
    """The most bytes that one madvise of the trim covers, and how many there are; None without strace."""
    if not shutil.which("strace"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        strace = ["strace", "-f", "-o", trace, "-e", "trace=madvise"]
        command = [*strace, program, "trim", str(mib), Path(folder) / "times"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit("stall failed under strace: " + done.stderr.strip())
        text = trace.read_text()
    sizes = [int(size) for size in re.findall(r"madvise\(0x[0-9a-f]+, (\d+), MADV_DONTNEED", text)]
    return max(sizes), len(sizes)


def main():
    if len(sys.argv) not in (3, 4, 5):
        raise SystemExit(__doc__)
    program, folder = sys.argv[1], Path(sys.argv[2])
    mib, rounds = int((sys.argv[3:4] or ["4096"])[0]), int((sys.argv[4:5] or ["5"])[0])
    folder.mkdir(parents=True, exist_ok=True)
    rows, times = [], {mode: Counter() for mode in MODES}
    for round in range(rounds):
        for mode in MODES if round % 2 == 0 else MODES[::-1]:
            row, seen = measure(program, mode, mib)
            histogram = histogram_of(seen)
            row.update({"p%g" % p: histogram.get_value_at_percentile(p) for p in PERCENTILES})
            rows.append({"round": round, **row})
            times[mode] += seen
            print("%-8s %5.2f s, %4.0f MB given back, p99.99 %d ns, longest %d ns" % (
                mode, row["seconds"], row["returned_bytes"] / 1e6, row["p99.99"], row["p100"]), flush=True)  # fmt: skip
    with open(folder / "stall.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with gzip.open(folder / "stall-times.csv.gz", "wt") as file:
        file.write("mode,ns,count\n")
        for mode in MODES:
            file.writelines("%s,%d,%d\n" % (mode, ns, times[mode][ns]) for ns in sorted(times[mode]))
    histograms = {mode: histogram_of(times[mode]) for mode in MODES}
    lines = ["%d MiB, %d runs each; nanoseconds of one allocation or free, the clock's own 20 to 30 ns in them" % (
                 mib, rounds),
             "%-9s" % "" + "".join("%12s" % ("longest" if p == 100 else "p%g" % p) for p in PERCENTILES)]  # fmt: skip
    for mode in MODES:
        values = (histograms[mode].get_value_at_percentile(p) for p in PERCENTILES)
        lines.append("%-9s" % mode + "".join("%12d" % value for value in values))
    found = largest_call(program, min(mib, 1024))
    if found:
        lines.append("one call gives back at most %d KiB (%d calls, %d MiB, strace)" % (
            found[0] >> 10, found[1], min(mib, 1024)))  # fmt: skip
    (folder / "stall.txt").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    draw(histograms, mib, folder / "stall.png")


def draw(histograms, mib, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panel = plt.subplots(figsize=(7.5, 4))
    ticks = (0, 90, 99, 99.9, 99.99, 99.999, 99.9999, 99.99999)
    for mode, histogram in histograms.items():
        shares = [100 - 100 / 10 ** (i / 20) for i in range(int(20 * 7.5))]
        label = "while %.0f GiB go back" % (mib / 1024) if mode == "trim" else "nothing goes back"
        panel.plot([1 / (1 - share / 100) for share in shares],
                   [histogram.get_value_at_percentile(share) for share in shares],
                   color=COLOURS[mode], label=label)  # fmt: skip
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xticks([1 / (1 - tick / 100) for tick in ticks], ["%g%%" % tick for tick in ticks])
    panel.minorticks_off()
    panel.set_xlabel("share of all allocations and frees")
    panel.set_ylabel("took at most (ns)")
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
