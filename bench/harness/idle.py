"""What a service holds after its last request: python -m harness.idle BUILD FOLDER [SECONDS]

Runs bench/vm/rhythm on LuaJIT and CPython under all peers at once: `short`, three cycles before the rest, and `long`,
sixty, and looks at each process's resident memory for SECONDS (600) of rest. Writes idle.csv, idle.txt and idle.png
into FOLDER. All run at the same time, since nothing but memory is looked at.
"""

import argparse
import csv
import os
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from harness import figures, measure, peers, session
from harness.errors import Trouble
from harness.programs import BENCH

PEERS = "own,glibc,glibc-hinted,mimalloc,mimalloc-hinted,jemalloc,jemalloc-hinted"
HOSTS = (("luajit", "luajit", "luajit", "150000"), ("cpython", "cpython", "/usr/bin/python3", "100000"))
CYCLES = {"short": 3, "long": 60}
AT = (1, 10, 60, 600)
MB = 1e6


class Service:
    """One process; `rest` is when its last request was over."""

    def __init__(self, host, kind, interpreter, records, length, peer, build, scratch, seconds):
        self.host, self.length, self.peer = host, length, peer
        script = BENCH / "vm" / ("rhythm.py" if kind == "cpython" else "rhythm.lua")
        name = "-".join((host, length, peer.name))
        environment = session.foreign_free()
        environment.update(peer.environment(kind, build, scratch / (name + ".report")))
        # Its rest is longer than anybody looks: it is ended from here.
        command = [interpreter, script, records, 1, 3600 + seconds, 1, CYCLES[length], 1]
        self.error = open(scratch / (name + ".error"), "w+")
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=self.error,
                                        env=environment, start_new_session=True)  # fmt: skip
        self.rest, self.samples, self.start = None, [], None
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            word, phase, cycle, _ = (line.split() + [b""] * 4)[:4]
            if word == b"@" and phase == b"build" and cycle == b"1":
                self.start = self.resident()
            if word == b"@" and phase == b"rest" and int(cycle) == CYCLES[self.length] + 1:
                self.rest = time.monotonic()

    def resident(self):
        with open("/proc/%d/statm" % self.process.pid) as file:
            return int(file.read().split()[1]) * measure.PAGE

    def require_peer(self):
        if self.process.poll() is not None:
            self.error.seek(0)
            raise Trouble("%s on %s has ended: %s" % (self.host, self.peer.name, self.error.read().strip()[-300:]))
        if self.peer.path and self.peer.path not in Path("/proc/%d/maps" % self.process.pid).read_text():
            raise Trouble("%s was not loaded into %s" % (self.peer.path, self.host))

    def sample(self):
        if self.rest is not None:
            self.samples.append((time.monotonic() - self.rest, self.resident()))

    def end(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def row(self):
        """Megabytes beyond what it held before its first request; at times, and on average until then."""
        beyond = [(at, (resident - self.start) / MB) for at, resident in self.samples]
        row = {"host": self.host, "run": self.length, "peer": self.peer.name}
        for until in AT:
            upto = [(at, held) for at, held in beyond if at <= until]
            if upto and beyond[-1][0] >= until * 0.98:
                row["at %d s" % until] = round(upto[-1][1], 2)
                row["mean of %d s" % until] = round(figures.integral(upto) / upto[-1][0], 2) if len(upto) > 1 else None
        return row


def main():
    parser = argparse.ArgumentParser(prog="python -m harness.idle", description="What a service holds when it rests.")
    parser.add_argument("build", type=Path, help="ACE's build folder")
    parser.add_argument("folder", type=Path, help="where the results go")
    parser.add_argument("seconds", type=int, nargs="?", default=600)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=ace:OPTION=VALUE,...")
    parser.add_argument("--quick", action="store_true", help="the long run has six cycles, not sixty")
    options = parser.parse_args()
    if options.quick:
        CYCLES["long"] = 6
    options.folder.mkdir(parents=True, exist_ok=True)
    found, missing = peers.find(options.build.resolve(), options.peer)
    names = PEERS.split(",") + [text.partition("=")[0] for text in options.peer]
    services = []
    with tempfile.TemporaryDirectory() as scratch:
        try:
            for host, kind, interpreter, records in HOSTS:
                for length in CYCLES:
                    for peer in peers.choose(names, found, missing):
                        if not peer.why_not(kind):
                            service = Service(host, kind, interpreter, records, length, peer, options.build.resolve(),
                                              Path(scratch), options.seconds)  # fmt: skip
                            services.append(service)
            watch(services, options.seconds)
        finally:
            for service in services:
                service.end()
    write(services, options.folder)


def watch(services, seconds):
    begin = time.monotonic()
    last = None
    while last is None or time.monotonic() < last + seconds + 1:
        for service in services:
            service.require_peer()
            service.sample()
        if last is None and all(service.rest for service in services):
            last = max(service.rest for service in services)
            print("all rest after %d s; %d s more" % (last - begin, seconds), flush=True)
        if last is None and time.monotonic() - begin > 1800:
            raise Trouble("after half an hour not all services rest")
        # Often at first, and seldom once nothing much happens.
        time.sleep(0.1 if last is None or time.monotonic() - last < 15 else 1)


def write(services, folder):
    rows = [service.row() for service in services]
    fields = list(dict.fromkeys(name for row in rows for name in row))
    with open(folder / "idle.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)
    with open(folder / "idle-samples.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("host", "run", "peer", "seconds", "resident", "start"))
        for s in services:
            kept = None
            for at, resident in s.samples:
                if resident != kept:
                    writer.writerow((s.host, s.length, s.peer.name, "%.2f" % at, resident, s.start))
                kept = resident
    columns = [name for name in fields if name.startswith("at ")]
    lines = ["MB beyond what the process held before its first request, so long after its last one",
             "%-8s %-6s %-17s" % ("host", "run", "peer") + "".join("%10s" % name[3:] for name in columns)]  # fmt: skip
    for row in rows:
        lines.append("%-8s %-6s %-17s" % (row["host"], row["run"], row["peer"]) +
                     "".join("%10s" % row.get(name, "") for name in columns))  # fmt: skip
    (folder / "idle.txt").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    draw(services, folder / "idle.png")


def draw(services, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from harness.pictures import base_of, colours_of

    hosts = list(dict.fromkeys(s.host for s in services))
    colours = colours_of(list(dict.fromkeys(s.peer.name for s in services)))
    figure, panels = plt.subplots(len(hosts), len(CYCLES), figsize=(11, 3.6 * len(hosts)), squeeze=False, sharex=True)
    for s in services:
        panel = panels[hosts.index(s.host)][list(CYCLES).index(s.length)]
        width = 2.2 if base_of(s.peer.name) in ("ace", "learn") else 1.2
        panel.plot([max(at, 0.1) for at, _ in s.samples], [(resident - s.start) / MB for _, resident in s.samples],
                   color=colours[s.peer.name], linestyle="--" if s.peer.hinted else "-", label=s.peer.name,
                   linewidth=width, drawstyle="steps-post")  # fmt: skip
        panel.set_title("%s, %d requests before the rest" % (s.host, CYCLES[s.length] + 1), fontsize=10)
    for panel in panels.flat:
        panel.set_xscale("log")
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlabel("seconds after the last request")
        panel.set_ylabel("MB beyond the start's")
    panels[0][0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    try:
        main()
    except Trouble as trouble:
        raise SystemExit("harness.idle: %s" % trouble) from None
