"""What the services do for a request: the same in all of them.

small   builds the answer to a usual request: some records, as JSON
large   parses an upload of a few megabytes, adds it up by groups, and answers with the sums; one record in 500 stays in
        a cache of bounded size, as sessions and results do
heap    tells how much the process's heaps hold beyond what is live, where it lives on ACE
"""

import json
import os
from collections import OrderedDict

WORDS = "amber birch cedar delta ember fjord grove heron inlet joule knoll lemur maple north ocean prism".split()
CACHE_MAX = 2000
UPLOAD_RECORDS = 30_000

_cache = OrderedDict()


def small(number):
    rows = [
        {"id": number * 100 + i, "name": "%s %d" % (WORDS[(number + i) % 16], i), "tags": WORDS[i % 13 : i % 13 + 3]}
        for i in range(100)
    ]
    return json.dumps({"page": number, "rows": rows})


def upload(number):
    """The text of an upload; made by the service itself, so that the client stays light."""
    record = '{"id": %d, "group": "%s", "value": %d.5, "note": "%s %d"}'
    return "[%s]" % ", ".join(
        record % (number * UPLOAD_RECORDS + i, WORDS[i * 7 % 16], i % 1000, WORDS[i % 16], number + i)
        for i in range(UPLOAD_RECORDS)
    )


def large(number):
    sums = {}
    for i, record in enumerate(json.loads(upload(number))):
        entry = sums.setdefault(record["group"], {"count": 0, "sum": 0.0, "ids": []})
        entry["count"] += 1
        entry["sum"] += record["value"]
        entry["ids"].append(record["id"])
        if i % 500 == 0:
            _cache[record["id"]] = record
            while len(_cache) > CACHE_MAX:
                _cache.popitem(last=False)
    return json.dumps({group: [entry["count"], entry["sum"], max(entry["ids"])] for group, entry in sums.items()})


def heap(number):
    try:
        import _ace
    except ImportError:
        return "{}"
    heaps = [heap for heap in _ace.stats().values() if heap.get("live_bytes")]
    if not heaps:
        return "{}"  # on another allocator that hears of collections by ACE's hook
    held = sum(heap["resident_bytes"] + heap["metadata_bytes"] - heap["live_bytes"] for heap in heaps)
    return json.dumps({"pid": os.getpid(), "held": held})


REQUESTS = {"small": small, "large": large, "heap": heap}
