"""One run: a program on an allocator, from its start to its end.

The launcher (bench/launch.cpp) takes processor time, page faults, and what the kernel knows at the very end: the peak,
the address space and the loaded libraries. In the part `swell` resident memory is sampled meanwhile, from another core.
A run that was not on the allocator that it should be on has failed, whatever its times.
"""

import hashlib
import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from harness import peers, service
from harness.errors import Failed, Skipped
from harness.figures import heap_figures, read_lines, reported, swell_figures
from harness.programs import steady

SAMPLE_SECONDS = 0.01
PAGE = os.sysconf("SC_PAGESIZE")
# How libpeer-bump.so ends a program whose garbage does not fit (bench/peers/bump.cpp).
TOO_MUCH = 97


def run(program, peer, bench, loops=None):
    """Runs it once. Returns the row's measured columns and the samples. Raises Failed."""
    with tempfile.TemporaryDirectory(prefix="ace-bench-") as scratch:
        if program.way == "service":
            return service.run(program, peer, bench, Path(scratch))
        return _Run(program, peer, bench, Path(scratch), loops).result()


class _Run:
    def __init__(self, program, peer, bench, scratch, loops):
        self.program, self.peer, self.bench, self.scratch = program, peer, bench, scratch
        self.record_file = scratch / "record.json"
        self.report_file = scratch / "report.jsonl"
        self.pyperf_file = scratch / "pyperf.json"
        self.output_file = scratch / "output"
        self.error_file = scratch / "error"
        names = {"loops": loops, "output": self.pyperf_file, "api": self.api(), "allocator": self.allocator()}
        self.command = [word.format(**names) if "{" in word else word for word in program.command]
        self.samples = []
        self.worker = None  # ACE's thread: its number, and the seconds that it has run
        self.marks = []  # (seconds, phase, live bytes)

    def api(self):
        # Who has no heap with one holder does there what a host would do with it: call its malloc.
        return self.program.api if self.peer.kind == "ace" or self.program.api == "plain" else self.peer.heap_api

    def allocator(self):
        return "ace" if self.peer.name == "ace" else "libc" if self.peer.kind == "glibc" else self.peer.path

    # ---- running

    def result(self):
        self.execute()
        record = self.record()
        self.require_good_end(record)
        reported = self.require_peer(record)
        row = {
            "seconds_cpu": record["user_seconds"] + record["system_seconds"],
            "seconds_wall": record["wall_seconds"],
            "peak_rss": kilobytes(record["peak_kb"]),
            "vmsize": kilobytes(record["address_space_kb"]),
            "faults": record["minor_faults"] + record["major_faults"],
            "output": self.output_hash(),
        }
        row.update(reported)
        row.update(getattr(self, "of_" + self.program.way)())
        return self.without_prefault(row), self.samples

    def execute(self):
        settings = dict(self.program.settings)
        if self.program.way == "swell" and self.peer.kind == "ace":
            settings["SWELL_LIBRARY"] = self.peer.path
        settings.update(self.peer.environment(self.program.host_kind, self.bench.build, self.report_file))
        receive, send = os.pipe()
        command = [str(self.bench.launcher), "--record", str(self.record_file), "--pid-fd", str(send)]
        if self.program.pinned and self.bench.core is not None:
            command += ["--core", str(self.bench.core)]
        for name, value in settings.items():
            command += ["--env", "%s=%s" % (name, value)]
        swells = self.program.way == "swell"
        with open(self.output_file, "wb") as output, open(self.error_file, "wb") as error:
            self.start = time.monotonic()
            process = subprocess.Popen(
                [*command, "--", *self.command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if swells else output,
                stderr=error, env=self.bench.base, cwd=self.program.folder or self.scratch, pass_fds=[send],
            )  # fmt: skip
            os.close(send)
            with os.fdopen(receive) as pipe:
                pid = pipe.readline().strip()
            try:
                if swells:
                    self.watch(process, pid, output)
                self.status = process.wait(max(0.1, self.start + self.bench.timeout - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise Failed("not done after %d s (--timeout)" % self.bench.timeout) from None
            finally:
                if process.poll() is None:
                    process.kill()  # and with the launcher its program
                    process.wait()

    def watch(self, process, pid, output):
        """Samples the memory until the program ends; a thread takes the time of each line that it prints."""

        def read():
            for line in process.stdout:
                output.write(line)
                words = line.split()
                if len(words) == 4 and words[0] == b"@":
                    # What it has before it builds anything: a program may have begun between two samples.
                    if not self.marks and (resident := resident_bytes(pid)):
                        self.samples.append((time.monotonic() - self.start, resident))
                    self.marks.append((time.monotonic() - self.start, words[1].decode(), int(words[3])))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            if pid:
                self.sample(process, pid)
        finally:
            if process.poll() is None and time.monotonic() - self.start > self.bench.timeout:
                process.kill()
            reader.join(self.bench.timeout)

    def sample(self, process, pid):
        tick = time.monotonic()
        try:
            with open("/proc/%s/statm" % pid) as statm:
                while process.poll() is None and tick - self.start < self.bench.timeout:
                    statm.seek(0)
                    resident = int(statm.read().split()[1]) * PAGE
                    now = time.monotonic()
                    if resident == 0:
                        return  # it ends just now
                    self.samples.append((now - self.start, resident))
                    if self.peer.kind == "ace" and len(self.samples) % 10 == 0:
                        self.worker = worker_seconds(pid, self.worker)
                    tick = max(tick + SAMPLE_SECONDS, now)
                    time.sleep(max(0.0, tick - time.monotonic()))
        except (OSError, IndexError):
            return  # it has ended

    # ---- judging

    def record(self):
        try:
            return json.loads(self.record_file.read_text())
        except (OSError, ValueError):
            raise Failed("the launcher failed: %s" % self.last_words()) from None

    def last_words(self):
        text = self.error_file.read_text(errors="replace") + self.output_file.read_text(errors="replace")[-2000:]
        lines = text.strip().splitlines()
        # Lua says what was wrong first, Python last.
        return " | ".join(lines[:1] + lines[1:][-2:]) or "it printed nothing"

    def without_prefault(self, row):
        """Of the limit that frees nothing only the time counts, and not the time in which it gets its memory."""
        if self.peer.kind != peers.BUMP:
            return row
        told = [line["prefault_ns"] for line in read_lines(self.report_file) if "prefault_ns" in line]
        if not told:
            raise Failed("%s did not tell its time" % self.peer.name)
        # The program's own line is the last: its children ended before it.
        row["seconds_cpu"] -= told[-1] / 1e9
        return {**row, **dict.fromkeys(("peak_rss", "vmsize", "faults"))}

    def require_good_end(self, record):
        if self.peer.kind == peers.BUMP and record["exit"] == TOO_MUCH:
            raise Skipped(self.last_words())
        if record["signal"]:
            raise Failed("ended by signal %d: %s" % (record["signal"], self.last_words()))
        if record["exit"] != 0:
            raise Failed("exit status %d: %s" % (record["exit"], self.last_words()))

    def require_peer(self, record):
        """The library must have been in the process, and must have been used."""
        if record["peak_kb"] < 0:
            raise Failed("its end was not seen, so that its allocator and its peak are unknown")
        peer, kind = self.peer, self.program.host_kind
        if peer.path and (peer.kind == "library" or kind != "micro") and peer.path not in record["files"]:
            raise Failed("%s was not loaded into it" % Path(peer.path).name)
        return reported(peer, kind, self.report_file)

    def output_hash(self):
        if not self.program.compares_output:
            return ""
        text = steady(self.program, self.output_file.read_text(errors="replace"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    # ---- what each way of running gives beside

    def of_plain(self):
        return {}

    def of_pyperf(self):
        """The median of the values that pyperf took inside the process."""
        try:
            taken = json.loads(self.pyperf_file.read_text())
            run = taken["benchmarks"][0]["runs"][0]
            values = run["values"]
        except (OSError, ValueError, LookupError):
            raise Failed("pyperf left no values: %s" % self.last_words()) from None
        # Some scripts repeat their work within a loop: a value is that of one repetition.
        places = (run, taken["benchmarks"][0], taken)
        inner = next((p["metadata"]["inner_loops"] for p in places if "inner_loops" in p.get("metadata", {})), 1)
        value = statistics.median(values)
        return {"value_seconds": value, "loop_seconds": value * inner}

    def of_swell(self):
        # What ace_report_now wrote, at the end of the last rest.
        heaps = [line for line in read_lines(self.scratch / "report.jsonl.now") if "live_page_bytes" in line]
        worker = {"worker_seconds": self.worker[1] if self.worker else 0.0} if self.peer.kind == "ace" else {}
        return {**worker, **swell_figures(self.samples, self.marks), **(heap_figures(heaps) if heaps else {})}

    def of_frames(self):
        """How long single frames took, as percentiles."""
        lines = self.output_file.read_text(errors="replace").splitlines()
        taken = sorted(int(line[2:]) for line in lines if line.startswith("@ "))
        if not taken:
            raise Failed("it told of no frame")
        return {name: taken[min(len(taken) - 1, int(share * len(taken)))] / 1e9
                for name, share in (("p50_seconds", 0.5), ("p99_seconds", 0.99), ("p999_seconds", 0.999))}  # fmt: skip

    def of_micro(self):
        try:
            said = json.loads(self.output_file.read_text())
        except ValueError:
            raise Failed("ace-micro printed no JSON: %s" % self.last_words()) from None
        return {
            "seconds_cpu": said.get("cpu_seconds"),  # of the timed part alone
            "value_seconds": said.get("seconds"),
            "faults": said.get("faults"),
            "vmsize": said.get("vmsize_bytes"),
            "ops_per_second": said.get("ops_per_second"),
            "bytes_per_second": said.get("bytes_per_second"),
            "rss_rest": said.get("rss_end_bytes"),
            "live": said.get("live_bytes"),
            "fragmentation": said.get("fragmentation"),
            "note": " ".join("%s=%g" % (n, said[n]) for n in ("refills", "hot_share", "warm_share", "cold_share")
                             if said.get(n) is not None),
        }  # fmt: skip


def resident_bytes(pid):
    """0 where it has ended."""
    try:
        return int(Path("/proc/%s/statm" % pid).read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def worker_seconds(pid, known):
    """The thread of ACE's worker and the processor time it has taken; `known`: what was known of it before."""
    tasks = Path("/proc/%s/task" % pid)
    try:
        if known is None:
            names = ((task.name, (task / "comm").read_text()) for task in tasks.iterdir())
            known = next(((thread, 0.0) for thread, name in names if name == "ace-worker\n"), None)
        if known is not None:
            known = known[0], int((tasks / known[0] / "schedstat").read_text().split()[0]) / 1e9
    except OSError:
        pass  # it has ended, or the program has
    return known


def kilobytes(number):
    return number * 1024 if number >= 0 else None
