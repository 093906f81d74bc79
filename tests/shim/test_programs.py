"""Programs that others wrote, on the library: they do as they do stock."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from conftest import BUILD, HERE


def need(name, package=None):
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if path is None:
        pytest.skip("%s is not installed (apt-get install %s)" % (name, package or name))
    return path


def test_bash(shim):
    script = """
      f() { local i; for i in $(seq 300); do echo "$((i * i))"; done | sort -n | tail -1; }
      for n in 1 2 3 4 5 6; do (f) & done; wait
      declare -A a; for i in $(seq 5000); do a[$i]=$(( i % 7 )); done; echo ${#a[@]} ${a[4999]}
      x=$(printf 'y%.0s' $(seq 20000)); echo ${#x}
    """
    run = shim.same("bash", "-c", script)
    assert len(run.reports) > 6  # its subshells and its commands as well


def test_git(shim, tmp_path):
    need("git")
    script = """
      git init -q . && git config user.name N && git config user.email e@example.org
      for i in $(seq 60); do
        seq $i $((i * 50)) > file$i; git add file$i; git commit -qm "commit $i" --date=2020-01-01
      done
      git gc -q --aggressive; git fsck --full; git log --oneline | wc -l; git diff --stat HEAD~30 | tail -1
    """
    folder = tmp_path / "one"
    folder.mkdir()
    dates = {"GIT_COMMITTER_DATE": "2020-01-01T00:00:00", "HOME": str(tmp_path)}
    run = shim.run("bash", "-c", script, cwd=folder, settings=dates)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[0] == "60" and len(run.reports) > 100


def test_gcc(shim, tmp_path):
    """A large file: the core as one source. The code must be the same to the last byte."""
    subprocess.run([HERE.parents[1] / "scripts/amalgamate", tmp_path], check=True)
    command = ["g++", "-std=c++20", "-O0", "-fno-exceptions", "-pthread", "-D_GNU_SOURCE", "-S", "-o", "-", "ace.cpp"]
    run = shim.same(*command, cwd=tmp_path, timeout=120)
    assert len(run.stdout) > 100_000


PYTHON = """
import hashlib, json, threading, zlib
def work(n):
    data = json.dumps([{str(i): [i] * (i % 9)} for i in range(8000 + n)]).encode()
    results[n] = hashlib.sha1(zlib.compress(data * 3)).hexdigest()
results = [None] * 8
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
import multiprocessing
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(3) as pool: print(pool.map(len, results * 50)[-1])
print(results)
"""


def test_python(shim):
    for settings in ({}, {"PYTHONMALLOC": "malloc"}):
        shim.same("/usr/bin/python3", "-c", PYTHON, settings=settings)


def test_node(shim):
    need("node", "nodejs")
    script = """
      const { Worker, isMainThread, parentPort } = require('worker_threads'), zlib = require('zlib');
      const source = `const { parentPort } = require('worker_threads'); let m = new Map();
        for (let i = 0; i < 2e5; i++) m.set('k' + i, Buffer.alloc(i % 300)); parentPort.postMessage(m.size)`;
      let left = 3, text = 'x'.repeat(1e6);
      for (let i = 0; i < 3; i++) new Worker(source, { eval: true }).on('message', n => {
        if (--left == 0) zlib.gzip(text, (e, z) => console.log(n, z.length)); });
    """
    assert shim.same("node", "-e", script).stdout.split()[0] == "200000"


def test_sqlite(shim):
    need("sqlite3")
    script = """
      create table t(a integer primary key, b text, c blob);
      with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)
        insert into t select i, hex(i * 7919 % 10007), zeroblob(i % 500) from n;
      create index x on t(b); delete from t where a % 3 = 0; vacuum;
      select count(*), sum(length(c)), max(b) from t; select b, count(*) from t group by b order by 2 desc, 1 limit 5;
      pragma integrity_check;
    """
    assert "ok" in shim.same("sqlite3", ":memory:", script).stdout


def test_java(shim, tmp_path):
    need("java", "default-jre-headless")
    # The virtual machine itself, its collectors and its threads, and its tools' own classes.
    for collector in ("-XX:+UseSerialGC", "-XX:+UseG1GC"):
        run = shim.run("java", collector, "-Xmx64m", "--list-modules")
        assert run.returncode == 0 and "java.base" in run.stdout, run.stderr
        assert run.reports
    run = shim.run("java", "-Xint", "-Xmx64m", "-XshowSettings:all", "-version")
    assert run.returncode == 0 and "VM settings" in run.stderr


RHINO = Path("/usr/share/java/rhino.jar")


@pytest.mark.parametrize("collector", ["-XX:+UseSerialGC", "-XX:+UseG1GC"])
def test_a_program_in_java(shim, tmp_path, collector):
    """Rhino, a JavaScript in Java, as Debian has it: compiles what it is given to classes, which the JVM compiles."""
    need("java", "default-jre-headless")
    if not RHINO.exists():
        pytest.skip("rhino is not installed")
    script = tmp_path / "churn.js"
    script.write_text(
        "var kept = {}, sum = 0;\n"
        "function step(i) { kept['k' + i % 5000] = {n: i, s: 'x' + i}; sum += kept['k' + i * 7 % 5000] ? 1 : 0 }\n"
        "for (var i = 0; i < 300000; i++) step(i);\n"
        "var text = JSON.stringify(kept);\n"
        "print(Object.keys(JSON.parse(text)).length + ' ' + text.length + ' ' + sum);\n"
    )
    run = shim.same("java", collector, "-Xmx96m", "-jar", RHINO, script)
    assert run.stdout.startswith("5000 ") and run.reports


@contextlib.contextmanager
def server(shim, command, address, **options):
    """A server, ready for connections to a Unix socket."""
    process = subprocess.Popen(list(map(str, command)), env=shim.environment(), stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True, **options)  # fmt: skip
    try:
        for _ in range(400):
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(address)) == 0:
                    break
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        status = process.wait(timeout=30)
    assert status == 0


def test_redis(shim, tmp_path):
    need("redis-server")
    address = tmp_path / "socket"
    command = ["redis-server", "--port", "0", "--unixsocket", address, "--dir", tmp_path, "--save", ""]
    with server(shim, command, address):

        def ask(*words):
            return subprocess.run(["redis-cli", "-s", address, *words], capture_output=True, text=True, timeout=30)

        load = ["redis-benchmark", "-s", str(address), "-q", "-n", "6000", "-c", "20", "-d", "300", "-r", "5000", "-t",
                "set,get,lpush,lrange_100,hset,zadd,mset"]  # fmt: skip
        done = subprocess.run(load, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and "MSET" in done.stdout, done.stderr
        assert ask("eval", "local t = {} for i = 1, 1e5 do t[i] = {i} end return #t", "0").stdout.strip() == "100000"
        assert "OK" in ask("save").stdout and "started" in ask("bgrewriteaof").stdout
        assert ask("flushall").stdout.strip() == "OK"
        assert int(ask("dbsize").stdout) == 0
    assert shim.lines()


NGINX = """
%(user)s
daemon off;
worker_processes 2;
pid %(folder)s/pid;
error_log stderr warn;
events {}
http {
  access_log off;
  gzip on; gzip_min_length 1; gzip_types text/plain; default_type text/plain;
  client_body_temp_path %(folder)s/body; proxy_temp_path %(folder)s/proxy; fastcgi_temp_path %(folder)s/fastcgi;
  uwsgi_temp_path %(folder)s/uwsgi; scgi_temp_path %(folder)s/scgi;
  server { listen unix:%(folder)s/socket; root %(folder)s; }
}
"""


def test_nginx(shim, tmp_path):
    nginx = need("nginx")
    user = "user root;" if os.getuid() == 0 else ""
    (tmp_path / "text").write_text("line\n" * 50_000)
    (tmp_path / "conf").write_text(NGINX % {"folder": tmp_path, "user": user})
    address = tmp_path / "socket"
    with server(shim, [nginx, "-e", "stderr", "-c", tmp_path / "conf"], address):
        for i in range(200):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(address))
                encoding = b"Accept-Encoding: gzip\r\n" if i % 2 else b""
                client.sendall(b"GET /text HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + encoding + b"\r\n")
                answer = b"".join(iter(lambda: client.recv(65536), b""))
            assert b" 200 OK" in answer
            assert i % 2 or answer.endswith(b"line\n" * 50_000)
    assert len({line["pid"] for line in shim.lines()}) >= 3  # its master and its workers


def test_our_own_stress_test(shim):
    """ACE inside ACE: the program's copy of the core and the library's do not meet."""
    program = BUILD / "tests/stress"
    if not program.exists():
        pytest.skip("%s is not built" % program)
    run = shim.run(program, "--gtest_brief=1", "--gtest_filter=RemoteStress*:Remote*", timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
