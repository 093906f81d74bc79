"""One run of a service: real server programs under load on the loopback, and in the rests between.

The server runs on the core of the programs, the load on another. Several clients ask one after another (each sends its
next request when it has the answer), most for little and some for much; then the service rests; and so on. Processor
time and memory are those of all its processes together, memory by the kernel's proportional count (Pss), so that pages
which forked processes share are counted once.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from harness.cpython import environment
from harness.errors import Failed
from harness.figures import reported, swell_figures
from harness.programs import BENCH, Program, Selection

SERVICES = BENCH / "services"
SAMPLE_SECONDS = 0.05
START_SECONDS = 60
CLIENTS = 4
# One of so many requests asks for much.
LARGE_EVERY = 25
# So many are asked what they hold that each of a few processes will have been among them.
HEAP_REQUESTS = 20
TICK = os.sysconf("SC_CLK_TCK")

# name, command behind the interpreter, how clients speak to it.
COMMANDS = (
    ("flask", ("-m", "gunicorn", "--preload", "-w", "2", "-b", "127.0.0.1:{port}", "--log-level", "error",
               "flask_app:app"), "http"),
    ("asyncio", ("aiohttp_app.py", "{port}"), "http"),
    ("jobs", ("jobs.py", "{port}"), "lines"),
)  # fmt: skip


def programs(hosts, root, quick, say):
    """hosts: (host, path)."""
    selection = Selection()
    cycles, requests, rest = (2, 100, 1.0) if quick else (3, 400, 4.0)
    for host, path in hosts[:1] if quick else hosts:
        python = environment(host, path, root, say)
        for name, words, protocol in COMMANDS:
            args = "%d cycles of %d requests, rests of %g s" % (cycles, requests, rest)
            settings = {"SERVICE_PROTOCOL": protocol}
            selection.programs.append(Program("services", host, "cpython", name, args, (str(python), *words),
                                              str(SERVICES), compares_output=False, way="service",
                                              settings=settings))  # fmt: skip
    return selection


@dataclass(frozen=True)
class Load:
    cycles: int
    requests: int
    rest: float

    @classmethod
    def of(cls, args):
        cycles, _, _, requests, _, _, _, rest, _ = args.split()
        return cls(int(cycles), int(requests), float(rest))


def run(program, peer, bench, scratch):
    """Starts it, loads it, ends it. Returns the row's measured columns and the samples. Raises Failed."""
    load = Load.of(program.args)
    server = Server(program, peer, bench, scratch)
    try:
        server.await_start()
        server.require_peer()
        return server.result(load)
    finally:
        server.end()


class Server:
    def __init__(self, program, peer, bench, scratch):
        self.program, self.peer, self.bench = program, peer, bench
        self.report_file = scratch / "report.jsonl"
        self.error_file = scratch / "error"
        self.protocol = program.settings["SERVICE_PROTOCOL"]
        self.port = free_port()
        self.samples, self.marks = [], []
        settings = peer.environment(program.host_kind, bench.build, self.report_file)
        command = [word.format(port=self.port) for word in program.command]
        with open(self.error_file, "wb") as error:
            # A session of its own: at the end none of its processes is left.
            self.process = subprocess.Popen(command, cwd=program.folder, env={**bench.base, **settings}, stdout=error,
                                            stdin=subprocess.DEVNULL, stderr=error, start_new_session=True,
                                            preexec_fn=self.pin)  # fmt: skip

    def pin(self):
        if self.bench.core is not None:
            os.sched_setaffinity(0, {self.bench.core})

    def await_start(self):
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise Failed("it ended at its start: %s" % self.last_words())
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                time.sleep(0.05)
        raise Failed("it does not answer after %d s: %s" % (START_SECONDS, self.last_words()))

    def last_words(self):
        lines = self.error_file.read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-3:]) or "it printed nothing"

    def pids(self):
        """Its processes: those of its session."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and (fields := stat_of(folder.name)) and int(fields[3]) == self.process.pid:
                found.append(int(folder.name))
        return found

    def require_peer(self):
        for pid in self.pids():
            if self.peer.path and self.peer.path not in Path("/proc/%d/maps" % pid).read_text():
                raise Failed("%s was not loaded into process %d of it" % (Path(self.peer.path).name, pid))

    # ---- measuring

    def result(self, load):
        known = self.warm_up()
        stop = threading.Event()
        sampler = threading.Thread(target=self.sample, args=(known, stop))
        self.start = time.monotonic()
        sampler.start()
        try:
            before = processor_seconds(known)
            times = self.load(load)
            cpu = processor_seconds(known) - before
            dirty = sum(rollup(pid).get("Private_Dirty", 0) for pid in known)
            held = self.held()
        finally:
            stop.set()
            sampler.join()
        if known != sorted(self.pids()):
            raise Failed("processes of it ended or were started under load: %s" % self.last_words())
        self.end()
        histogram = histogram_of(times)
        figures = swell_figures(self.samples, self.marks)
        busy = sum(after - at for (at, phase, _), (after, _, _) in zip(self.marks, self.marks[1:]) if phase == "build")
        return {
            **reported(self.peer, self.program.host_kind, self.report_file),
            **figures,
            "seconds_cpu": cpu,
            "value_seconds": busy,
            "seconds_wall": self.samples[-1][0],
            "peak_rss": max(resident for _, resident in self.samples),
            "private_dirty": dirty,
            "held": held,
            "ops_per_second": len(times) / busy,
            "p50_seconds": histogram.get_value_at_percentile(50) / 1e9,
            "p99_seconds": histogram.get_value_at_percentile(99) / 1e9,
        }, self.samples

    def warm_up(self):
        """Some requests, until all its processes have been started. Returns them."""
        client = self.client()
        known, seen_since = [], time.monotonic()
        for number in range(10_000):
            client("small", number)
            time.sleep(0.02)
            if (now := sorted(self.pids())) != known:
                known, seen_since = now, time.monotonic()
            if time.monotonic() > seen_since + 0.5:
                break
        return known

    def load(self, load):
        """All cycles. Returns the time of each request."""
        times, number = [], 0
        for cycle in range(load.cycles):
            self.mark("build", cycle)
            times += self.burst(range(number, number + load.requests))
            number += load.requests
            self.mark("rest", cycle)
            time.sleep(load.rest)
        self.mark("end", load.cycles)
        return times

    def mark(self, phase, cycle):
        self.marks.append((time.monotonic() - self.start, phase, 0))

    def burst(self, numbers):
        """All these requests, by several clients at once."""
        times, troubles = [], []

        def work(mine):
            try:
                client = self.client()
                for number in mine:
                    begin = time.monotonic_ns()
                    client("large" if number % LARGE_EVERY == 0 else "small", number)
                    times.append(time.monotonic_ns() - begin)
            except (OSError, http.client.HTTPException, Failed) as reason:
                troubles.append(reason)

        threads = [threading.Thread(target=work, args=(numbers[i::CLIENTS],)) for i in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if troubles:
            raise Failed("a request failed: %s; %s" % (troubles[0], self.last_words()))
        return times

    def held(self):
        """What its heaps hold beyond what is live, of all processes that answer; None where they do not live on ACE."""
        found = {}
        for _ in range(HEAP_REQUESTS):
            answer = json.loads(self.client()("heap", 0))
            if not answer:
                return None
            found[answer["pid"]] = answer["held"]
        return sum(found.values())

    def client(self):
        """A function (kind, number) that asks, waits for the answer and returns it."""
        if self.protocol == "lines":
            file = socket.create_connection(("127.0.0.1", self.port), timeout=60).makefile("rwb")

            def ask(kind, number):
                file.write(b"%s %d\n" % (kind.encode(), number))
                file.flush()
                answer = file.readline()
                if not answer.endswith(b"\n"):
                    raise Failed("it ended in the middle of an answer")
                return answer
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

            def ask(kind, number):
                connection.request("GET", "/%s/%d" % (kind, number))
                response = connection.getresponse()
                body = response.read()
                if response.status != 200 or not body:
                    raise Failed("HTTP status %d" % response.status)
                return body

        return ask

    def sample(self, pids, stop):
        while not stop.is_set():
            now = time.monotonic()
            held = sum(rollup(pid).get("Pss", 0) for pid in pids)
            self.samples.append((now - self.start, held))
            stop.wait(SAMPLE_SECONDS)

    # ---- the end

    def end(self):
        """Asks it to end, so that ACE's reports are written; what does not is killed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                print("warning: a service had to be killed", file=sys.stderr)
        for _ in range(100):
            if not self.pids():
                break
            time.sleep(0.05)
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def stat_of(pid):
    """The fields of /proc/PID/stat behind the name, from the state on; None where it has ended."""
    try:
        return Path("/proc/%s/stat" % pid).read_text().rpartition(")")[2].split()
    except OSError:
        return None


def processor_seconds(pids):
    return sum(sum(map(int, fields[11:13])) for pid in pids if (fields := stat_of(pid))) / TICK


def rollup(pid):
    """What the kernel says of a process's memory, in bytes; nothing where it has ended."""
    try:
        lines = Path("/proc/%d/smaps_rollup" % pid).read_text().splitlines()[1:]
    except OSError:
        return {}
    return {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}


def histogram_of(times):
    from hdrh.histogram import HdrHistogram

    histogram = HdrHistogram(1, 3600 * 10**9, 3)
    for ns in times:
        histogram.record_value(ns)
    return histogram
