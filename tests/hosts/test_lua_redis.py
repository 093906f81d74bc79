"""redis-server on ACE: a server that holds its Lua itself, under load, against the same server stock."""

import shutil
import socket
import subprocess

import pytest

# Each takes one key and one argument.
SCRIPTS = (
    "local t = {} for i = 1, 3000 do t[i] = {n = (i * 7919 + ARGV[1]) % 10007} end"
    " table.sort(t, function(a, b) return a.n < b.n end) return {t[1].n, t[3000].n, #t}",
    "local t = {} for i = 1, 2000 do t[i] = string.format('%05d:%s', i, string.rep(ARGV[1], i % 7)) end"
    " return redis.sha1hex(table.concat(t, ','))",
    "redis.call('DEL', KEYS[1]) for i = 1, 200 do redis.call('RPUSH', KEYS[1], ARGV[1] * i) end"
    " return redis.call('LRANGE', KEYS[1], 50, 60)",
    "local t = {} for i = 1, 300 do t[i] = {i, ARGV[1], {i * 2}} end"
    " local back = cjson.decode(cjson.encode(t)) return back[300][2] .. back[7][3][1]",
    "return redis.sha1hex(cmsgpack.pack({ARGV[1], 1, 2.5, {true, false}}))",
    "local f = function(n, f) return n == 0 and error('on purpose ' .. ARGV[1]) or f(n - 1, f) end return f(50, f)",
    "return redis.error_reply('REFUSED ' .. ARGV[1])",
)
LIBRARY = """#!lua name=counted
local calls = 0
redis.register_function('sum', function(keys, args)
  calls = calls + 1
  local t = {}
  for i = 1, 1000 do t[i] = {value = args[1] * i} end
  local sum = 0
  for _, row in ipairs(t) do sum = sum + row.value end
  return {calls, sum}
end)
"""
LARGE = "local t = {} for i = 1, 100000 do t[i] = {i} end return #t"


class Client:
    """Speaks to the server, in its protocol."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.answers = self.socket.makefile("rb")

    def call(self, *words):
        """Its answer: an int, bytes, a list, None, or an error as ("error", text)."""
        words = [str(word).encode() for word in words]
        request = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        self.socket.sendall(request)
        return self.read()

    def read(self):
        line = self.answers.readline()
        kind, text = line[:1], line[1:-2]
        if kind == b"+":
            return text
        if kind == b"-":
            return "error", text.decode()
        if kind == b":":
            return int(text)
        assert kind in (b"$", b"*"), line
        length = int(text)
        if length < 0:
            return None
        return self.answers.read(length + 2)[:-2] if kind == b"$" else [self.read() for _ in range(length)]


def answers_under_load(path):
    """What every script answers, while other clients build tables all the time."""
    load = ["redis-benchmark", "-s", path, "-n", 4000, "-c", 10, "-q", "EVAL", LARGE.replace("100000", "300"), 0]
    others = subprocess.Popen(list(map(str, load)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    client = Client(path)
    answers = [client.call("FUNCTION", "LOAD", LIBRARY)]
    for n in range(40):
        for script in SCRIPTS:
            answers.append(client.call("EVAL", script, 1, "key", n))
        answers.append(client.call("FCALL", "sum", 0, n))
    digest = client.call("SCRIPT", "LOAD", SCRIPTS[0])
    answers.append(client.call("EVALSHA", digest.decode(), 1, "key", 3))
    answers.append(client.call("EVAL", LARGE, 0))
    output = others.communicate(timeout=120)[0]
    assert others.returncode == 0 and "requests per second" in output, output
    # The state of the scripts ends, maybe in another thread; and in the server's own.
    answers.append([client.call("SCRIPT", "FLUSH", how) for how in ("ASYNC", "SYNC")])
    answers.append(client.call("EVAL", SCRIPTS[0], 1, "key", 5))
    return answers


def test_redis(serve, tmp_path):
    program = shutil.which("redis-server")
    if program is None or shutil.which("redis-benchmark") is None:
        pytest.skip("redis is missing: apt-get install redis-server")

    def command(path):
        return [program, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(tmp_path)]

    path = tmp_path / "stock"
    with serve(command(path), path, stock=True):
        stock = answers_under_load(path)
    path = tmp_path / "ace"
    with serve(command(path), path) as server:
        assert answers_under_load(path) == stock
    assert stock[:2] == [b"counted", [7, 10006, 3000]] and stock[-3:-1] == [100000, [b"OK", b"OK"]]

    (host,) = [host for host in server.hosts if host["active"]]
    assert host["host"] == "lua5.1" and host["foreign"] == host["leaked"] == 0
    # One for scripts and one for functions at first, and one in the place of each that was flushed.
    assert host["states"] == 4 and host["closed"] in (1, 2)
    ended = [heap for heap in server.heaps if "audit" in heap]
    assert len(ended) == host["closed"]
    assert all(heap["audit"] == "ok" and heap["live_blocks"] == 0 for heap in ended), ended
    assert max(heap["peak_resident_bytes"] for heap in server.heaps) > 5_000_000, "the large table was there"
    assert max(heap["collections_full"] for heap in server.heaps) > 10, "and its state was heard to collect"
