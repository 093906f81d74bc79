"""nginx on ACE: a server whose module brings LuaJIT, in workers that were forked, against the same server stock.

Debian's libnginx-mod-http-lua needs a LuaJIT that cannot be installed beside the one which other tests need. It can
be unpacked beside it, and the environment variable ACE_NGINX_LUA says where:

    apt-get download libnginx-mod-http-lua libnginx-mod-http-ndk lua-resty-core lua-resty-lrucache libluajit2-5.1-2
    for package in *.deb; do dpkg -x "$package" DIR; done
"""

import concurrent.futures
import os
import pathlib
import shutil
import socket

import pytest

ROOT = pathlib.Path(os.environ.get("ACE_NGINX_LUA", "/"))
MODULES = [ROOT / "usr/lib/nginx/modules" / name for name in ("ndk_http_module.so", "ngx_http_lua_module.so")]
WORKERS = 2
# Each request waits once, so that requests of one worker are under way together.
CONFIGURATION = """
load_module %(ndk)s;
load_module %(lua)s;
%(user)s
daemon off;
worker_processes %(workers)d;
pid %(folder)s/pid;
error_log stderr warn;
events {}
http {
  access_log off;
  lua_package_path "%(packages)s/?.lua;;";
  client_body_temp_path %(folder)s/body;
  proxy_temp_path %(folder)s/proxy;
  fastcgi_temp_path %(folder)s/fastcgi;
  uwsgi_temp_path %(folder)s/uwsgi;
  scgi_temp_path %(folder)s/scgi;
  server {
    listen unix:%(folder)s/socket;
    location /sort {
      content_by_lua_block {
        local t, n = {}, tonumber(ngx.var.arg_n)
        for i = 1, 20000 do t[i] = {n = (i * 7919 + n) %% 10007} end
        ngx.sleep(0.001)
        table.sort(t, function(a, b) return a.n < b.n end)
        ngx.say(#t, " ", t[1].n, " ", t[10000].n, " ", t[20000].n)
      }
    }
    location /text {
      content_by_lua_block {
        local t, n = {}, tonumber(ngx.var.arg_n)
        for i = 1, 5000 do t[i] = string.format("%%d: %%s", i * n, ("x"):rep(i %% 7)) end
        ngx.sleep(0.001)
        ngx.say(ngx.md5(table.concat(t, ",")))
      }
    }
    location /error { content_by_lua_block { error("on purpose") } }
  }
}
"""


def get(path, target):
    """Status and body of a page."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(path))
        connection.sendall(b"GET %s HTTP/1.0\r\n\r\n" % target.encode())
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    head, body = answer.split(b"\r\n\r\n", 1)
    return head.split()[1], body


def answers_under_load(path):
    """What 120 requests answer, 8 of them at a time."""
    targets = ["/%s?n=%d" % (page, n) for n in range(40) for page in ("sort", "text", "error")]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda target: get(path, target), targets))


def test_nginx(serve, tmp_path):
    program = shutil.which("nginx") or shutil.which("nginx", path=ROOT / "usr/sbin")
    if program is None:
        pytest.skip("nginx is missing: apt-get install nginx")
    if not all(module.exists() for module in MODULES):
        pytest.skip("libnginx-mod-http-lua is missing, and conflicts with Debian's luajit: see test_lua_nginx.py")
    names = dict(zip(("ndk", "lua"), MODULES), packages=ROOT / "usr/share/lua/5.1", workers=WORKERS)
    names.update(folder=tmp_path, user="user root;" if os.geteuid() == 0 else "")
    configuration, path = tmp_path / "nginx.conf", tmp_path / "socket"
    configuration.write_text(CONFIGURATION % names)
    # The module finds its LuaJIT there.
    libraries = {"LD_LIBRARY_PATH": str(ROOT / "usr/lib/x86_64-linux-gnu")} if ROOT != pathlib.Path("/") else {}
    command = [program, "-p", str(tmp_path), "-c", str(configuration)]

    with serve(command, path, stock=True, env=libraries):
        stock = answers_under_load(path)
    with serve(command, path, env=libraries) as server:
        assert answers_under_load(path) == stock
    assert stock[0] == (b"200", b"20000 0 5003 10006\n") and stock[2][0] == b"500"
    assert [status for status, _ in stock].count(b"200") == 80

    # The state is made before the workers are forked, and each of them ends its own.
    assert len(server.hosts) == WORKERS + 1 and all(host["host"] == "luajit" for host in server.hosts), server.hosts
    assert all(host["active"] and host["states"] == host["closed"] == 1 for host in server.hosts)
    assert all(host["foreign"] == host["leaked"] == 0 for host in server.hosts)
    assert {heap["pid"] for heap in server.heaps} == {host["pid"] for host in server.hosts}
    assert all(heap["audit"] == "ok" and heap["live_blocks"] == 0 for heap in server.heaps), server.heaps
    assert max(heap["peak_resident_bytes"] for heap in server.heaps) > 3_000_000, "the tables were there"
    assert sum(heap["collections_full"] for heap in server.heaps) > 5, "and their states were heard to collect"
