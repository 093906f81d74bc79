#!/usr/bin/env python3
"""A program whose memory swells, collects, idles and swells again: the shape of many a service.

Each round builds many small records, keeps one in a thousand, drops the others, collects and rests. Nearly
all of the memory is free during the rest, yet hardly any allocator can give it back, because there is a
survivor in almost every piece of it. Nothing here knows about ACE: compare `python3 swell.py` with
`ace run -- python3 swell.py`, and look at the resident memory that each line ends with.
"""

import argparse
import gc
import os
import time

KEEP_ONE_IN = 1000


def record(round_number, i):
    """One record as a service might hold it: about 450 bytes in a handful of objects."""
    return {"id": i, "round": round_number, "name": "record %d" % i, "tags": ["tag %d" % (i % 97)]}


def resident_megabytes():
    """The memory of this process that is in RAM now, in MB (10^6 bytes)."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def say(round_number, phase, seconds, detail):
    print(
        "round %d  %-8s %6.2f s  %6.1f MB resident  %s" % (round_number, phase, seconds, resident_megabytes(), detail),
        flush=True,
    )


def run_round(round_number, count, rest, kept):
    """Swells, keeps a few records by appending them to `kept`, drops the others, collects and rests."""
    start = time.perf_counter()
    records = [record(round_number, i) for i in range(count)]
    say(round_number, "swell", time.perf_counter() - start, "%d records" % len(records))

    start = time.perf_counter()
    kept.extend(records[::KEEP_ONE_IN])
    del records
    gc.collect()
    say(round_number, "collect", time.perf_counter() - start, "%d records kept" % len(kept))

    start = time.perf_counter()
    time.sleep(rest)
    say(round_number, "rest", time.perf_counter() - start, "")


def check(kept, rounds, count):
    """Every survivor must be exactly the record that was built."""
    expected = [(n, i) for n in range(1, rounds + 1) for i in range(0, count, KEEP_ONE_IN)]
    if len(kept) != len(expected):
        raise SystemExit("swell.py: %d records survived instead of %d" % (len(kept), len(expected)))
    for survivor, (round_number, i) in zip(kept, expected):
        if survivor != record(round_number, i):
            raise SystemExit("swell.py: record %d of round %d is damaged: %r" % (i, round_number, survivor))


def at_least(kind, lowest):
    """An argparse type: a number of this kind that is not below `lowest`."""

    def convert(text):
        value = kind(text)
        if not value >= lowest:
            raise argparse.ArgumentTypeError("must be at least %s" % lowest)
        return value

    convert.__name__ = kind.__name__
    return convert


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--records", type=at_least(int, 1), default=520_000, help="records in a round (%(default)s)")
    parser.add_argument("--rounds", type=at_least(int, 1), default=4, help="rounds (%(default)s)")
    parser.add_argument("--rest", type=at_least(float, 0), default=3.0, help="seconds of rest in a round (%(default)s)")
    options = parser.parse_args()

    kept = []
    start = time.perf_counter()
    for round_number in range(1, options.rounds + 1):
        run_round(round_number, options.records, options.rest, kept)
    check(kept, options.rounds, options.records)
    print("done: %.2f s, %d records kept and checked" % (time.perf_counter() - start, len(kept)))


if __name__ == "__main__":
    main()
