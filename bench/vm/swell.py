"""Swells and rests: builds many small records, keeps one in so many, drops the others, collects and sleeps.

    python3 swell.py RECORDS ROUNDS REST KEEP_ONE_IN

The harness takes the time of each line that begins with '@' as it appears: '@ PHASE ROUND LIVE_BYTES', at the
beginning of each phase (build, drop, rest, end). CPython does not know its live bytes: 0 stands for them. At the end
of the last rest ACE is asked for a report of its heaps: SWELL_LIBRARY names the library, and is not set for others.
"""

import ctypes
import gc
import os
import sys
import time


def record(round_number, i):
    """About 450 bytes in a handful of objects."""
    return {"id": i, "round": round_number, "name": "record %d" % i, "tags": ["tag %d" % (i % 97)]}


def mark(phase, round_number):
    print("@ %s %d 0" % (phase, round_number), flush=True)


def main():
    if len(sys.argv) != 5:
        raise SystemExit("usage: swell.py RECORDS ROUNDS REST KEEP_ONE_IN")
    count, rounds, keep_one_in = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[4])
    rest = float(sys.argv[3])
    kept = []
    for round_number in range(1, rounds + 1):
        mark("build", round_number)
        records = [record(round_number, i) for i in range(count)]
        mark("drop", round_number)
        kept.extend(records[::keep_one_in])
        del records
        gc.collect()
        mark("rest", round_number)
        time.sleep(rest)
    mark("end", rounds)
    library = os.environ.get("SWELL_LIBRARY")
    report = library and getattr(ctypes.PyDLL(library), "ace_report_now", None)
    if report:
        report(None)

    expected = [(n, i) for n in range(1, rounds + 1) for i in range(0, count, keep_one_in)]
    if kept != [record(n, i) for n, i in expected]:
        raise SystemExit("swell.py: a record that was kept is damaged")
    print("%d records kept and checked" % len(kept))


if __name__ == "__main__":
    main()
