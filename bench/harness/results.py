"""The raw files of an output folder: runs.csv, samples.csv.gz, loops.json.

A line is written when its run is over, so that an interrupted session loses one run at most. Of several lines for the
same cell the last good one counts.
"""

import csv
import errno
import gzip
import io
import json
import os
import zlib

from harness.errors import Trouble

KEY = ("part", "host", "program", "args", "peer", "round")
NUMBERS = (
    "seconds_cpu", "seconds_wall", "value_seconds", "peak_rss", "rss_rest", "area", "vmsize", "faults", "live",
    "fragmentation", "ops_per_second", "bytes_per_second", "purges", "purge_seconds", "walk_seconds", "walked_bytes",
    "returned_bytes", "rest_heap", "rest_live_pages", "metadata", "heap_peak", "excess", "worker_seconds",
    "start", "rest_seconds", "held", "p50_seconds", "p99_seconds", "p999_seconds", "private_dirty",
)  # fmt: skip
COLUMNS = (*KEY, "order", "status", *NUMBERS, "output", "note")
SAMPLE_COLUMNS = (*KEY, "milliseconds", "rss_kib")


def key_of(row):
    return (*(row[name] for name in KEY[:-1]), int(row["round"]))


def write_failed(path, reason):
    if reason.errno in (errno.ENOSPC, errno.EDQUOT):
        return Trouble("the disk is full: %s could not be written; make room and give the same command again: it goes "
                       "on from there" % path)  # fmt: skip
    return Trouble("%s cannot be written: %s" % (path, reason.strerror))


def append(path, data):
    """Adds bytes to a file, whole or with Trouble."""
    try:
        with open(path, "ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as reason:
        raise write_failed(path, reason) from reason


class Store:
    """An output folder. `warn` is called with what is wrong but can be lived with."""

    def __init__(self, folder, warn=lambda text: None):
        self.folder = folder
        self.warn = warn
        self.runs = folder / "runs.csv"
        self.samples = folder / "samples.csv.gz"
        self.loops_file = folder / "loops.json"

    # ---- runs

    def start(self):
        """Makes the folder ready to be written to."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as reason:
            raise write_failed(self.folder, reason) from reason
        if not self.runs.exists() or self.runs.stat().st_size == 0:
            append(self.runs, line_of(COLUMNS))
        elif not self.runs.read_bytes().startswith(line_of(COLUMNS)):
            raise Trouble("%s has other columns than this version writes: choose another --output" % self.runs)
        elif not self.runs.read_bytes().endswith(b"\n"):
            append(self.runs, b"\n")  # a line that was cut off: the next must not be glued to it
        self.mend_samples()

    def read(self):
        """All rows, as dictionaries with numbers as float or None."""
        if not self.runs.exists():
            raise Trouble("%s has no runs.csv: is it the folder of a former run?" % self.folder)
        rows = []
        with open(self.runs, newline="", errors="replace") as file:
            lines = csv.reader(file)
            header = next(lines, None)
            if header is None:
                return rows
            if not set(KEY) <= set(header) <= set(COLUMNS):
                raise Trouble("%s has other columns than this version writes: choose another --output" % self.runs)
            for fields in lines:
                row = row_of(header, fields)
                if row is not None:
                    rows.append(row)
                elif fields:
                    self.warn("%s, line %d is damaged: left out" % (self.runs.name, lines.line_num))
        return rows

    def add(self, row):
        append(self.runs, line_of([text_of(row.get(name)) for name in COLUMNS]))

    # ---- samples

    def add_samples(self, key, samples):
        """samples: (seconds, bytes). Those that only repeat their neighbours are left out."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        if not self.samples.exists():
            rows.writerow(SAMPLE_COLUMNS)
        for at, resident in thinned(samples):
            rows.writerow([*key, round(at * 1000), resident // 1024])
        append(self.samples, gzip.compress(text.getvalue().encode()))

    def mend_samples(self):
        """Each run is a gzip member of its own; one that was cut off is dropped, with what follows."""
        if not self.samples.exists():
            return
        data = self.samples.read_bytes()
        good = whole_members(data)
        if good < len(data):
            self.warn("%s was cut off: the last %d bytes are dropped" % (self.samples.name, len(data) - good))
            if good == 0:
                self.samples.unlink()
            else:
                os.truncate(self.samples, good)

    def read_samples(self):
        """The series by the key of their run: lists of (seconds, bytes). A later series replaces an earlier one."""
        series = {}
        if not self.samples.exists():
            return series
        data = self.samples.read_bytes()
        text = gzip.decompress(data[: whole_members(data)]).decode()
        for row in csv.DictReader(io.StringIO(text)):
            key = key_of(row)
            points = series.setdefault(key, [])
            at = int(row["milliseconds"]) / 1000
            if points and at < points[-1][0]:
                points.clear()
            points.append((at, int(row["rss_kib"]) * 1024))
        return series

    # ---- what machine.json says

    def sessions(self):
        try:
            return json.loads((self.folder / "machine.json").read_text())["sessions"]
        except (OSError, ValueError, LookupError):
            return []

    def forms_of_ace(self):
        """The names of the peers that are ACE with other options, or another build of it."""
        peers = {name: peer for session in self.sessions() for name, peer in session.get("peers", {}).items()}
        # Older files do not name the kind.
        return {name for name, peer in peers.items() if peer.get("kind", "") == "ace"
                or ("kind" not in peer and "options" in peer) or peer.get("file", "").startswith("libace")}  # fmt: skip

    # ---- loops: how much work a program of pyperformance does, the same for all peers

    def loops(self):
        try:
            return json.loads(self.loops_file.read_text()) if self.loops_file.exists() else {}
        except ValueError:
            raise Trouble("%s is damaged: choose another --output" % self.loops_file) from None

    def keep_loops(self, loops):
        write(self.loops_file, json.dumps(loops, indent=1, sort_keys=True) + "\n")


def write(path, text):
    """Writes a whole file, or leaves the former one."""
    draft = path.with_name(path.name + ".new")
    try:
        draft.write_text(text)
        draft.replace(path)
    except OSError as reason:
        raise write_failed(path, reason) from reason


def line_of(fields):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue().encode()


def text_of(value):
    if value is None:
        return ""
    return "%.6g" % value if isinstance(value, float) else str(value).replace("\n", " ")


def row_of(header, fields):
    """A row from its fields; None where it is damaged. Columns that an older version did not write are empty."""
    if len(fields) != len(header):
        return None
    row = {**dict.fromkeys(COLUMNS, ""), **dict(zip(header, fields))}
    try:
        row["round"], row["order"] = int(row["round"]), int(row["order"])
        for name in NUMBERS:
            row[name] = float(row[name]) if row[name] else None
    except ValueError:
        return None
    return row


def good_rows(rows):
    """The rows that count, by key: the last good one of each cell."""
    return {key_of(row): row for row in rows if row["status"] == "ok"}


def thinned(samples):
    kept = []
    for i, (at, resident) in enumerate(samples):
        inside = 0 < i < len(samples) - 1
        if not (inside and samples[i - 1][1] == resident == samples[i + 1][1]):
            kept.append((at, resident))
    return kept


def whole_members(data):
    """How many bytes of a gzip file are whole members."""
    good = 0
    while good < len(data):
        member = zlib.decompressobj(31)
        try:
            member.decompress(data[good:])
        except zlib.error:
            return good
        if not member.eof:
            return good
        good = len(data) - len(member.unused_data)
    return good
