"""What was seen of a run, as figures: what the library inside told at its end, and resident memory over time."""

import json

from harness.errors import Failed

# A little before the end of a rest: what follows must not be in it yet.
REST_MARGIN_SECONDS = 0.05


def reported(peer, kind, report_file):
    """What the library inside wrote at the end, if it writes anything. Raises Failed where it was not active."""
    if not peer.reports(kind):
        return {}
    lines = read_lines(report_file)
    hosts = [line for line in lines if "host" in line]
    heaps = [line for line in lines if "name" in line]
    if not hosts or not all(host["active"] for host in hosts):
        reasons = "; ".join(host["reason"] for host in hosts if host["reason"]) or "no host was entered"
        raise Failed("%s was not active: %s" % (peer.name, reasons))
    broken = [heap["audit"] for heap in heaps if heap["audit"] not in ("ok", "not audited")]
    if broken:
        raise Failed("a heap is damaged: %s" % broken[0])
    if peer.hinted and any(heap["purge_by"] != peer.purge for heap in heaps):
        raise Failed("it was not purged by %s" % peer.purge)
    if not peer.hinted and peer.kind != "ace":
        return {}
    return {
        "purges": sum(heap.get("purges", 0) for heap in heaps),
        "purge_seconds": sum(heap.get("purge_ns", 0) for heap in heaps) / 1e9,
    }


def read_lines(path):
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError):
        return []


def swell_figures(samples, marks):
    """Busy time, memory at the end of the last rest, and memory integrated over time."""
    ends = [after for (_, phase, _), (after, _, _) in zip(marks, marks[1:]) if phase == "rest"]
    resting = sum(after - at for (at, phase, _), (after, _, _) in zip(marks, marks[1:]) if phase == "rest")
    if not ends or not samples:
        raise Failed("it told of no rest")
    until = ends[-1] - REST_MARGIN_SECONDS
    rest = [resident for at, resident in samples if at <= until][-1]
    live = [live for _, phase, live in marks if phase == "rest"][-1]
    return {
        "value_seconds": samples[-1][0] - resting,
        "rss_rest": rest,
        "area": integral(samples),
        **excess(samples, marks),
        "live": live or None,
        "fragmentation": rest / live if live else None,
    }


def excess(samples, marks):
    """Byte seconds beyond what the process had before it built anything, while it rests; less than that counts as less.
    Allocators begin with more or less, so that this and how long it rested are kept as well: compare.py takes all from
    the same start."""
    before = [resident for at, resident in samples if at <= marks[0][0]]
    start = before[-1] if before else samples[0][1]
    rests = [(at, after) for (at, phase, _), (after, _, _) in zip(marks, marks[1:]) if phase == "rest"]
    beyond = sum(integral([(at, resident - start) for at, resident in samples if begin <= at <= end])
                 for begin, end in rests)  # fmt: skip
    return {"excess": beyond, "start": start, "rest_seconds": sum(end - begin for begin, end in rests)}


def heap_figures(heaps):
    """What ACE counted by itself; the sums over a process's heaps."""

    def total(name):
        return sum(heap.get(name, 0) for heap in heaps)

    return {
        "purges": total("purges"),
        "purge_seconds": total("purge_ns") / 1e9,
        "walk_seconds": (total("purge_ns") - total("purge_call_ns")) / 1e9,
        "walked_bytes": total("walked_bytes"),
        "returned_bytes": total("trimmed_bytes"),
        "rest_heap": total("resident_bytes"),
        "rest_live_pages": total("live_page_bytes"),
        "metadata": total("peak_metadata_bytes"),
        "heap_peak": total("peak_resident_bytes"),
    }


def integral(samples):
    """Byte seconds, by the trapezoidal rule."""
    return sum((later - at) * (before + after) / 2 for (at, before), (later, after) in zip(samples, samples[1:]))
