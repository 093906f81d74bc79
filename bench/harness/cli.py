"""The command bench/run."""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from harness import cpython, machine, matrix, measure, peers, pictures, programs, report, service, session
from harness.errors import Failed, Skipped, Trouble
from harness.results import Store, good_rows, key_of, write

ROOT = Path(__file__).resolve().parent.parent.parent
ROUNDS = 5
PEERS = {
    "luajit": "own,glibc,mimalloc,jemalloc,tcmalloc,bump,ace",
    "lua": "own,mimalloc,jemalloc,tcmalloc,bump,ace",
    "cpython": "own,glibc,mimalloc,jemalloc,tcmalloc,bump,ace",
    "swell": "own,glibc,glibc-hinted,mimalloc,mimalloc-hinted,jemalloc,jemalloc-hinted,tcmalloc,ace",
    "rhythm": "own,glibc-hinted,mimalloc-hinted,jemalloc-hinted,ace",
    "frames": "own,glibc,mimalloc,mimalloc-hinted,jemalloc,jemalloc-hinted,tcmalloc,ace",
    "services": "own,glibc,mimalloc,mimalloc-hinted,jemalloc,jemalloc-hinted,ace",
    "micro": "glibc,mimalloc,jemalloc,tcmalloc,ace",
}
QUICK_PEERS = {
    "luajit": "own,mimalloc,ace",
    "lua": "own,mimalloc,ace",
    "cpython": "own,mimalloc,ace",
    "swell": "own,mimalloc,jemalloc-hinted,ace",
    "rhythm": "own,jemalloc-hinted,ace",
    "frames": "own,mimalloc,ace",
    "services": "own,mimalloc-hinted,ace",
    "micro": "glibc,mimalloc,ace",
}


def parse(arguments):
    parser = argparse.ArgumentParser(prog="bench/run", description="ACE and its rivals on real programs.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list|run|report")

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--peer", action="append", default=[], metavar="NAME=PATH", help="one more allocator: a "
                        "library, or one that is there with other settings (NAME=ace:OPTION=VALUE,..., "
                        "NAME=jemalloc:VARIABLE=VALUE)")  # fmt: skip
    common.add_argument("--suites", metavar="DIR", help="the folder that holds %s" % programs.SUITE)
    common.add_argument("--luajit", metavar="PATH", help="(luajit)")
    common.add_argument("--lua", metavar="PATH", help="(lua5.4)")
    common.add_argument("--python", action="append", default=[], metavar="PATH", help="an interpreter; several times "
                        "for more (%s, and pyenv's 3.13 where it is)" % cpython.DEBIAN_PYTHON)  # fmt: skip
    common.add_argument("--build", type=Path, default=os.environ.get("ACE_BUILD", ROOT / "build"), metavar="DIR",
                        help="ACE's build folder ($ACE_BUILD, or build)")  # fmt: skip

    verbs.add_parser("list", parents=[common], help="parts, programs and peers, and what is missing")

    run = verbs.add_parser("run", parents=[common], help="run parts, keep what was measured, show it")
    run.add_argument("parts", nargs="+", metavar="PART", help=", ".join(programs.PARTS))
    run.add_argument("--peers", metavar="A,B", help="the allocators, in this order (a choice for each part; '': none); "
                     "those of --peer are added")  # fmt: skip
    run.add_argument("--programs", action="append", default=[], metavar="GLOB", help="only these, or "
                     "HOST/NAME, as luajit/*; several times, or with commas")  # fmt: skip
    run.add_argument("--rounds", type=at_least_one, help="runs of each program on each allocator (%d; 1 with --quick)"
                     % ROUNDS)  # fmt: skip
    run.add_argument("--short", action="store_true", help="cpython: %d of its programs, for a record in half an hour"
                     % len(cpython.SHORT))  # fmt: skip
    run.add_argument("--loop-seconds", type=above_zero, metavar="S", help="cpython: processor's time of one of the %d "
                     "values of a run (%g; %g with --quick); calibrated once for each --output"
                     % (cpython.VALUES, cpython.TARGET_SECONDS, cpython.QUICK_TARGET_SECONDS))  # fmt: skip
    run.add_argument("--quick", action="store_true", help="a few programs, small, few allocators: a first look")
    run.add_argument("--output", type=Path, default=Path("bench-results"), metavar="DIR",
                     help="(./bench-results); what is done there already is not run again")  # fmt: skip
    run.add_argument("--again", action="store_true", help="run what is done there already, too; the later run counts")
    run.add_argument("--core", type=int, help="where programs run (the last)")
    run.add_argument("--timeout", type=at_least_one, default=900, help="seconds for one run (%(default)s)")
    run.add_argument("--subject", metavar="PEER", help="what the others are compared with (ace)")

    shown = verbs.add_parser("report", help="tables and pictures again, from the raw files")
    shown.add_argument("output", type=Path, metavar="DIR")
    shown.add_argument("--subject", metavar="PEER", help="what the others are compared with (ace)")
    options = parser.parse_args(arguments)
    if options.verb == "run":
        unknown = [part for part in options.parts if part not in programs.PARTS]
        if unknown:
            parser.error("there is no part '%s'; the parts are: %s" % (unknown[0], ", ".join(programs.PARTS)))
    return options


def at_least_one(text):
    if int(text) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return int(text)


def above_zero(text):
    if not 0 < float(text) < 1000:
        raise argparse.ArgumentTypeError("must be above 0")
    return float(text)


# ---- what there is


def hosts_of(part, options):
    """(host, kind, path) of the VMs that a part runs on, and why others are missing."""
    found, skipped = [], []
    wanted = {"luajit": ("luajit",), "lua": ("lua",), "cpython": ("cpython",), "services": ("cpython",),
              "frames": ("luajit",)}  # fmt: skip
    wanted |= dict.fromkeys(("swell", "rhythm"), ("luajit", "lua", "cpython"))
    for kind in wanted.get(part, ()):
        if kind == "cpython":
            found += [(host, kind, path) for host, path in cpython.interpreters(options.python)]
            continue
        name = "luajit" if kind == "luajit" else "lua5.4"
        path = programs.interpreter(name, options.luajit if kind == "luajit" else options.lua)
        if path:
            found.append((name, kind, path))
        else:
            skipped.append("%s: it is not installed" % name)
    return found, skipped


def select(part, options, say):
    """The programs of a part."""
    quick = getattr(options, "quick", False)
    if part == "micro":
        return programs.micro_programs(options.build, quick)
    hosts, skipped = hosts_of(part, options)
    if part == "swell":
        selection = programs.swell_programs(hosts, quick)
    elif part == "rhythm":
        selection = programs.rhythm_programs(hosts, quick)
    elif part == "frames":
        selection = programs.frames_programs(hosts, quick)
    elif part == "services":
        selection = service.programs([(host, path) for host, _, path in hosts], ROOT, quick, say)
    elif part == "cpython":
        short = getattr(options, "short", False)
        selection = cpython.programs([(host, path) for host, _, path in hosts], ROOT, quick, say, short)
    else:
        selection = programs.Selection()
        for host, kind, path in hosts:
            one = programs.lua_programs(part, host, kind, path, options.suites, quick)
            selection.programs += one.programs
            selection.skipped += one.skipped
    selection.skipped = skipped + selection.skipped
    return selection


def list_all(options, console):
    found, missing = peers.find(options.build, options.peer)
    for part, what in programs.PARTS.items():
        console.print("[bold]%s[/bold]  %s" % (part, what))
        console.print("  peers: %s" % PEERS[part].replace(",", ", "), soft_wrap=True)
        if part in ("cpython", "services"):  # whose environments may not be made yet
            hosts, skipped = hosts_of(part, options)
            for host, _, path in hosts:
                names = cpython.names() if part == "cpython" else [name for name, *_ in service.COMMANDS]
                listed = ", ".join(names)
                console.print("  %s (%s): %s" % (host, path, listed), soft_wrap=True, highlight=False)
            if part == "cpython":
                listed = ", ".join(cpython.names(short=True))
                console.print("  with --short: %s" % listed, soft_wrap=True, highlight=False)
        else:
            selection = select(part, options, console.print)
            skipped = selection.skipped
            by_host = {}
            for program in selection.programs:
                by_host.setdefault(program.host, []).append(program.name)
            for host, names in by_host.items():
                console.print("  %s: %s" % (host, ", ".join(names)), soft_wrap=True, highlight=False)
        for line in skipped:
            console.print("  skipped: %s" % escape(line), style="yellow", soft_wrap=True)
    console.print("[bold]peers[/bold]")
    for peer in found.values():
        how = peer.path or ("the VM's own allocator" if peer.kind == "own" else "the C library's malloc")
        if peer.hinted:
            how = "told of collections, purged by %s" % peer.purge
        console.print("  %-18s %s" % (peer.name, how), soft_wrap=True, highlight=False)
    for name, remedy in missing.items():
        console.print("  %-18s missing: %s" % (name, remedy), style="yellow", soft_wrap=True)
    return 0


# ---- run


class Session:
    """One call of `bench/run run`."""

    def __init__(self, options, console):
        self.options, self.console = options, console
        options.build = Path(options.build).resolve()
        self.built = machine.build_options(options.build)
        self.found, self.missing = peers.find(options.build, options.peer)
        self.extra = [peer for peer in self.found if peer in {text.partition("=")[0] for text in options.peer}]
        self.bench = session.Bench(options.build, session.choose_core(options.core), options.timeout)
        self.store = Store(options.output, self.warn)
        self.outputs = {}  # program key: (hash, peer) of the first good run
        self.failed = 0

    def warn(self, text):
        self.console.print("warning: %s" % escape(text), style="yellow", soft_wrap=True)

    def say(self, text):
        self.console.print(escape(text), style="dim", soft_wrap=True)

    # ---- planning

    def peers_of_part(self, part):
        named = self.options.peers
        names = (named if named is not None else (QUICK_PEERS if self.options.quick else PEERS)[part]).split(",")
        names = [name.strip() for name in names if name.strip()] + self.extra
        if named is None:
            # Of those that nobody named, what is not installed is left out; `ace` must be there.
            for name in [n for n in names if n not in self.found and n != "ace"]:
                self.warn("%s is left out: %s" % (name, self.missing.get(peers_base(name), "it is not there")))
                names.remove(name)
        if not names:
            raise Trouble("there is no allocator to run on: --peers names none, and there is no --peer")
        return peers.choose(list(dict.fromkeys(names)), self.found, self.missing)

    def plan(self):
        patterns = [p for text in self.options.programs for p in text.split(",") if p]
        chosen, peers_by_part, skipped = [], {}, []
        for part in dict.fromkeys(self.options.parts):
            peers_by_part[part] = self.peers_of_part(part)
            selection = select(part, self.options, self.say)
            chosen += selection.programs
            skipped += selection.skipped
        for line in skipped:
            self.console.print("skipped: %s" % escape(line), style="yellow", soft_wrap=True)
        chosen = programs.matching(chosen, patterns)
        if not chosen:
            raise Trouble("nothing can be run: see what was skipped")
        for part, some in peers_by_part.items():
            for host_kind in sorted({p.host_kind for p in chosen if p.part == part}):
                for peer in some:
                    if why := peer.why_not(host_kind, part):
                        self.say("%s, %s: %s is left out: %s" % (part, host_kind, peer.name, why))

        def peers_of(program):
            return [peer for peer in peers_by_part[program.part] if not peer.why_not(program.host_kind, program.part)]

        self.peers = list({peer.name: peer for some in peers_by_part.values() for peer in some}.values())
        rounds = self.options.rounds or (1 if self.options.quick else ROUNDS)
        return chosen, matrix.plan(chosen, peers_of, rounds)

    def keep_machine(self, chosen):
        path = self.store.folder / "machine.json"
        hosts = {p.host: p.command[0] for p in chosen if p.host_kind != "micro"}
        sessions = []
        if path.exists():
            try:
                sessions = json.loads(path.read_text())["sessions"]
            except (ValueError, LookupError):
                self.warn("machine.json was damaged: it begins anew")
        sizes = {"quick": self.options.quick, "short": self.options.short, "rounds": self.options.rounds,
                 "loop_seconds": self.options.loop_seconds, "build": self.built}  # fmt: skip
        suites, core = self.options.suites, self.bench.core
        sessions.append(machine.describe(ROOT, "bench/run", self.peers, hosts.items(), suites, core, sizes))
        write(path, json.dumps({"sessions": sessions}, indent=1) + "\n")

    # ---- running

    def run(self):
        chosen, cells = self.plan()
        self.store.start()
        done = {}
        rows = self.store.read()
        for key, row in good_rows(rows).items():
            done[key] = row
            if row["output"]:
                self.outputs.setdefault(key[:4], (row["output"], row["peer"]))
        self.skipped = {key_of(row)[:-1] for row in rows if row["status"] == "skipped"}
        cells = [cell for cell in cells if cell.key[:-1] not in self.skipped]
        todo = cells if self.options.again else matrix.left_to_do(cells, done)
        if len(todo) < len(cells):
            self.say("%d of %d runs are done already" % (len(cells) - len(todo), len(cells)))
            torn = matrix.torn_rounds(cells, done)
            if torn > 1:
                self.warn("%d rounds are only partly done: what is added to them runs at another time than what is "
                          "there; for figures to publish, use a new --output" % torn)  # fmt: skip
        if todo:
            self.keep_machine(chosen)
            if os.getloadavg()[0] > 0.7:
                self.warn("this machine is busy (load %.1f): times will scatter" % os.getloadavg()[0])
        self.bench.stay_aside()
        self.loops = self.store.loops()
        columns = (TextColumn("{task.description:<46}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                   TimeRemainingColumn())  # fmt: skip
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task("", total=len(todo))
            for cell in todo:
                progress.update(task, description="%d: %s on %s" % (cell.round + 1, cell.program.title, cell.peer.name))
                if cell.key[:-1] not in self.skipped:
                    self.one(cell)
                progress.advance(task)
        show(self.store, self.options.subject, self.console)
        if self.failed:
            self.console.print("%d runs failed; the same command tries them again" % self.failed, style="red")
        return 1 if self.failed else 0

    def one(self, cell):
        row = {**dict(zip(("part", "host", "program", "args"), cell.program.key)), "peer": cell.peer.name,
               "round": cell.round, "order": cell.order}  # fmt: skip
        try:
            measured, samples = self.measured(cell)
            row.update(measured, status="ok")
            if samples:
                self.store.add_samples(cell.key, samples)
        except Skipped as reason:
            row.update(status="skipped", note=str(reason))
            self.skipped.add(cell.key[:-1])
            self.say("skipped: %s on %s: %s" % (cell.program.title, cell.peer.name, reason))
        except Failed as reason:
            row.update(status="failed", note=str(reason))
            self.failed += 1
            self.console.print("failed: %s on %s: %s" % (cell.program.title, cell.peer.name, escape(str(reason))),
                               style="red", soft_wrap=True)  # fmt: skip
        self.store.add(row)

    def measured(self, cell):
        loops = self.loops_of(cell.program) if cell.program.way == "pyperf" else None
        measured, samples = measure.run(cell.program, cell.peer, self.bench, loops)
        output = measured.get("output")
        if output:
            known, peer = self.outputs.setdefault(cell.program.key, (output, cell.peer.name))
            if output != known:
                raise Failed("its output differs from that on %s" % peer)
        return measured, samples

    def loops_of(self, program):
        """How many loops a value of pyperf takes: found once, on the VM's own allocator."""
        name = " ".join((program.host, program.name, program.args))
        if name not in self.loops:
            own = self.found["own"]
            first, _ = measure.run(program, own, self.bench, 1)
            default = cpython.QUICK_TARGET_SECONDS if self.options.quick else cpython.TARGET_SECONDS
            self.loops[name] = cpython.loops_for(first["loop_seconds"], self.options.loop_seconds or default)
            self.store.keep_loops(self.loops)
        return self.loops[name]


def peers_base(name):
    return name.removesuffix(peers.HINTED)


def show(store, subject, console):
    """Tables, report.md and pictures from the raw files."""
    rows = store.read()
    good = list(good_rows(rows).values())
    if not good:
        for line in report.failures(rows):
            console.print(escape(line), style="red", soft_wrap=True)
        raise Trouble("no run came to a good end")
    if subject is None and not any(row["peer"] == "ace" for row in good):
        subject = good[-1]["peer"]
    subject = report.subject_of(good, subject)
    report.show(store, rows, subject, console)
    drawn = pictures.draw_all(store, rows, subject)
    path = report.write_markdown(store, rows, subject, drawn)
    console.print("tables: %s" % path, soft_wrap=True, highlight=False)
    for picture in (picture for some in drawn.values() for picture in some):
        console.print("picture: %s" % picture, soft_wrap=True, highlight=False)


def main(arguments=None):
    options = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A file or a pipe has no width of its own: wide enough for nine allocators.
    console = Console(width=None if sys.stdout.isatty() else 160)
    warn = Console(stderr=True)
    try:
        if options.verb == "report":
            show(Store(options.output, lambda text: warn.print("warning: %s" % text)), options.subject, console)
            return 0
        options.build = Path(options.build).resolve()
        return list_all(options, console) if options.verb == "list" else Session(options, console).run()
    except Trouble as reason:
        print("bench/run: %s" % reason, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench/run: stopped; the same command goes on from here", file=sys.stderr)
        return 130
