"""A service whose rhythm changes: each cycle builds records, drops all of them, collects and waits; cycles that follow
one another at once, and cycles with long waits between them, in turn.

    python3 rhythm.py RECORDS TURNS REST SEED [QUICK SLOW]

A turn is 8 to 16 quick cycles and 2 to 4 slow ones, which rest for REST to 2 REST seconds, as SEED says; or QUICK and
SLOW of them. The harness takes the time of each line that begins with '@' as it appears: '@ PHASE CYCLE LIVE_BYTES'
(build, rest, end). CPython does not know its live bytes: 0 stands for them.
"""

import gc
import sys
import time


class Random:
    """The same numbers as in rhythm.lua."""

    def __init__(self, seed):
        self.state = seed

    def below(self, limit):
        self.state = self.state * 16807 % 2147483647
        return self.state % limit


def main():
    if len(sys.argv) not in (5, 7):
        raise SystemExit("usage: rhythm.py RECORDS TURNS REST SEED [QUICK SLOW]")
    count, turns, rest, random = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), Random(int(sys.argv[4]))
    quick, slow = map(int, sys.argv[5:] or (0, 0))
    cycle = checksum = 0

    def mark(phase):
        print("@ %s %d 0" % (phase, cycle), flush=True)

    def run(cycles, wait):
        nonlocal cycle, checksum
        for _ in range(cycles):
            cycle += 1
            mark("build")
            records = [{"id": i, "name": "record %d of cycle %d" % (i, cycle), "tags": ["tag %d" % (i % 97)]}
                       for i in range(count)]  # fmt: skip
            checksum += len(records[-1]["name"])
            del records
            gc.collect()
            mark("rest")
            time.sleep(wait())

    for _ in range(turns):
        run(quick or 8 + random.below(9), lambda: 0)
        run(slow or 2 + random.below(3), lambda: rest * (1 + random.below(1000) / 1000))
    mark("end")
    print("checksum %d" % checksum)


if __name__ == "__main__":
    main()
