"""Embedding Lua with ace_lua.h: by the headers of each Lua, as C99 and as C++, and the example host."""

import os
import pathlib
import subprocess

import pytest

from conftest import BUILD, REPOSITORY

HERE = pathlib.Path(__file__).parent
PACKAGES = ("luajit", "lua5.1", "lua5.3", "lua5.4", "lua5.5")
ARCHIVES = [BUILD / "bindings" / "lua" / "libace-lua.a", BUILD / "src" / "libace.a"]


@pytest.fixture(params=PACKAGES)
def package(request):
    if subprocess.run(["pkg-config", "--exists", request.param]).returncode != 0:
        pytest.skip("the headers of %s are not installed" % request.param)
    return request.param


def build(compiler, source, program, package, *more, more_libraries=()):
    """Compiles a host of this package's Lua with every warning, and links ACE's archives."""
    flags = subprocess.check_output(["pkg-config", "--cflags", "--libs", package], text=True).split()
    own = ["-I%s" % (REPOSITORY / "include"), "-I%s" % (REPOSITORY / "bindings" / "lua")]
    warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    libraries = [*ARCHIVES, *flags, *more_libraries, "-lm", "-ldl", "-lpthread"]
    command = [*compiler, "-O1", "-g", *warnings, *own, *more, source, "-o", program, *libraries]
    subprocess.run(list(map(str, command)), check=True)
    return program


def clean_environment():
    return {k: v for k, v in os.environ.items() if not k.startswith(("ACE_", "LD_"))}


def execute(*command, **settings):
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, env=dict(clean_environment(), **settings)
    )


def test_embedding(package, tmp_path):
    is_luajit = ["-DLUAJIT"] if package == "luajit" else []
    host = build(["cc", "-std=c99"], HERE / "lua_embed.c", tmp_path / "host", package, *is_luajit)
    # On hardened heaps the blocks of 5.1 do not fit its limits, and 5.3 has no room for a finalizer below them.
    for settings in [{}] + [{"ACE_HARDENED": "on"}] * (package in ("luajit", "lua5.4")):
        result = execute(host, **settings)
        assert (result.returncode, result.stdout, result.stderr) == (0, "all holds\n", ""), settings


def test_header_is_cpp(package, tmp_path):
    source = tmp_path / "host.cpp"
    source.write_text(
        """
        extern "C" {
        #include <lua.h>
        #include <lauxlib.h>
        #include <lualib.h>
        }
        #include "ace_lua.h"
        int main() {
          ace_lua_options options = ACE_LUA_OPTIONS;
          options.limit = 64 << 20;
          lua_State *L = ace_lua_newstate(&options);
          if (L == nullptr || ace_lua_heap(L) == nullptr) return 1;
          luaL_openlibs(L);
          lua_gc(L, LUA_GCCOLLECT, 0);
          ace_lua_close(L);
          return 0;
        }
        """
    )
    assert execute(build(["c++", "-std=c++17"], source, tmp_path / "host", package)).returncode == 0


def test_embedding_beside_luajit(package, tmp_path):
    """A process may hold both: LuaJIT's functions are for its states alone."""
    source = tmp_path / "host.c"
    source.write_text(
        """
        #include <lua.h>
        #include <lauxlib.h>
        #include <lualib.h>
        #include "ace_lua.h"
        int main(int argc, char **argv) {
          (void)argv;
          lua_State *L = ace_lua_newstate(NULL);
          if (L == NULL) return 1;
          luaL_openlibs(L);
          if (luaL_dostring(L, "for i = 1, 1e5 do local t = {i} end") != 0) return 2;
          ace_lua_close(L);
          return (ace_lua_host_api().setmode != NULL) == (argc > 1) ? 0 : 3;
        }
        """
    )
    beside = ["-Wl,--no-as-needed", "-l:libluajit-5.1.so.2"] if package != "luajit" else []
    host = build(["cc", "-std=c99"], source, tmp_path / "host", package, more_libraries=beside)
    result = execute(host, *["is one"] * (package == "luajit"))
    assert result.returncode == 0, result


def test_example_host(package, tmp_path):
    host = build(["cc", "-std=c11"], REPOSITORY / "examples" / "luajit_host.c", tmp_path / "host", package)
    result = execute(host, "8")
    assert result.returncode == 0, result
    assert "works: built 20000 records" in result.stdout and "churns: last was 2000000" in result.stdout
    assert "this is never printed" not in result.stdout
    assert "stopped: not enough memory" in result.stdout
    hoards = result.stdout.split("hoards\n")[1].splitlines()
    assert hoards[0].split()[:3] == ["after", "the", "script"] and hoards[-1].split()[0] == "recovered"
    live = [float(line.split("live")[1].split()[0]) for line in (hoards[0], hoards[-1])]
    peak = float(hoards[-1].split("peak")[1].split()[0])
    assert live[0] > 5 and live[1] < 1 and peak <= 9


def test_example_host_runs_files(package, tmp_path):
    host = build(["cc", "-std=c11"], REPOSITORY / "examples" / "luajit_host.c", tmp_path / "host", package)
    script = tmp_path / "script.lua"
    script.write_text("print('from a file', 6 * 7)")
    result = execute(host, script)
    assert result.returncode == 0 and "from a file\t42" in result.stdout
    absent = execute(host, tmp_path / "absent.lua")
    assert absent.returncode == 1 and "absent.lua" in absent.stdout
    for wrong in ("0", "-3", "nan"):
        refused = execute(host, wrong)
        assert refused.returncode == 2 and "usage:" in refused.stderr


def test_wrapped_host(package, tmp_path):
    """examples/lua_wrap.c puts a static, stripped program on ACE that knows nothing of it."""
    wrap = ["-Wl,--wrap=luaL_newstate", "-static", "-s", REPOSITORY / "examples" / "lua_wrap.c"]
    host = build(["cc", "-std=c99"], HERE / "lua_embedder.c", tmp_path / "host", package, *wrap)
    assert "not a dynamic executable" in subprocess.run(["ldd", host], capture_output=True, text=True).stderr
    command = [str(host)]
    free = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
    assert (free.returncode, free.stdout, free.stderr) == (0, "panic set: yes\n50000\n", "")
    limited = subprocess.run(
        command, capture_output=True, text=True, env={**clean_environment(), "APP_LUA_LIMIT": "2000000"}
    )
    assert (limited.returncode, limited.stdout) == (1, "panic set: yes\n")
