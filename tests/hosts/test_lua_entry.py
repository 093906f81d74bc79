"""How ACE gets into stock Lua programs: those that hold their Lua themselves, and those that link a shared one."""

import pathlib
import shutil
import subprocess

import pytest

HERE = pathlib.Path(__file__).parent
COUNT = "local t = {} for i = 1, 50000 do t[i] = {i} end print(#t)"
SHARED = ("lua5.1", "lua5.3", "lua5.4", "lua5.5", "luajit")


def flags_of(package):
    """What the compiler needs for a package, or skips."""
    if subprocess.run(["pkg-config", "--exists", package]).returncode != 0:
        pytest.skip("the headers of %s are not installed" % package)
    return subprocess.check_output(["pkg-config", "--cflags", "--libs", package], text=True).split()


@pytest.fixture
def embedder(tmp_path):
    """embedder(package, *more): lua_embedder.c, linked to the shared library of the package."""

    def build(package, *more):
        program = tmp_path / "embedder"
        command = ["cc", "-O1", "-Wall", "-Werror", *more, HERE / "lua_embedder.c", "-o", program, *flags_of(package)]
        subprocess.run(command, check=True)
        return program

    return build


def test_stock_interpreter_is_entered(run, lua):
    result = run([lua, "-e", COUNT + " t = nil collectgarbage()"], env={"ACE_VERBOSE": "on"}).check_sound()
    name = pathlib.Path(lua).name
    host = result.host()
    assert (host["host"], host["states"], host["closed"], host["leaked"]) == (name, 1, 1, 0)
    heap = result.heap(name)
    assert result.stdout == "50000\n"
    assert "entered: each state that luaL_newstate makes" in result.stderr
    assert heap["peak_resident_bytes"] > 2_000_000
    assert heap["collections_full"] > 0 and heap["hints"] >= 2 * heap["collections_full"]
    assert heap["phases"]["sweep"]["entries"] > 0
    # lua_close has freed every block.
    assert heap["live_blocks"] == heap["live_bytes"] == 0


def test_more_libraries_than_are_entered(run, tmp_path):
    """What is beyond runs on with its own allocator."""
    library = next(iter(pathlib.Path("/usr/lib").glob("*/liblua5.4.so.0")), None)
    if library is None:
        pytest.skip("liblua5.4.so.0 is not installed")
    code = """
import ctypes, shutil, sys
states = []
for i in range(12):
    shutil.copy(sys.argv[1], "%s/liblua%d.so" % (sys.argv[2], i))
    lua = ctypes.CDLL("%s/liblua%d.so" % (sys.argv[2], i))
    lua.luaL_newstate.restype = ctypes.c_void_p
    states.append((lua, lua.luaL_newstate()))
assert all(state for _, state in states), states
for lua, state in states:
    lua.lua_close(ctypes.c_void_p(state))
"""
    result = run(["/usr/bin/python3", "-c", code, library.resolve(), tmp_path])
    assert result.returncode == 0, result.stderr
    (host,) = [host for host in result.hosts if host["host"] == "lua5.4"]
    assert (host["states"], host["closed"]) == (8, 8)


def test_state_that_is_never_closed_is_reported(run, lua):
    result = run([lua, "-e", COUNT + " os.exit(0)"]).check_sound()
    host = result.host()
    assert (host["states"], host["closed"]) == (1, 0)
    assert result.heap(host["host"])["live_blocks"] > 50_000


def test_a_worker_that_has_no_name_yet_is_not_the_programs(run, lua, preload, free_watch, tmp_path):
    source, slow = tmp_path / "slow.c", tmp_path / "libslow.so"
    source.write_text(
        "#define _GNU_SOURCE\n#include <pthread.h>\n#include <sys/prctl.h>\n#include <unistd.h>\n"
        "int pthread_setname_np(pthread_t thread, const char *name) {\n"
        "  (void)thread;\n  usleep(8000);\n  return prctl(PR_SET_NAME, name);\n}\n"
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", slow, source], check=True)
    code = "local t = {} for i = 1, 30000 do t[i] = {i} end t = nil collectgarbage() os.exit(0)"
    for _ in range(3):
        run([lua, "-e", code], env={"LD_PRELOAD": "%s %s %s" % (preload, free_watch, slow)}).check_sound()


def test_exit_status_and_errors_pass_through(run, lua):
    assert run([lua, "-e", "os.exit(7)"]).returncode == 7
    failed = run([lua, "-e", "error('on purpose')"])
    assert failed.returncode == 1 and "on purpose" in failed.stderr


def test_child_processes_are_entered_too(run, lua):
    child = "io.popen('%s -e \"print(42)\"'):read('*a')" % lua
    result = run([lua, "-e", "io.write(%s)" % child]).check_sound()
    assert result.stdout == "42\n"
    assert len({host["pid"] for host in result.hosts}) == 2


def test_other_programs_are_left_alone(run):
    result = run(["/bin/sh", "-c", "echo hello"], env={"ACE_VERBOSE": "on"})
    assert (result.returncode, result.stdout, result.hosts, result.heaps) == (0, "hello\n", [], [])


def test_limit_of_the_environment(run, lua):
    code = (
        "local ok, why = pcall(function() hoard = {} for i = 1, 1e8 do hoard[i] = {i} end end) "
        "hoard = nil collectgarbage() print(ok, why) local t = {} for i = 1, 1000 do t[i] = {i} end print(#t)"
    )
    result = run([lua, "-e", code], env={"ACE_LIMIT": "8m"}).check_sound()
    assert result.stdout == "false\tnot enough memory\n1000\n"
    heap = result.heap(result.host()["host"])
    assert heap["limit_failures"] > 0 and heap["peak_resident_bytes"] <= 8 << 20


def test_kinds(run, lua):
    code = "t = {} for i = 1, 20000 do t[i] = {{tostring(i)}, function() return i end} end print(#t) os.exit(0)"
    result = run([lua, "-e", code], env={"ACE_KINDS": "on"}).check_sound()
    rest, strings, tables, others = (kind["live_blocks"] for kind in result.heap(result.host()["host"])["kinds"])
    if pathlib.Path(lua).name in ("luajit", "lua5.1"):  # they do not tell
        assert strings == tables == others == 0 and rest > 40_000
    else:
        assert min(strings, others) >= 20_000 and tables >= 40_000 > strings and rest > 0


@pytest.mark.parametrize("package", SHARED)
def test_program_with_a_shared_lua_is_entered(run, embedder, package):
    result = run([embedder(package)]).check_sound()
    assert result.stdout == "panic set: yes\n50000\n"
    host = result.host()
    assert (host["host"], host["states"], host["closed"], host["leaked"]) == (package, 1, 1, 0)
    assert result.heap(package)["peak_resident_bytes"] > 2_000_000


@pytest.mark.parametrize("package", SHARED)
def test_own_allocator_is_left_alone(run, embedder, package):
    program = embedder(package, "-DOWN_ALLOCATOR")
    result = run([program])
    assert result.returncode == 0 and result.stdout == run([program], stock=True).stdout
    assert "own allocator: used throughout" in result.stdout
    assert [host["active"] for host in result.hosts] == [False] and result.heaps == []
    assert "default allocator" in result.host()["reason"]


@pytest.mark.parametrize("package", SHARED)
def test_shared_lua_that_is_loaded_later(run, embedder, package):
    """A plugin brings the Lua: it is not there when ACE looks at the process."""
    library = {"luajit": "libluajit-5.1.so.2"}.get(package, "lib%s.so.0" % package)
    program = embedder(package, "-DLOADED_LATER", '-DLIBRARY="%s"' % library, "-Wl,--as-needed")
    result = run([program], env={"ACE_LIMIT": "8m"})
    assert result.returncode == 0, result
    # Only ACE can know this limit.
    assert result.stdout == "not enough memory\n"
    assert result.host()["active"]


def test_children_find_no_lock_taken(run, embedder):
    """Forked while other threads make and close states."""
    result = run([embedder("lua5.4", "-DFORKS", "-pthread", "-rdynamic")])
    assert (result.returncode, result.stdout) == (0, "all children ended\n"), result


def test_two_luas_in_one_process(run, tmp_path):
    source, program = tmp_path / "two.c", tmp_path / "two"
    source.write_text(
        """
        #include <dlfcn.h>
        #include <stdio.h>
        static void use(const char *library) {
          void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
          void *(*make)(void) = (void *(*)(void))dlsym(handle, "luaL_newstate");
          void (*open)(void *) = (void (*)(void *))dlsym(handle, "luaL_openlibs");
          int (*load)(void *, const char *) = (int (*)(void *, const char *))dlsym(handle, "luaL_loadstring");
          void (*settop)(void *, int) = (void (*)(void *, int))dlsym(handle, "lua_settop");
          void (*end)(void *) = (void (*)(void *))dlsym(handle, "lua_close");
          int (*gc)(void *, int, int) = (int (*)(void *, int, int))dlsym(handle, "lua_gc");
          void *state = make();
          open(state);
          for (int i = 0; i < 20000; ++i) {
            char text[40];
            sprintf(text, "return %d, 'text %d'", i, i);
            load(state, text);
            settop(state, 0);
          }
          gc(state, 2, 0);
          gc(state, 2, 0);
          end(state);
        }
        int main(void) {
          use("libluajit-5.1.so.2");
          use("liblua5.4.so.0");
          use("libluajit-5.1.so.2");
          return 0;
        }
        """
    )
    subprocess.run(["cc", "-Wall", "-Werror", source, "-o", program, "-ldl"], check=True)
    result = run([program])
    assert result.returncode == 0, result
    assert [heap["name"] for heap in result.heaps] == ["luajit", "lua5.4", "luajit"]
    assert all(heap["audit"] == "ok" and heap["live_blocks"] == 0 for heap in result.heaps), result.heaps
    assert all(heap["collections_full"] >= 2 for heap in result.heaps), result.heaps


def test_interpreter_without_its_api_is_refused(run, tmp_path):
    """Named as a Lua, but it shows none: it runs on, and the reason is told."""
    program = tmp_path / "lua5.4"
    shutil.copy("/bin/echo", program)
    result = run([program, "hello"], env={"ACE_VERBOSE": "on"})
    assert (result.returncode, result.stdout) == (0, "hello\n")
    assert "not entered: the program shows no luaL_newstate" in result.stderr
    assert result.host()["active"] is False and "luaL_newstate" in result.host()["reason"]
    compiler = program.rename(tmp_path / "luac5.4")
    assert run([compiler, "hello"]).hosts == [], "it runs nothing"


def test_without_a_report_there_is_no_file(run, lua, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    assert run([lua, "-e", "x = {}"], env={"ACE_REPORT": "none"}, cwd=folder).returncode == 0
    assert list(folder.iterdir()) == []


def test_states_of_threads_that_a_fork_leaves_behind(run, tmp_path):
    """The child has them in the middle of something: they are no damage."""
    source, program = tmp_path / "forks.c", tmp_path / "forks"
    source.write_text(
        """
        #include <lua.h>
        #include <lauxlib.h>
        #include <lualib.h>
        #include <pthread.h>
        #include <stdlib.h>
        #include <sys/wait.h>
        #include <unistd.h>
        static volatile int stop;
        static void *work(void *unused) {
          lua_State *L = luaL_newstate();
          luaL_openlibs(L);
          while (!stop) luaL_dostring(L, "local t = {} for i = 1, 20000 do t[i] = {i, ('x'):rep(i % 3000)} end");
          lua_close(L);
          return unused;
        }
        int main(void) {
          pthread_t threads[3];
          for (int i = 0; i < 3; ++i) pthread_create(&threads[i], NULL, work, NULL);
          for (int i = 0; i < 20; ++i) {
            usleep(3000);
            pid_t child = fork();
            if (child == 0) exit(0);
            int status;
            waitpid(child, &status, 0);
            if (status != 0) return 1;
          }
          stop = 1;
          for (int i = 0; i < 3; ++i) pthread_join(threads[i], NULL);
          return 0;
        }
        """
    )
    subprocess.run(["cc", "-O1", source, "-o", program, *flags_of("lua5.4"), "-lpthread"], check=True)
    result = run([program])
    assert result.returncode == 0 and len(result.hosts) == 21, result
    assert {heap.get("audit", "ok") for heap in result.heaps} == {"ok"}


def test_a_cancelled_thread_forks_and_closes(run, tmp_path):
    """Neither is a point where it ends: it would keep locks, or leave a state half closed."""
    source, program = tmp_path / "cancelled.c", tmp_path / "cancelled"
    source.write_text(
        """
        #include <lua.h>
        #include <lauxlib.h>
        #include <pthread.h>
        #include <stdlib.h>
        #include <sys/wait.h>
        #include <unistd.h>
        static int steps;
        static void *work(void *L) {
          pthread_cancel(pthread_self());
          pid_t child = fork();
          if (child == 0) _exit(0);
          ++steps;
          lua_close(L);
          ++steps;
          pthread_testcancel();
          return NULL;
        }
        int main(void) {
          alarm(20);
          lua_State *kept = luaL_newstate();
          pthread_t thread;
          pthread_create(&thread, NULL, work, luaL_newstate());
          pthread_join(thread, NULL);
          lua_close(luaL_newstate());
          lua_close(kept);
          return steps != 2;
        }
        """
    )
    subprocess.run(["cc", "-O1", source, "-o", program, *flags_of("lua5.4"), "-lpthread"], check=True)
    assert run([program]).returncode == 0


@pytest.mark.parametrize("page", ["off", "on"])
def test_a_main_thread_that_ends_alone(run, tmp_path, page):
    """With the last of the program's threads the process ends, whatever ACE's own do."""
    source, program = tmp_path / "ends.c", tmp_path / "ends"
    source.write_text(
        """
        #include <lua.h>
        #include <lauxlib.h>
        #include <lualib.h>
        #include <pthread.h>
        int main(void) {
          lua_State *L = luaL_newstate();
          luaL_openlibs(L);
          luaL_dostring(L, "local t = {} for i = 1, 200000 do t[i] = {i} end t = nil collectgarbage()");
          pthread_exit(NULL);
        }
        """
    )
    subprocess.run(["cc", "-O1", source, "-o", program, *flags_of("lua5.4"), "-lpthread"], check=True)
    assert run([program], env={"ACE_STATS_PAGE": page}).returncode == 0
